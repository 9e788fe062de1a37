//! What a datagram costs, sealed and plain: a measurement, to be run alone and in release.
//!
//! `cargo test --release -p zajil-cluster --lib cost -- --ignored --nocapture`

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::{Socket, Transport, UdpSocket as LibrarySocket};
use chitchat::{ChitchatConfig, ChitchatEnvelope, ChitchatId, ProtocolVersion, spawn_chitchat};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use zajil_model::lease::{Incarnation, NodeId};
use zajil_model::replay::Sender;
use zajil_model::time::{Clock, Mono, Timestamp};

use super::{Common, Opened, SealedSocket, Sealing};
use crate::membership::keys::tests::ring;
use crate::metrics::gossip::GossipMetrics;

const DATAGRAMS: u32 = 20_000;

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000)
    }

    fn mono(&self) -> Mono {
        Mono::default()
    }
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn sealed(node: u64) -> SealedSocket {
    let sender = Sender {
        node: NodeId(node),
        incarnation: Incarnation(1),
    };
    let common = Common {
        listen: free(),
        cluster: "home".to_owned(),
        sender,
        metrics: GossipMetrics::new(),
        clock: Arc::new(Still),
    };
    let sealing = Sealing {
        keys: watch::channel(ring(&[1])).1,
        random: StdRng::seed_from_u64(node),
    };
    SealedSocket::open(common, sealing).await.unwrap()
}

/// The first message of a round, of a node that knows of `nodes` others.
async fn message(nodes: u16) -> ChitchatEnvelope {
    let mut hears = LibrarySocket::open(free()).await.unwrap();
    let speaks = LibrarySocket::open(free()).await.unwrap();
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new("1", 1, speaks.local_addr().unwrap()),
        cluster_id: "home".to_owned(),
        gossip_interval: Duration::from_millis(10),
        listen_addr: free(),
        seed_nodes: Vec::new(),
        failure_detector_config: Default::default(),
        marked_for_deletion_grace_period: Duration::from_secs(900),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    };
    let transport: &dyn Transport = &Opened::new(speaks);
    let library = spawn_chitchat(config, Vec::new(), transport).await.unwrap();
    let known = library.with_chitchat(|library| {
        for node in 0..nodes {
            let id = ChitchatId::new(format!("{}", 1_000 + node), 1, ([10, 0, 0, 1], node).into());
            library.reset_node_state_if_update(&id, std::iter::empty(), 9, 0);
        }
    });
    known.await;
    library.gossip(hears.local_addr().unwrap()).unwrap();
    let heard = hears.recv().await.unwrap();
    assert_eq!(
        library
            .with_chitchat(|library| library.node_states().len())
            .await,
        usize::from(nodes) + 1
    );
    let seeds: HashSet<SocketAddr> = library.with_chitchat(|library| library.seed_nodes()).await;
    assert!(seeds.is_empty());
    library.shutdown().await.unwrap();
    heard.envelope
}

/// Sends a message to and fro: microseconds of CPU for one datagram sent and received, and its
/// length.
async fn cost(
    mut one: impl Socket,
    mut two: impl Socket,
    mut message: ChitchatEnvelope,
) -> (f64, usize) {
    let to = two.local_addr().unwrap();
    let mut length = 0;
    let begun = cpu();
    for _ in 0..DATAGRAMS {
        length = one.send(to, message).await.unwrap().num_bytes_sent;
        message = two.recv().await.unwrap().envelope;
    }
    ((cpu() - begun) / f64::from(DATAGRAMS), length)
}

/// Microseconds that this thread has run.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos: f64 = stat.split(' ').next().unwrap().parse().unwrap();
    nanos / 1_000.0
}

#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_datagram_costs() {
    for nodes in [2, 50, 200] {
        let plain = [(); 2].map(|()| LibrarySocket::open(free()));
        let [one, two] = plain;
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        let (plain, plain_length) = cost(one, two, message(nodes).await).await;
        let (sealed, length) = cost(sealed(1).await, sealed(2).await, message(nodes).await).await;
        println!(
            "{nodes} nodes: plain {plain:.1} us ({plain_length} B), sealed {sealed:.1} us ({length} B)"
        );
    }
}
