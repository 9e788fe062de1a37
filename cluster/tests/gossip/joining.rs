//! Who is in a view, and when.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chitchat::transport::UdpTransport;
use chitchat::{ChitchatConfig, ChitchatId, ProtocolVersion, spawn_chitchat};
use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;
use zajil_cluster::config::gossip::BadGossip;
use zajil_cluster::membership::gossip::GossipError;
use zajil_cluster::membership::{Fact, Membership};
use zajil_cluster::metrics::gossip::{Dropped, Members};
use zajil_model::lease::{Incarnation, NodeId};

use crate::support::{node, rounds, sees, tap, three, until};

#[tokio::test]
async fn three_sealed_nodes_hear_news_of_each_other_and_miss_one_that_stops() {
    let [one, two, three] = three().await;
    let mut changed = two.changed();
    changed.mark_unchanged();

    one.publish(Fact::LeaseSequence(41));
    one.publish(Fact::Draining(true));
    one.publish(Fact::ShardsVersion(7));
    for node in [&two, &three] {
        until("the news of one spread", || {
            node.peers().get(NodeId(1)).is_some_and(|peer| {
                (peer.lease_sequence, peer.draining, peer.shards_version) == (41, true, 7)
            })
        })
        .await;
    }
    assert!(changed.has_changed().unwrap());
    one.stop().await;

    until("the others miss it", || !sees(&two, 1) && !sees(&three, 1)).await;
    assert!(sees(&two, 3) && sees(&three, 2));
    assert!(one.peers().is_empty());
    until("it is counted as dead", || {
        let Members { live, dead, .. } = two.members();
        (live, dead) == (1, 1)
    })
    .await;
}

#[tokio::test]
async fn a_node_that_comes_back_at_once_is_seen_in_its_next_life() {
    let mut start = node(1, &[]);
    let one = start.go().await;
    let two = node(2, &[one.address()]).go().await;
    until("two sees one", || sees(&two, 1)).await;

    one.stop().await;
    start.listen = one.address();
    start.incarnation = 2;
    let again = start.go().await;

    until("the next life is seen", || {
        let seen = two.peers().get(NodeId(1)).map(|peer| peer.incarnation);
        seen == Some(Incarnation(2))
    })
    .await;
    until("and sees", || sees(&again, 2)).await;
}

/// What was logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock())
            .matches(text)
            .count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_silent_seed_is_told_about_once_a_minute_and_joined_once_it_is_there() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(log.clone());
    let _this_thread = tracing::subscriber::set_default(subscriber.finish());
    let (nobody, seed) = tap().await;
    let start = node(2, &[seed]);
    let two = start.go().await;

    rounds(5).await;
    let after_a_second = log.count("seed does not answer");
    for seconds in [6, 40, 67, 100] {
        start.clock.seconds.store(seconds, Ordering::Relaxed);
        rounds(5).await;
    }
    let after_a_minute = log.count("seed does not answer");
    drop(nobody);
    let mut one = node(1, &[]);
    one.listen = seed;
    let one = one.go().await;

    assert_eq!((after_a_second, after_a_minute), (0, 2));
    until("they find each other", || sees(&one, 2) && sees(&two, 1)).await;
    assert_eq!(
        log.count("WARN"),
        2,
        "{}",
        String::from_utf8_lossy(&log.0.lock())
    );
}

#[tokio::test]
async fn plain_gossip_is_for_loopback_and_one_cluster() {
    let plain = |number, seeds: &[_]| {
        let mut start = node(number, seeds);
        start.keys.clear();
        start
    };
    let one = plain(1, &[]).go().await;
    let two = plain(2, &[one.address()]).go().await;
    let mut foreign = plain(3, &[one.address()]);
    foreign.cluster = "away";
    let foreign = foreign.go().await;
    let mut open = plain(4, &[]);
    open.listen = "0.0.0.0:0".parse().unwrap();

    until("the two see each other", || sees(&one, 2) && sees(&two, 1)).await;
    until("the third is counted", || one.drops(Dropped::Cluster) > 0).await;

    assert!(!sees(&one, 3) && foreign.peers().is_empty());
    open.listen = "192.0.2.1:0".parse().unwrap();
    let refused = open.try_go().await.unwrap_err();
    assert!(
        matches!(refused, GossipError::Config(BadGossip::NeedsKeys(_))),
        "{refused}"
    );
}

#[tokio::test]
async fn a_peer_that_says_what_cannot_be_is_counted_and_does_not_live() {
    let mut start = node(1, &[]);
    start.keys.clear();
    let one = start.go().await;
    let (socket, address) = tap().await;
    drop(socket);
    let strange = ChitchatConfig {
        chitchat_id: ChitchatId::new("9", 1, address),
        cluster_id: "home".to_owned(),
        gossip_interval: std::time::Duration::from_millis(250),
        listen_addr: address,
        seed_nodes: vec![one.address().to_string()],
        failure_detector_config: Default::default(),
        marked_for_deletion_grace_period: std::time::Duration::from_secs(900),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    };
    let says = [("link", "nowhere"), ("protocols", "1-1")];
    let says = says.map(|(key, text)| (key.to_owned(), text.to_owned()));

    let strange = spawn_chitchat(strange, says.into(), &UdpTransport)
        .await
        .unwrap();

    until("it is counted", || one.members().unreadable == 1).await;
    assert!(one.peers().is_empty());
    strange.shutdown().await.unwrap();
}
