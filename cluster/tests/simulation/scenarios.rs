//! What the cluster does when one thing happens: each a sentence of the design, with its time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use zajil_cluster::{Cluster, Ended, Place};
use zajil_model::barrier::Confirmations;
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::{NodeId, NodeState, Standing};

use crate::nemesis::Nemesis;
use crate::store::Way;
use crate::world::{SHARDS, World};

const FIRST: NodeId = NodeId(1);

fn shards() -> impl Iterator<Item = Shard> {
    Shard::all().take(usize::from(SHARDS))
}

fn owners(world: &World) -> BTreeMap<Shard, (NodeId, Epoch)> {
    let rows = world.store.shards();
    let owner = |(shard, row): (Shard, zajil_model::lease::shard::ShardRow)| {
        Some((shard, (row.owner?.node, row.epoch)))
    };
    rows.into_iter().filter_map(owner).collect()
}

/// Whether every shard is served by a node other than this one.
fn served_by_others(world: &World, but: NodeId) -> bool {
    let others = || world.nodes.values().filter(|process| process.node != but);
    shards().all(|shard| others().any(|process| process.worker.can_send(shard).is_some()))
}

fn serves(world: &World, node: NodeId) -> usize {
    let worker = &world.nodes[&node].worker;
    shards()
        .filter(|shard| worker.can_send(*shard).is_some())
        .count()
}

