//! Keys change while all go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;
use zajil_cluster::membership::Membership;
use zajil_cluster::metrics::gossip::Dropped;

use crate::support::{node, ring, rounds, sees, three, until};

#[tokio::test]
async fn keys_are_changed_in_three_steps_without_losing_anybody() {
    let nodes = three().await;
    let fewest = Arc::new(AtomicUsize::new(2));
    let mut watching = JoinSet::new();
    for mut views in nodes.each_ref().map(|node| node.changed()) {
        let fewest = Arc::clone(&fewest);
        watching.spawn(async move {
            while views.changed().await.is_ok() {
                fewest.fetch_min(views.borrow_and_update().len(), Ordering::Relaxed);
            }
        });
    }

    for keys in [&[1, 2][..], &[2, 1], &[2]] {
        for node in &nodes {
            node.change_keys(ring(keys));
            // The others are still a step behind.
            rounds(3).await;
        }
    }
    let mut late = node(4, &[nodes[0].address()]);
    late.keys = vec![2];
    let late = late.go().await;
    until("a node with the new key joins", || late.peers().len() == 3).await;

    for node in &nodes {
        assert_eq!(
            Dropped::ALL.map(|why| node.drops(why)),
            [0; Dropped::ALL.len()]
        );
    }
    assert_eq!(fewest.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_key_that_was_removed_opens_nothing_any_more() {
    let [one, two, three] = three().await;

    for node in [&one, &two] {
        node.change_keys(ring(&[2]));
    }

    until("the one with the old key is missed", || {
        !sees(&one, 3) && !sees(&two, 3)
    })
    .await;
    assert!(one.drops(Dropped::Key) > 0 && three.drops(Dropped::Key) > 0);
    assert!(sees(&one, 2) && sees(&two, 1));
}
