//! Cut cables, in part and one way, lossy ones, and gossip that comes late and again, between nodes that
//! are machines of their own: who owns a shard is decided by the database alone. Customers send at all nodes meanwhile, and the
//! books have to balance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use zajil_model::lease::GOOD_FOR;
use zajil_tests::Nodes;
use zajil_tests::clock::{Stopwatch, wall_micros};
use zajil_tests::cql::Cql;
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::load::{self, Load};
use zajil_tests::network::{Cut, Network};
use zajil_tests::nodes::Plan;
use zajil_tests::wait::{millis, seconds, until};

/// All nodes.
const NODES: [u8; 3] = [1, 2, 3];

/// Longer than a lease lasts that nobody renews.
const LONGER_THAN_A_LEASE: Duration = seconds(8);

/// Within this a node is dead that does not renew its lease, and its shards are at work elsewhere.
const TAKEN_WITHIN: Duration = seconds(30);

/// Within this gossip finds out, and so do nodes that join again.
const FOUND_WITHIN: Duration = seconds(60);

/// Nodes that are machines of a network; nothing where there can be none.
async fn on_a_network(test: &str) -> Result<Option<(Arc<Network>, Nodes)>> {
    let Some(cql) = Cql::shared(test).await else {
        return Ok(None);
    };
    let Some(network) = Network::start(test, &cql).await? else {
        return Ok(None);
    };
    let network = Arc::new(network);
    let nodes = Plan::new().over(&network).start_on(cql, test).await?;
    Ok(Some((network, nodes)))
}

/// Customers of each node.
struct Customers(BTreeMap<u8, load::Running>);

impl Customers {
    fn start(nodes: &Nodes, dice: &mut StdRng) -> Self {
        let load = |number: u8| {
            let load = Load {
                senders: 2,
                every: millis(80),
                ..Load::on(&nodes.instances)
            };
            (number, load.start(&nodes.customer_at(number), dice))
        };
        Self(NODES.map(load).into())
    }

    /// Waits until so many more requests were answered with 2xx at each of these nodes.
    async fn await_answers(&self, nodes: &[u8], count: u64) {
        for number in nodes {
            self.0[number].await_answers(count, FOUND_WITHIN).await;
        }
    }

    async fn stop(self) {
        for (_, running) in self.0 {
            running.stop().await;
        }
    }
}

fn others(number: u8) -> Vec<u8> {
    NODES.into_iter().filter(|it| *it != number).collect()
}

/// How a node is, by its own word.
async fn state(nodes: &Nodes, number: u8) -> String {
    let told = nodes.node(number).ask("/cluster").await.data();
    let all = told["nodes"].as_array().cloned().unwrap_or_default();
    let own = all.iter().find(|node| node["here"] == true);
    let state = own.and_then(|own| own["state"].as_str());
    state.unwrap_or_default().to_owned()
}

async fn count(nodes: &Nodes, number: u8, metric: &str) -> u64 {
    let counted = nodes.node(number).metric(metric).await;
    counted.unwrap_or_else(|| panic!("node {number} has no {metric}")) as u64
}

/// What each node counted so far of what moves shards.
async fn moves(nodes: &Nodes) -> BTreeMap<u8, [u64; 4]> {
    let mut moves = BTreeMap::new();
    for number in NODES {
        let counted = [
            count(nodes, number, "zajil_lease_lost_total").await,
            count(nodes, number, "zajil_shard_takes_total").await,
            count(nodes, number, "zajil_shard_releases_total").await,
            count(nodes, number, "zajil_shards_lost_total").await,
        ];
        moves.insert(number, counted);
    }
    moves
}

/// Waits until a node says that it may send no more; answers how long that took.
async fn await_standstill(nodes: &Nodes, number: u8, since: Stopwatch) -> Duration {
    until("the node stands still", TAKEN_WITHIN, async || {
        let is_live = state(nodes, number).await == "live";
        (!is_live).then(|| since.elapsed())
    })
    .await
}

