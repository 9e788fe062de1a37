//! A cluster of fifty nodes in one process: a measurement, to be run alone and in release.
//!
//! `cargo test --release -p zajil-cluster --test gossip fifty -- --ignored --nocapture`

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use zajil_cluster::membership::gossip::Gossip;
use zajil_cluster::membership::{Fact, Membership};
use zajil_cluster::metrics::gossip::Dropped;
use zajil_model::lease::NodeId;

use crate::support::{node, rounds, sees, until};

const NODES: u64 = 50;

async fn measure(kind: &str, keys: &[u8]) {
    let begun = Instant::now();
    let mut nodes: Vec<Arc<Gossip>> = Vec::new();
    for number in 1..=NODES {
        let seeds: Vec<SocketAddr> = nodes.iter().take(3).map(|node| node.address()).collect();
        let mut start = node(number, &seeds);
        start.keys = keys.to_vec();
        nodes.push(start.go().await);
    }
    let all = NODES as usize - 1;
    until("all see all", || {
        nodes.iter().all(|node| node.peers().len() == all)
    })
    .await;
    let converged = begun.elapsed();
    let (begun, cpu_begun) = (Instant::now(), cpu());
    rounds(40).await;
    let cores = (cpu() - cpu_begun).as_secs_f64() / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    nodes[0].publish(Fact::LeaseSequence(9));
    let heard = |node: &Arc<Gossip>| node.peers().get(NodeId(1)).map(|peer| peer.lease_sequence);
    until("all hear", || {
        nodes[1..].iter().all(|node| heard(node) == Some(9))
    })
    .await;
    let news = begun.elapsed();
    let begun = Instant::now();
    nodes[0].stop().await;
    until("all miss it", || {
        nodes[1..].iter().all(|node| !sees(node, 1))
    })
    .await;
    let missed = begun.elapsed();
    let drops: u64 = nodes
        .iter()
        .flat_map(|node| Dropped::ALL.map(|why| node.drops(why)))
        .sum();
    println!(
        "{kind}: converged {converged:.1?}, news {news:.1?}, missed {missed:.1?}, {cores:.3} cores, {drops} drops"
    );
    for node in &nodes[1..] {
        node.stop().await;
    }
}

/// How long all threads have run.
fn cpu() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = threads.map(|thread| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        stat.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanos.sum())
}

#[tokio::test]
#[ignore = "a measurement"]
async fn fifty_nodes_sealed_and_plain() {
    measure("plain", &[]).await;
    measure("sealed", &[1]).await;
}
