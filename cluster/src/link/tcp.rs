//! The link over TCP: two connections to each peer, one a lane.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustc_hash::FxBuildHasher;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use zajil_model::lease::NodeId;

use super::config::{Identity, Timing};
use super::connection::NoAnswer;
use super::dial::{Addresses, Dialer};
use super::frame::{Answer, LONGEST_DEADLINE};
use super::hello::Refusal;
use super::line::Line;
use super::server::Server;
use super::status::{Journal, LinkStatus};
use super::tls::{Credentials, Unprotected, check_security};
use super::{Call, Fate, Incoming, Lane, Link, LinkError, Part, Serve};
use crate::metrics::link as metrics;

/// What the link of a node is made with.
#[derive(Debug)]
pub struct LinkSettings {
    /// Who this node is.
    pub me: Identity,
    /// Knows where the other nodes are.
    pub addresses: Arc<dyn Addresses>,
    /// Its key and certificates; without them it talks on loopback only.
    pub credentials: Option<Credentials>,
    /// The times that it keeps.
    pub timing: Timing,
    /// The seed of the jitter between attempts to connect.
    pub seed: u64,
}

/// The link over TCP. Clones are the same link.
#[derive(Clone, Debug)]
pub struct TcpLink {
    dialer: Arc<Dialer>,
    lines: Arc<Mutex<Lines>>,
    stopping: CancellationToken,
    connections: TaskTracker,
    /// Ends all tasks when the last clone is gone.
    _end: Arc<DropGuard>,
}

/// The ways to nodes, one for each whose address was ever known.
type Lines = HashMap<(NodeId, Lane), Arc<Line>, FxBuildHasher>;

impl TcpLink {
    /// A link that can ask. To answer, too, it has to [`Self::listen`].
    pub fn new(settings: LinkSettings) -> Self {
        let stop = CancellationToken::new();
        let dialer = Dialer {
            me: settings.me,
            addresses: settings.addresses,
            credentials: settings.credentials,
            timing: settings.timing,
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            journal: Arc::new(Journal::default()),
            random: Mutex::new(SmallRng::seed_from_u64(settings.seed)),
        };
        Self {
            dialer: Arc::new(dialer),
            lines: Arc::default(),
            stopping: CancellationToken::new(),
            connections: TaskTracker::new(),
            _end: Arc::new(stop.drop_guard()),
        }
    }