/// Waits until one of these is at work on an instance.
async fn await_taker(nodes: &Nodes, instance: u64, among: &[u8]) -> u8 {
    let path = format!("/metrics/instances?instance={instance}");
    let named = format!("\"{instance}\"");
    until("another node takes over", TAKEN_WITHIN, async || {
        for number in among {
            if nodes.node(*number).ask(&path).await.text().contains(&named) {
                return Some(*number);
            }
        }
        None
    })
    .await
}

/// What was on its way in this time may go out again: nobody could write down what came of it.
fn was_dark(nodes: &mut Nodes, from: i64) {
    let dark = (from..=wall_micros()).step_by(500_000);
    nodes.rules.kills.extend(dark);
}

/// Waits until so many nodes are dead by the gossip of this one.
async fn await_dead(nodes: &Nodes, number: u8, dead: u64) {
    let silent = "zajil_gossip_members{state=\"dead\"}";
    until("gossip finds out", FOUND_WITHIN, async || {
        (count(nodes, number, silent).await == dead).then_some(())
    })
    .await;
}

async fn balance_the_books(nodes: &Nodes) {
    let report = nodes.verdict().await;
    println!("{report:?}");
    report.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reaches_the_database_keeps_its_shards_whatever_is_cut_between_nodes() -> Result<()> {
    let mut dice = dice("cluster_network, between nodes");
    let Some((network, nodes)) = on_a_network("network between nodes").await? else {
        return Ok(());
    };
    let customers = Customers::start(&nodes, &mut dice);
    let mut order = NODES;

    for _ in 0..short_or_long(1, 2) {
        order.shuffle(&mut dice);
        let [one, other, third] = order;
        customers.await_answers(&NODES, 20).await;
        let before = moves(&nodes).await;

        network.cut(Cut::Gossip(one)).await?;
        await_dead(&nodes, one, 2).await;
        await_dead(&nodes, other, 1).await;
        await_dead(&nodes, third, 1).await;
        tokio::time::sleep(short_or_long(seconds(4), seconds(30))).await;
        customers.await_answers(&NODES, 20).await;
        assert_eq!(moves(&nodes).await, before, "shards moved without gossip");
        network.heal(Cut::Gossip(one)).await?;

        for way in [Cut::Way(one, other), Cut::Way(other, one)] {
            network.cut(way).await?;
            tokio::time::sleep(LONGER_THAN_A_LEASE).await;
            customers.await_answers(&[third], 10).await;
            assert!(network.dropped().await? > 0, "nothing was cut");
            assert_eq!(moves(&nodes).await, before, "shards moved after a cut");
        }
        network.heal(Cut::Way(other, one)).await?;
        network.heal(Cut::Way(one, other)).await?;

        for node in NODES {
            network.cut(losing(node)).await?;
        }
        tokio::time::sleep(short_or_long(seconds(10), seconds(60))).await;
        customers.await_answers(&NODES, 20).await;
        println!("{} packets were lost", network.dropped().await?);
        assert!(network.dropped().await? > 0, "nothing was lost");
        assert_eq!(moves(&nodes).await, before, "shards moved with losses");
        for node in NODES {
            network.heal(losing(node)).await?;
            await_dead(&nodes, node, 0).await;
        }
    }
    customers.await_answers(&NODES, 10).await;
    customers.stop().await;
    // No frame is excused: each went out once.
    balance_the_books(&nodes).await;
    Ok(())
}

const fn losing(node: u8) -> Cut {
    Cut::Loss {
        node,
        gossip: 30,
        link: 3,
    }
}

/// Datagrams that nodes dropped since they were seen before, or sent too long ago.
async fn not_new(nodes: &Nodes) -> u64 {
    let mut dropped = 0;
    for number in NODES {
        for why in ["repeated", "untimely"] {
            let metric = format!("zajil_gossip_packets_dropped_total{{reason=\"{why}\"}}");
            dropped += count(nodes, number, &metric).await;
        }
    }
    dropped
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_that_comes_late_and_again_changes_nothing_and_is_taken_once() -> Result<()> {
    let mut dice = dice("cluster_network, muddled gossip");
    let Some((network, nodes)) = on_a_network("network muddled").await? else {
        return Ok(());
    };
    let customers = Customers::start(&nodes, &mut dice);
    customers.await_answers(&NODES, 20).await;
    let (before, dropped) = (moves(&nodes).await, not_new(&nodes).await);

    // In the long form some of it comes again when it is too old for anybody to remember.
    let latest = short_or_long(seconds(4), seconds(35));
    let muddle = network.muddle(latest, &mut dice).await?;
    tokio::time::sleep(short_or_long(seconds(10), seconds(120))).await;
    customers.await_answers(&NODES, 20).await;
    let done = network.straighten(muddle).await?;

    println!("{done:?}");
    assert!(done.overtaken > 0 && done.again > 0, "{done:?}");
    until("what came again is dropped", FOUND_WITHIN, async || {
        (not_new(&nodes).await - dropped >= done.again).then_some(())
    })
    .await;
    let dropped = not_new(&nodes).await - dropped;
    assert_eq!(
        dropped, done.again,
        "something that came late was dropped, too"
    );
    assert_eq!(moves(&nodes).await, before, "shards moved");
    for node in NODES {
        await_dead(&nodes, node, 0).await;
    }
    customers.await_answers(&NODES, 10).await;
    customers.stop().await;
    // No frame is excused: each went out once.
    balance_the_books(&nodes).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_from_the_database_stops_in_time_and_others_take_over() -> Result<()> {
    let mut dice = dice("cluster_network, database");
    let Some((network, mut nodes)) = on_a_network("network database").await? else {
        return Ok(());
    };
    let customers = Customers::start(&nodes, &mut dice);

    for round in 0..short_or_long(1, 4) {
        customers.await_answers(&NODES, 20).await;
        let instance = nodes.instances[round % nodes.instances.len()];
        let owner = nodes.owner(instance).await;
        let (cut, since) = (wall_micros(), Stopwatch::start());
        network.cut(Cut::Database(owner)).await?;

        let stopped = await_standstill(&nodes, owner, since).await;
        let frames = count(&nodes, owner, "zajil_transport_frames_total").await;
        let taker = await_taker(&nodes, instance, &others(owner)).await;
        let taken = since.elapsed();
        was_dark(&mut nodes, cut);
        customers.await_answers(&others(owner), 20).await;
        let later = count(&nodes, owner, "zajil_transport_frames_total").await;
        println!("node {owner} stopped after {stopped:?}, node {taker} took over after {taken:?}");
        assert!(stopped < GOOD_FOR, "it stopped after {stopped:?}");
        assert!(taken > stopped, "it was taken over after {taken:?}");
        assert_eq!(later, frames, "frames that left after the lease");
        network.heal(Cut::Database(owner)).await?;

        swizzle(&network, &mut nodes, &mut dice).await?;
        nodes.await_balanced(FOUND_WITHIN).await;
    }
    customers.await_answers(&NODES, 20).await;
    customers.stop().await;
    balance_the_books(&nodes).await;
    Ok(())
}

/// Cuts all ways between nodes, and one node off from the database, one by one; mends them one by
/// one in another order.
async fn swizzle(network: &Network, nodes: &mut Nodes, dice: &mut StdRng) -> Result<()> {
    let from = wall_micros();
    let ways = |from: u8| others(from).into_iter().map(move |to| Cut::Way(from, to));
    let mut cuts: Vec<_> = NODES.into_iter().flat_map(ways).collect();
    cuts.push(Cut::Database(NODES[0]));
    cuts.shuffle(dice);
    for cut in &cuts {
        network.cut(*cut).await?;
        tokio::time::sleep(short_or_long(millis(800), seconds(2))).await;
    }
    cuts.shuffle(dice);
    for cut in &cuts {
        network.heal(*cut).await?;
        tokio::time::sleep(short_or_long(millis(800), seconds(2))).await;
    }
    was_dark(nodes, from);
    Ok(())
}