#[tokio::test(start_paused = true)]
async fn the_shards_of_a_crashed_node_are_served_by_the_others_within_ten_seconds() {
    let mut cluster = Nemesis::quiet(3).await;

    cluster.world.nodes[&FIRST].kill.cancel();
    let others = |world: &World| served_by_others(world, FIRST);
    let took = cluster.until(Duration::from_secs(10), others).await;

    assert!(
        took > Duration::from_secs(5),
        "its lease was still good after {took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_restarts_in_its_own_folder_is_back_at_once_with_its_shards() {
    let mut cluster = Nemesis::quiet(3).await;
    let before = serves(&cluster.world, FIRST);

    cluster.world.nodes[&FIRST].kill.cancel();
    cluster.pass(Duration::from_secs(1)).await;
    cluster.start(FIRST);
    let back = |world: &World| serves(world, FIRST) == before;
    cluster.until(Duration::from_secs(3), back).await;

    assert!(before > 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_told_to_leave_gives_everything_away_and_its_lease_back() {
    let mut cluster = Nemesis::quiet(3).await;
    let process = cluster.world.nodes[&FIRST].clone();
    let given = serves(&cluster.world, FIRST);

    let drained = cluster
        .world
        .tasks
        .spawn(async move { process.cluster.drain(Duration::from_secs(20)).await });
    let others = |world: &World| served_by_others(world, FIRST);
    let took = cluster.until(Duration::from_secs(20), others).await;
    let report = drained.await.unwrap();

    assert!(took < Duration::from_secs(5), "it took {took:?}");
    assert_eq!((report.given, report.cut), (given, 0));
    let lease = cluster.world.store.lease(FIRST).unwrap();
    assert_eq!(lease.state, NodeState::Dead);
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_answers_are_there_does_not_stand_behind_those_that_still_send() {
    let mut cluster = Nemesis::quiet(1).await;
    let process = cluster.world.nodes[&FIRST].clone();
    let slow = Duration::from_millis(200);
    process.worker.silence.lock().answers_take = slow;

    let worker = process.worker.clone();
    let drain = async move { process.cluster.drain(Duration::from_secs(20)).await };
    let drained = cluster.world.tasks.spawn(drain);
    cluster.pass(Duration::from_secs(5)).await;

    assert_eq!(drained.await.unwrap().cut, 0);
    let longest = worker.silence.lock().longest;
    assert!(longest < Duration::from_millis(50), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn the_last_node_that_leaves_keeps_nobody_waiting() {
    let cluster = Nemesis::quiet(1).await;

    let report = cluster.world.nodes[&FIRST]
        .cluster
        .drain(Duration::from_secs(20))
        .await;

    assert_eq!((report.given, report.cut), (usize::from(SHARDS), 0));
    assert!(
        cluster
            .world
            .store
            .shards()
            .values()
            .all(|row| row.owner.is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_gets_its_share_within_a_minute_and_nothing_else_moves() {
    let mut cluster = Nemesis::quiet(2).await;
    let before = owners(&cluster.world);

    cluster.start(NodeId(3));
    let even = |world: &World| world.unsettled().is_none();
    cluster.until(Duration::from_secs(60), even).await;

    let after = owners(&cluster.world);
    let moved = shards().filter(|shard| before[shard].0 != after[shard].0);
    assert!(
        moved
            .map(|shard| after[&shard].0)
            .all(|owner| owner == NodeId(3))
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_process_of_one_name_is_refused_and_the_first_goes_on() {
    let mut cluster = Nemesis::quiet(2).await;
    let before = owners(&cluster.world);

    let twin = cluster.world.start_twin(FIRST);
    let refused = |_: &World| !twin.runs();
    cluster.until(Duration::from_secs(10), refused).await;

    assert_eq!(twin.cluster.ended().await, Err(Ended::Twin(FIRST)));
    let why = twin.cluster.status().not_ready;
    assert!(why[0].contains("a copied data folder"), "{why:?}");
    cluster.pass(Duration::from_secs(10)).await;
    assert_eq!(owners(&cluster.world), before);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_reaches_the_store_nobody_sends_and_afterwards_nothing_has_moved() {
    let mut cluster = Nemesis::quiet(3).await;
    let before = owners(&cluster.world);

    for node in 1..=3 {
        cluster.world.store.way(NodeId(node), Way::Cut);
    }
    cluster.pass(Duration::from_secs(20)).await;
    let standings: Vec<Standing> = cluster
        .world
        .nodes
        .values()
        .map(|process| process.cluster.status().standing)
        .collect();
    cluster.world.store.calm();
    let back = |world: &World| world.unsettled().is_none();
    let took = cluster.until(Duration::from_secs(10), back).await;

    assert_eq!(standings, [Standing::Suspended; 3]);
    assert!(took < Duration::from_secs(4), "it took {took:?}");
    assert_eq!(owners(&cluster.world), before);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_gossip_does_not_hear_keeps_its_shards_while_it_renews() {
    let mut cluster = Nemesis::quiet(3).await;
    let before = owners(&cluster.world);

    cluster.unheard(FIRST);
    cluster.pass(Duration::from_secs(40)).await;

    assert_eq!(owners(&cluster.world), before);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_is_an_hour_off_gives_its_shards_away_and_says_why() {
    let mut cluster = Nemesis::quiet(2).await;
    let process = cluster.world.nodes[&FIRST].clone();

    process.clock.wall_off(3_600);
    let others = |world: &World| served_by_others(world, FIRST);
    cluster.until(Duration::from_secs(15), others).await;

    let why = process.cluster.status().not_ready;
    assert!(why.iter().any(|why| why.contains("clock")), "{why:?}");
    process.clock.wall_off(0);
    let even = |world: &World| world.unsettled().is_none();
    cluster.until(Duration::from_secs(60), even).await;
}

#[tokio::test(start_paused = true)]
async fn a_released_shard_is_taken_by_the_next_in_line_when_the_named_one_does_not_hear_of_it() {
    let mut cluster = Nemesis::quiet(3).await;

    cluster.world.network.cut.store(true, Ordering::Relaxed);
    let process = cluster.world.nodes[&FIRST].clone();
    cluster
        .world
        .tasks
        .spawn(async move { process.cluster.drain(Duration::from_secs(20)).await });
    let others = |world: &World| served_by_others(world, FIRST);
    cluster.until(Duration::from_secs(20), others).await;
    cluster.pass(Duration::from_secs(1)).await;

    let edge = cluster.world.nodes[&NodeId(2)].cluster.ownership();
    assert!(shards().all(|shard| matches!(edge.place(shard), Place::Here(_) | Place::There(..))));
}

/// Who has to confirm a barrier now.
async fn confirm(cluster: &Cluster) -> BTreeSet<NodeId> {
    let rows = cluster.lease_rows().await.expect("the store answers");
    let asked = Confirmations::wanted(&rows);
    asked.missing().map(|(node, _)| node).collect()
}

#[tokio::test(start_paused = true)]
async fn a_barrier_waits_for_exactly_the_nodes_whose_lease_lives() {
    let mut cluster = Nemesis::quiet(3).await;
    let other = cluster.world.nodes[&NodeId(2)].cluster.clone();
    let all = confirm(&other).await;

    cluster.world.nodes[&FIRST].kill.cancel();
    cluster.pass(Duration::from_secs(2)).await;
    let unreachable = confirm(&other).await;
    cluster.pass(Duration::from_secs(9)).await;
    let dead = confirm(&other).await;

    assert_eq!(all, [1, 2, 3].map(NodeId).into());
    assert_eq!(unreachable, all);
    assert_eq!(dead, [2, 3].map(NodeId).into());
    assert_eq!(other.ownership().nodes(), dead);
}
