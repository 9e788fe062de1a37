//! Membership by gossip: every quarter of a second each node tells a few others what it knows of
//! all.
//!
//! [`Gossip::start`] opens the socket and begins; a task of its own turns what the library finds
//! into views, tells the library what this node publishes, and reports. It ends with
//! [`Gossip::stop`]: gossip has no word for leaving, so the peers find out by the silence.
//!
//! A node that was declared dead and goes on as its next incarnation stops and starts again: an
//! incarnation is one life of the library's state as well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::Socket;
use chitchat::{
    ChitchatConfig, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat,
};
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_model::replay::Sender;
use zajil_model::time::Clock;

use super::keys::KeyRing;
use super::socket::{Common, Opened, PlainSocket, SealedSocket, Sealing};
use super::{Fact, Membership, Peer, View, facts};
use crate::config::gossip::{BadGossip, GossipConfig};
use crate::metrics::gossip::{Dropped, GossipMetrics, Members};

mod census;
mod pump;

use pump::Pump;

/// How often a node gossips. With the values below a silence is found in 1.5 to 5 seconds, which is
/// below the six of a lease; smaller ones made starved nodes flap while they started.
const INTERVAL: Duration = Duration::from_millis(250);

/// How many usual intervals a peer may be silent.
const PHI: f64 = 8.0;

/// What counts as usual before anything was seen of a peer.
const FIRST_INTERVAL: Duration = Duration::from_millis(1_500);

/// A longer silence is no interval, but an absence.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);

/// How many intervals of a peer are remembered: those of the last minute.
const REMEMBERED_INTERVALS: usize = 200;

/// How long a dead node is remembered, and what is deleted: longer than any restart takes.
const GRACE: Duration = Duration::from_secs(15 * 60);

/// What is handed in: a test hands in its own.
#[derive(Debug)]
pub struct Ports {
    /// What tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes the nonces of sealed datagrams: seeded from the operating system, in earnest.
    pub random: StdRng,
    /// What the task of the gossip belongs to.
    pub tasks: TaskTracker,
}

/// Why gossip could not start.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// The settings cannot be.
    #[error(transparent)]
    Config(#[from] BadGossip),
    /// The sockets could not be opened.
    #[error("cannot open the gossip socket at {listen}")]
    Open {
        /// Where it should have listened.
        listen: SocketAddr,
        /// What the system says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The library did not start.
    #[error("cannot start to gossip")]
    Start(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The gossip of one node, in one of its lives.
#[derive(Debug)]
pub struct Gossip {
    address: SocketAddr,
    says: watch::Sender<Peer>,
    view: watch::Receiver<View>,
    members: watch::Receiver<Members>,
    keys: Option<watch::Sender<KeyRing>>,
    metrics: GossipMetrics,
    stop: CancellationToken,
}

impl Gossip {
    /// Begins to gossip: `own` is what this node says of itself.
    ///
    /// # Errors
    /// The settings cannot be, or a socket could not be opened.
    pub async fn start(
        config: &GossipConfig,
        own: Peer,
        ports: Ports,
    ) -> Result<Arc<Self>, GossipError> {
        config.check()?;
        let metrics = GossipMetrics::new();
        let common = Common {
            listen: config.listen,
            cluster: config.cluster.clone(),
            sender: Sender {
                node: own.node,
                incarnation: own.incarnation,
            },
            metrics: metrics.clone(),
            clock: ports.clock.clone(),
        };
        let socket = open(common, config.keys.clone(), ports.random).await?;
        let id = ChitchatId::new(
            facts::written_name(own.node),
            own.incarnation.0,
            advertised(config.advertise, socket.address),
        );
        let address = id.gossip_advertise_addr;
        let library = spawn_chitchat(
            settings(config, id),
            facts::written(&own),
            &socket.transport,
        )
        .await
        .map_err(|source| GossipError::Start(source.into()))?;
        let (says, said) = watch::channel(own);
        let (pump, view, members) = Pump::new(library, said, metrics.clone(), ports.clock).await;
        let stop = CancellationToken::new();
        ports.tasks.spawn(pump.run(stop.clone()));
        Ok(Arc::new(Self {
            address,
            says,
            view,
            members,
            keys: socket.keys,
            metrics,
            stop,
        }))
    }

    /// Where peers reach this node's gossip.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Seals and opens with other keys from now on. Does nothing where gossip is plain.
    pub fn change_keys(&self, keys: KeyRing) {
        if let Some(current) = &self.keys {
            current.send_replace(keys);
        }
    }

    /// How the other nodes are that were heard of; up to a second old.
    pub fn members(&self) -> Members {
        *self.members.borrow()
    }

    /// How many datagrams were dropped for a reason.
    pub fn drops(&self, why: Dropped) -> u64 {
        self.metrics.drops(why)
    }

    /// Falls silent, and waits until the socket is free again.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.ended().await;
    }

    /// Waits until it ended: it was stopped, or failed and said so in the log.
    pub async fn ended(&self) {
        let mut view = self.view.clone();
        while view.changed().await.is_ok() {}
    }
}

impl Membership for Gossip {
    fn peers(&self) -> View {
        self.view.borrow().clone()
    }

    fn changed(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    fn publish(&self, fact: Fact) {
        self.says.send_modify(|own| own.apply(fact));
    }
}

struct OpenSocket {
    address: SocketAddr,
    transport: Opened,
    keys: Option<watch::Sender<KeyRing>>,
}

impl OpenSocket {
    fn new(socket: impl Socket, keys: Option<watch::Sender<KeyRing>>) -> anyhow::Result<Self> {
        Ok(Self {
            address: socket.local_addr()?,
            transport: Opened::new(socket),
            keys,
        })
    }
}

async fn open(
    common: Common,
    ring: Option<KeyRing>,
    random: StdRng,
) -> Result<OpenSocket, GossipError> {
    let listen = common.listen;
    let opened = match ring {
        Some(ring) => {
            let (sender, keys) = watch::channel(ring);
            let socket = SealedSocket::open(common, Sealing { keys, random }).await;
            socket.and_then(|socket| OpenSocket::new(socket, Some(sender)))
        }
        None => {
            let socket = PlainSocket::open(common).await;
            socket.and_then(|socket| OpenSocket::new(socket, None))
        }
    };
    opened.map_err(|source| GossipError::Open {
        listen,
        source: source.into(),
    })
}

fn advertised(mut advertise: SocketAddr, listening: SocketAddr) -> SocketAddr {
    if advertise.port() == 0 {
        advertise.set_port(listening.port());
    }
    advertise
}

fn settings(config: &GossipConfig, id: ChitchatId) -> ChitchatConfig {
    ChitchatConfig {
        chitchat_id: id,
        cluster_id: config.cluster.clone(),
        gossip_interval: INTERVAL,
        listen_addr: config.listen,
        seed_nodes: config.seeds.clone(),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: PHI,
            sampling_window_size: REMEMBERED_INTERVALS,
            max_interval: LONGEST_INTERVAL,
            initial_interval: FIRST_INTERVAL,
            dead_node_grace_period: GRACE,
        },
        marked_for_deletion_grace_period: GRACE,
        catchup_callback: None,
        extra_liveness_predicate: Some(Box::new(|state| census::read(state).is_ok())),
        // Digests compressed: about 60 bytes a node otherwise, and fifty nodes in one datagram.
        protocol_version: ProtocolVersion::V1,
    }
}
