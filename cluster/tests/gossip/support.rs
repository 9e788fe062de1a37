//! A node of a cluster on loopback, a clock that may be wrong, and waiting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use zajil_cluster::config::gossip::GossipConfig;
use zajil_cluster::membership::gossip::{Gossip, GossipError, Ports};
use zajil_cluster::membership::keys::KeyRing;
use zajil_cluster::membership::{Membership, Peer, Protocols};
use zajil_model::lease::{Incarnation, NodeId};
use zajil_model::time::{Clock, Mono, Timestamp};

/// Longer than anything takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// The clock of the machine, set wrong by so many seconds, and a monotonic one that tests move.
#[derive(Debug, Default)]
pub(crate) struct TestClock {
    pub(crate) wrong_by: AtomicI64,
    pub(crate) seconds: AtomicU64,
}

impl Clock for TestClock {
    #[expect(clippy::disallowed_methods, reason = "the real clock of this test")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let wrong_by = self.wrong_by.load(Ordering::Relaxed) * 1_000_000;
        Timestamp::from_micros(since.as_micros() as i64 + wrong_by)
    }

    fn mono(&self) -> Mono {
        Mono::from_nanos(self.seconds.load(Ordering::Relaxed) * 1_000_000_000)
    }
}

/// How a node is started.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) node: u64,
    pub(crate) incarnation: u64,
    pub(crate) listen: SocketAddr,
    pub(crate) seeds: Vec<SocketAddr>,
    pub(crate) cluster: &'static str,
    pub(crate) keys: Vec<u8>,
    pub(crate) clock: Arc<TestClock>,
}

/// A sealed node of the cluster `home`, at a free port.
pub(crate) fn node(node: u64, seeds: &[SocketAddr]) -> Start {
    Start {
        node,
        incarnation: 1,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        seeds: seeds.to_vec(),
        cluster: "home",
        keys: vec![1],
        clock: Arc::default(),
    }
}

impl Start {
    pub(crate) fn peer(&self) -> Peer {
        Peer {
            node: NodeId(self.node),
            incarnation: Incarnation(self.incarnation),
            link: SocketAddr::from(([127, 0, 0, 1], 7_000 + self.node as u16)),
            api: None,
            lease_sequence: 0,
            draining: false,
            shards_version: 0,
            protocols: Protocols {
                oldest: 1,
                newest: 2,
            },
            version: "0.1.0".to_owned(),
        }
    }

    pub(crate) async fn try_go(&self) -> Result<Arc<Gossip>, GossipError> {
        let config = GossipConfig {
            listen: self.listen,
            advertise: self.listen,
            seeds: self.seeds.iter().map(ToString::to_string).collect(),
            cluster: self.cluster.to_owned(),
            keys: (!self.keys.is_empty()).then(|| ring(&self.keys)),
        };
        let ports = Ports {
            clock: self.clock.clone(),
            random: StdRng::from_os_rng(),
            tasks: TaskTracker::new(),
        };
        Gossip::start(&config, self.peer(), ports).await
    }

    pub(crate) async fn go(&self) -> Arc<Gossip> {
        self.try_go().await.unwrap()
    }
}

/// A ring of keys that are told apart by a number.
pub(crate) fn ring(fills: &[u8]) -> KeyRing {
    let keys: Vec<String> = fills
        .iter()
        .map(|fill| STANDARD.encode([*fill; 32]))
        .collect();
    KeyRing::parse(keys.iter().map(String::as_str)).unwrap()
}

/// Three sealed nodes that have found each other.
pub(crate) async fn three() -> [Arc<Gossip>; 3] {
    let one = node(1, &[]).go().await;
    let two = node(2, &[one.address()]).go().await;
    let three = node(3, &[one.address()]).go().await;
    let nodes = [one, two, three];
    until("three nodes find each other", || {
        nodes.iter().all(|node| node.peers().len() == 2)
    })
    .await;
    nodes
}

/// A socket that pretends to be a seed, to hear what a node sends.
pub(crate) async fn tap() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

pub(crate) async fn hear(tap: &UdpSocket) -> Vec<u8> {
    let mut datagram = vec![0; 65_507];
    let length = tap.recv(&mut datagram).await.unwrap();
    datagram.truncate(length);
    datagram
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Lets some rounds of gossip pass.
pub(crate) async fn rounds(count: u32) {
    sleep(Duration::from_millis(250) * count).await;
}

pub(crate) fn sees(gossip: &Gossip, node: u64) -> bool {
    gossip.peers().get(NodeId(node)).is_some()
}
