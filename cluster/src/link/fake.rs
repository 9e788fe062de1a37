//! A link without a network: all nodes live in one process, and the weather between them is made
//! up by a seed and by the test.
//!
//! Time is tokio's, so a test that pauses it runs as fast as it computes. What a real network does
//! to callers is kept: a lost request and a lost reply look the same, a cut link shows after
//! [`DEAD_AFTER`], a call may be served after its caller gave up, and a node that crashes takes
//! what it served with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use zajil_model::lease::NodeId;

use super::{Call, DEAD_AFTER, Fate, Link, LinkError, Reply, Serve};

/// What happens to what is on its way, when the test has not cut it.
#[derive(Clone, Debug, PartialEq)]
pub struct Weather {
    /// How long one way takes.
    pub delay: RangeInclusive<Duration>,
    /// How likely a request is lost before it is served.
    pub request_loss: f64,
    /// How likely a reply is lost after its request was served.
    pub reply_loss: f64,
}

impl Default for Weather {
    /// Fair: a millisecond each way (the least that a timer tells apart), nothing lost.
    fn default() -> Self {
        let delay = Duration::from_millis(1);
        Self {
            delay: delay..=delay,
            request_loss: 0.0,
            reply_loss: 0.0,
        }
    }
}

/// The nodes of a process and what is between them. Clones are the same network.
#[derive(Clone, Debug)]
pub struct FakeNetwork(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct State {
    random: SmallRng,
    weather: Weather,
    nodes: BTreeMap<NodeId, Home>,
    cut: BTreeSet<(NodeId, NodeId)>,
}

/// One life of a node.
#[derive(Clone, Debug)]
struct Home {
    serve: Arc<dyn Serve>,
    life: CancellationToken,
    paused: watch::Sender<bool>,
}

impl FakeNetwork {
    /// A network without nodes and in fair weather; the seed decides delays and losses.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                random: SmallRng::seed_from_u64(seed),
                weather: Weather::default(),
                nodes: BTreeMap::new(),
                cut: BTreeSet::new(),
            }),
            tasks: TaskTracker::new(),
        }))
    }

    /// Begins a life of a node, which ends the one that it had, and answers its end of the link.
    pub fn join(&self, node: NodeId, serve: Arc<dyn Serve>) -> FakeLink {
        let home = Home {
            serve,
            life: CancellationToken::new(),
            paused: watch::Sender::new(false),
        };
        self.crash(node);
        self.0.state.lock().nodes.insert(node, home.clone());
        FakeLink {
            network: self.clone(),
            node,
            home,
        }
    }

    /// Ends the life of a node: what it serves is dropped, and its callers learn that at once.
    pub fn crash(&self, node: NodeId) {
        if let Some(home) = self.0.state.lock().nodes.remove(&node) {
            home.life.cancel();
        }
    }

    /// Changes the weather, for what sets out from now on.
    pub fn weather(&self, weather: Weather) {
        self.0.state.lock().weather = weather;
    }

    /// Loses all that goes from one node to another; the way back is another matter.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.0.state.lock().cut.insert((from, to));
    }

    /// Lets through again what goes from one node to another.
    pub fn heal(&self, from: NodeId, to: NodeId) {
        self.0.state.lock().cut.remove(&(from, to));
    }

    /// Freezes what a node serves, and hands nothing to it, until it is resumed.
    pub fn pause(&self, node: NodeId) {
        self.set_paused(node, true);
    }

    /// Goes on where [`Self::pause`] froze.
    pub fn resume(&self, node: NodeId) {
        self.set_paused(node, false);
    }

    fn set_paused(&self, node: NodeId, paused: bool) {
        if let Some(home) = self.0.state.lock().nodes.get(&node) {
            home.paused.send_replace(paused);
        }
    }

    fn home(&self, node: NodeId) -> Option<Home> {
        self.0.state.lock().nodes.get(&node).cloned()
    }

    /// Takes the way from one node to another: `false` when it gets lost.
    async fn travel(&self, from: NodeId, to: NodeId, loss: impl Fn(&Weather) -> f64) -> bool {
        let (delay, lost) = {
            let state = &mut *self.0.state.lock();
            let delay = state.random.random_range(state.weather.delay.clone());
            let lost = state.random.random_bool(loss(&state.weather));
            (delay, lost || state.cut.contains(&(from, to)))
        };
        sleep(delay).await;
        // A link that was cut meanwhile loses what is on its way.
        !lost && !self.0.state.lock().cut.contains(&(from, to))
    }
}