    /// Answers other nodes from now on.
    ///
    /// # Errors
    /// The listener is not on loopback, and there are no credentials.
    pub fn listen(&self, listener: TcpListener, serve: Arc<dyn Serve>) -> Result<(), Unprotected> {
        // A listener whose address cannot be told is treated as one that everybody reaches.
        let everywhere = (std::net::Ipv4Addr::UNSPECIFIED, 0).into();
        let address = listener.local_addr().unwrap_or(everywhere);
        check_security(&[address], self.dialer.credentials.as_ref())?;
        let server = Server {
            shared: self.dialer.clone(),
            serve,
            stopping: self.stopping.clone(),
            connections: self.connections.clone(),
        };
        let stop = self.dialer.stop.clone();
        self.dialer.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = server.run(listener) => {}
            }
        });
        Ok(())
    }

    /// How the link is doing, for `/cluster` and `/readyz`.
    pub fn status(&self) -> LinkStatus {
        let mut lines: Vec<_> = self.lines.lock().values().cloned().collect();
        lines.sort_by_key(|it| it.key());
        LinkStatus {
            peers: lines.iter().map(|it| it.status()).collect(),
            refused: self.dialer.journal.entries(),
        }
    }

    /// Stops: peers are told to ask nothing more here, what they asked is answered within `grace`,
    /// and then all connections end.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.cancel();
        self.connections.close();
        if timeout(grace, self.connections.wait()).await.is_err() {
            tracing::warn!("ended connections of nodes that still waited for answers");
        }
        self.dialer.stop.cancel();
        self.dialer.tasks.close();
        self.connections.wait().await;
        self.dialer.tasks.wait().await;
    }

    async fn ask(&self, to: NodeId, call: Call, deadline: Instant) -> Result<Bytes, LinkError> {
        let (method, lane) = (call.method, call.lane);
        let line = self.line(to, lane)?;
        let call = call.arrived();
        let mut answer = self.try_call(&line, call.clone(), deadline).await;
        if matches!(&answer, Err(it) if it.left_unsent()) {
            answer = self.try_call(&line, call, deadline).await;
        }
        match answer {
            Ok(Answer::Reply(reply)) => reply.into_result(method, lane),
            Ok(Answer::TooLarge { bytes }) => Err(LinkError::TooLarge {
                part: Part::Reply,
                bytes,
                limit: lane.limit(),
            }),
            Err(reason) => Err(reason.into_error(to)),
        }
    }

    async fn try_call(
        &self,
        line: &Arc<Line>,
        call: Incoming,
        deadline: Instant,
    ) -> Result<Answer, NoAnswer> {
        let connection = line.connection(&self.dialer, deadline).await?;
        connection.call(call, deadline).await
    }

    async fn tell(&self, to: NodeId, call: Call, deadline: Instant) -> Result<(), LinkError> {
        let line = self.line(to, call.lane)?;
        let call = call.arrived();
        let mut told = self.try_cast(&line, call.clone(), deadline).await;
        if matches!(&told, Err(it) if it.left_unsent()) {
            told = self.try_cast(&line, call, deadline).await;
        }
        told.map_err(|reason| reason.into_error(to))
    }

    async fn try_cast(
        &self,
        line: &Arc<Line>,
        call: Incoming,
        deadline: Instant,
    ) -> Result<(), NoAnswer> {
        let connection = line.connection(&self.dialer, deadline).await?;
        connection.cast(call, deadline).await
    }

    /// The way to a node. One whose address nobody ever told has none, so that there are no more
    /// of them than nodes.
    fn line(&self, node: NodeId, lane: Lane) -> Result<Arc<Line>, LinkError> {
        if node == self.dialer.me.node {
            let refusal = Refusal::SameNode { node };
            return Err(LinkError::Refused { node, refusal });
        }
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get(&(node, lane)) {
            return Ok(line.clone());
        }
        if self.dialer.addresses.address(node).is_none() {
            return Err(NoAnswer::Refused(Refusal::Nowhere).into_error(node));
        }
        let line = Arc::new(Line::new(node, lane));
        lines.insert((node, lane), line.clone());
        Ok(line)
    }
}

#[async_trait]
impl Link for TcpLink {
    async fn call(&self, to: NodeId, call: Call) -> Result<Bytes, LinkError> {
        call.check()?;
        let (since, lane) = (Instant::now(), call.lane);
        let in_flight = metrics::calling(lane);
        let deadline = since + call.deadline.min(LONGEST_DEADLINE);
        let answer = self.ask(to, call, deadline).await;
        drop(in_flight);
        metrics::called(lane, &answer, since.elapsed());
        answer
    }

    async fn cast(&self, to: NodeId, call: Call) -> Result<(), LinkError> {
        call.check()?;
        let (since, lane) = (Instant::now(), call.lane);
        let deadline = since + call.deadline.min(LONGEST_DEADLINE);
        let told = self.tell(to, call, deadline).await;
        metrics::called(lane, &told, since.elapsed());
        told
    }
}

impl NoAnswer {
    /// Whether the connection ended before the call went over it: another one may do.
    fn left_unsent(&self) -> bool {
        let fate = Fate::NotSent;
        matches!(self, Self::Ended { fate: it, .. } if *it == fate)
    }

    fn into_error(self, node: NodeId) -> LinkError {
        match self {
            Self::Overloaded => LinkError::Overloaded,
            Self::Expired(fate) => LinkError::Expired { fate },
            Self::Ended { why, fate } => LinkError::Unreachable {
                node,
                reason: why.to_string(),
                fate,
            },
            Self::Refused(refusal) if refusal.lasts() => LinkError::Refused { node, refusal },
            Self::Refused(refusal) => LinkError::Unreachable {
                node,
                reason: refusal.to_string(),
                fate: Fate::NotSent,
            },
        }
    }
}
