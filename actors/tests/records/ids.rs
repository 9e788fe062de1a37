//! Ids are given once, whatever happens to the node.

use std::collections::BTreeSet;

use zajil_model::id::{ContactId, Shard};
use zajil_model::time::Clock;

use crate::support::{Node, seconds};

#[tokio::test]
async fn no_id_is_given_twice_across_a_crash_and_a_clock_that_jumps_back() {
    let node = Node::new();
    let mut given = BTreeSet::new();

    for _ in 0..3 {
        let node = node.restarted();
        for _ in 0..50 {
            let id: ContactId = node.ids.give().await.unwrap();
            assert!(given.insert(id), "{id} was given before");
        }
    }
}

#[tokio::test]
async fn the_fast_way_gives_nothing_before_the_shard_is_open_and_then_never_waits() {
    let node = Node::new();
    let shard = Shard::of(42);
    assert_eq!(node.clocks.take(shard, 1, node.clock.now()), None);

    node.clocks.ensure(shard, 1).await.unwrap();

    for _ in 0..600 {
        assert!(node.clocks.take(shard, 100, node.clock.now()).is_some());
        node.clock.pass(seconds(1));
        node.settle().await;
    }
}

#[tokio::test]
async fn many_ids_at_once_raise_the_ceiling_as_far_as_they_need() {
    let node = Node::new();
    let shard = Shard::of(42);

    let (first, _) = node.clocks.give(shard, 1_000_000).await.unwrap();
    let (second, _) = node.clocks.give(shard, 1_000_000).await.unwrap();

    assert!(second.0 >= first.0 + 1_000_000);
}