/// One node's end of a [`FakeNetwork`].
#[derive(Clone, Debug)]
pub struct FakeLink {
    network: FakeNetwork,
    node: NodeId,
    home: Home,
}

/// How a request ended, seen from where it was served.
#[derive(Debug)]
enum End {
    Replied(Reply),
    Lost,
    Crashed,
}

#[async_trait]
impl Link for FakeLink {
    async fn call(&self, to: NodeId, call: Call) -> Result<Bytes, LinkError> {
        let (method, lane, deadline) = (call.method, call.lane, call.deadline);
        let (answer, _given_up) = self.send(to, call)?;
        let unknown = Fate::Unknown;
        let end = timeout(deadline, async {
            let end = answer.await.unwrap_or(End::Crashed);
            if matches!(end, End::Lost) {
                sleep(DEAD_AFTER).await;
            }
            running(&self.home).await;
            end
        });
        match end.await {
            Err(_) => Err(LinkError::Expired { fate: unknown }),
            Ok(End::Replied(reply)) => reply.into_result(method, lane),
            Ok(End::Lost) => Err(unreachable(to, "nothing is heard from it", unknown)),
            Ok(End::Crashed) => Err(unreachable(to, "the connection ended", unknown)),
        }
    }

    async fn cast(&self, to: NodeId, call: Call) -> Result<(), LinkError> {
        let (_, given_up) = self.send(to, call)?;
        given_up.disarm();
        Ok(())
    }
}

impl FakeLink {
    /// Sends a request on its way. Dropping the guard tells the other node to stop.
    fn send(
        &self,
        to: NodeId,
        call: Call,
    ) -> Result<(oneshot::Receiver<End>, DropGuard), LinkError> {
        call.check()?;
        if self.home.life.is_cancelled() {
            return Err(unreachable(to, "this node crashed", Fate::NotSent));
        }
        let Some(there) = self.network.home(to) else {
            return Err(unreachable(to, "connection refused", Fate::NotSent));
        };
        let (tell, answer) = oneshot::channel();
        let given_up = CancellationToken::new();
        let request = Request {
            from: self.clone(),
            to,
            there,
            given_up: given_up.clone(),
        };
        self.network.0.tasks.spawn(async move {
            // Nobody listens any more when the caller gave up.
            drop(tell.send(request.run(call).await));
        });
        Ok((answer, given_up.drop_guard()))
    }
}

/// A request on its way.
struct Request {
    from: FakeLink,
    to: NodeId,
    there: Home,
    given_up: CancellationToken,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({:?} to {:?})", self.from.node, self.to)
    }
}

impl Request {
    async fn run(self, call: Call) -> End {
        let (from, to) = (self.from.node, self.to);
        let network = &self.from.network;
        let there_and_back = async {
            if !network.travel(from, to, |it| it.request_loss).await {
                return End::Lost;
            }
            let Some(reply) = self.serve(call).await else {
                return End::Lost;
            };
            running(&self.there).await;
            if !network.travel(to, from, |it| it.reply_loss).await {
                return End::Lost;
            }
            End::Replied(reply)
        };
        tokio::select! {
            biased;
            () = self.there.life.cancelled() => End::Crashed,
            end = there_and_back => end,
        }
    }

    /// Serves, as long as the deadline and the caller allow, and not while the node is paused.
    async fn serve(&self, call: Call) -> Option<Reply> {
        running(&self.there).await;
        let deadline = call.deadline;
        let mut serving = self.there.serve.serve(self.from.node, call.arrived());
        let unless_paused = async {
            let mut paused = self.there.paused.subscribe();
            loop {
                running(&self.there).await;
                tokio::select! {
                    biased;
                    _ = paused.wait_for(|it| *it) => {}
                    reply = &mut serving => break reply,
                }
            }
        };
        tokio::select! {
            biased;
            () = self.cancelled() => None,
            reply = timeout(deadline, unless_paused) => reply.ok(),
        }
    }

    /// The caller gave up, and this node heard of it.
    async fn cancelled(&self) {
        self.given_up.cancelled().await;
        let (network, from) = (&self.from.network, self.from.node);
        if !network.travel(from, self.to, |it| it.request_loss).await {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits while a node is paused.
async fn running(home: &Home) {
    // The sender lives in `home`, so the wait cannot fail.
    drop(home.paused.subscribe().wait_for(|paused| !paused).await);
}

fn unreachable(node: NodeId, reason: &str, fate: Fate) -> LinkError {
    LinkError::Unreachable {
        node,
        reason: reason.to_owned(),
        fate,
    }
}

#[cfg(test)]
mod tests;
