//! The link between the nodes of a simulated world: a question is served in the runtime of the node
//! that is asked, so that it dies with that node and sleeps when it sleeps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use zajil_cluster::link::{Call, DEAD_AFTER, Fate, Incoming, Link, LinkError, Reply, Serve};
use zajil_model::lease::NodeId;

use crate::rare::{Rare, Reached};
use crate::wire::{End, Lateness, Wire};

/// Where a process of a node is found.
#[derive(Clone, Debug)]
struct Home {
    process: u32,
    handle: Handle,
    serve: Arc<dyn Serve>,
}

/// The processes that listen; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wire: Wire,
    reached: Arc<Reached>,
    homes: Mutex<BTreeMap<NodeId, Home>>,
}

impl Network {
    pub(crate) fn new(wire: Wire, reached: Arc<Reached>) -> Self {
        let homes = Mutex::default();
        Self(Arc::new(Inner {
            wire,
            reached,
            homes,
        }))
    }

    /// A process listens under the name of a node, and answers its end of the link.
    pub(crate) fn join(
        &self,
        node: NodeId,
        process: u32,
        handle: Handle,
        serve: Arc<dyn Serve>,
    ) -> SimLink {
        let home = Home {
            process,
            handle,
            serve,
        };
        self.0.homes.lock().insert(node, home);
        let network = self.clone();
        SimLink {
            network,
            node,
            process,
        }
    }

    /// Nobody listens under that name any more.
    pub(crate) fn leave(&self, node: NodeId, process: u32) {
        let mut homes = self.0.homes.lock();
        if homes.get(&node).is_some_and(|home| home.process == process) {
            homes.remove(&node);
        }
    }

    fn home(&self, node: NodeId) -> Option<Home> {
        self.0.homes.lock().get(&node).cloned()
    }

    fn lives(&self, node: NodeId, process: u32) -> bool {
        self.home(node).is_some_and(|home| home.process == process)
    }
}

/// One process's end of the link.
#[derive(Clone, Debug)]
pub(crate) struct SimLink {
    network: Network,
    node: NodeId,
    process: u32,
}

#[async_trait]
impl Link for SimLink {
    async fn call(&self, to: NodeId, call: Call) -> Result<Bytes, LinkError> {
        let (method, deadline) = (call.method, call.deadline);
        let (answer, _given_up) = self.send(to, call)?;
        let unknown = |reason: &str| LinkError::Unreachable {
            node: to,
            reason: reason.to_owned(),
            fate: Fate::Unknown,
        };
        // A link over which nothing comes for a while is dead.
        let patience = deadline.min(DEAD_AFTER);
        match timeout(patience, answer).await {
            Err(_) if deadline <= DEAD_AFTER => Err(LinkError::Expired {
                fate: Fate::Unknown,
            }),
            Err(_) => Err(unknown("nothing is heard from it")),
            Ok(Err(_)) => Err(unknown("the connection ended")),
            Ok(Ok(reply)) => match reply {
                Reply::Ok(body) => Ok(body),
                Reply::NotOwner { owner, epoch } => Err(LinkError::NotOwner { owner, epoch }),
                Reply::Moving { retry_after } => Err(LinkError::Moving { retry_after }),
                Reply::Overloaded => Err(LinkError::Overloaded),
                Reply::Unsupported => Err(LinkError::Unsupported { method }),
                Reply::Failed(why) => Err(LinkError::Failed(why)),
            },
        }
    }

    async fn cast(&self, to: NodeId, call: Call) -> Result<(), LinkError> {
        let (_, given_up) = self.send(to, call)?;
        given_up.disarm();
        Ok(())
    }
}

impl SimLink {
    /// Sends a question on its way. Dropping the guard tells the other node to stop.
    fn send(
        &self,
        to: NodeId,
        call: Call,
    ) -> Result<(oneshot::Receiver<Reply>, DropGuard), LinkError> {
        if self.network.home(to).is_none() {
            return Err(LinkError::Unreachable {
                node: to,
                reason: "connection refused".to_owned(),
                fate: Fate::NotSent,
            });
        }
        let (answer, answered) = oneshot::channel();
        let given_up = CancellationToken::new();
        let question = Question {
            link: self.clone(),
            to,
            given_up: given_up.clone(),
        };
        let way = (End::Node(self.node), End::Node(to));
        let wire = &self.network.0.wire;
        wire.send(way, Lateness::Seldom, move || {
            question.arrives(call, answer)
        });
        Ok((answered, given_up.drop_guard()))
    }
}

/// A question on its way.
#[derive(Debug)]
struct Question {
    link: SimLink,
    to: NodeId,
    given_up: CancellationToken,
}

impl Question {
    fn arrives(self, call: Call, answer: oneshot::Sender<Reply>) {
        let network = self.link.network.clone();
        let Some(home) = network.home(self.to) else {
            return;
        };
        if !network.lives(self.link.node, self.link.process) {
            network.0.reached.note(Rare::LateQuestion);
        }
        let handle = home.handle.clone();
        handle.spawn(self.serve(home, call, answer));
    }

    async fn serve(self, home: Home, call: Call, answer: oneshot::Sender<Reply>) {
        let (from, to) = (self.link.node, self.to);
        let incoming = Incoming {
            shard: call.header.shard,
            epoch: call.header.epoch,
            method: call.method,
            body: call.body,
            deadline: call.deadline,
        };
        let served = timeout(call.deadline, home.serve.serve(from, incoming));
        let reply = tokio::select! {
            biased;
            () = self.hears_to_stop() => return,
            reply = served => reply,
        };
        let Ok(reply) = reply else { return };
        let network = &self.link.network.0;
        if matches!(reply, Reply::NotOwner { .. }) {
            network.reached.note(Rare::AskedTheWrongOwner);
        }
        let way = (End::Node(to), End::Node(from));
        // Who asked may have gone.
        let arrives = move || drop(answer.send(reply));
        network.wire.send(way, Lateness::Seldom, arrives);
    }

    /// Who asked gave up, and the word of that came here.
    async fn hears_to_stop(&self) {
        /// About what the word of it takes.
        const TRAVELS: Duration = Duration::from_millis(5);
        self.given_up.cancelled().await;
        tokio::time::sleep(TRAVELS).await;
        if self
            .link
            .network
            .0
            .wire
            .is_cut(End::Node(self.link.node), End::Node(self.to))
        {
            std::future::pending::<()>().await;
        }
    }
}
