//! What is dropped, and that it harms nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use zajil_cluster::membership::Membership;
use zajil_cluster::membership::gossip::Gossip;
use zajil_cluster::membership::seal::OVERHEAD;
use zajil_cluster::metrics::gossip::Dropped;

use crate::support::{Start, hear, node, rounds, sees, tap, until};

/// Two good nodes, and one that is made by `change` and seeks the first.
async fn with_a_stranger(change: impl FnOnce(&mut Start)) -> ([Arc<Gossip>; 2], Arc<Gossip>) {
    let one = node(1, &[]).go().await;
    let two = node(2, &[one.address()]).go().await;
    let mut stranger = node(3, &[one.address()]);
    change(&mut stranger);
    let stranger = stranger.go().await;
    until("the good ones see each other", || {
        sees(&one, 2) && sees(&two, 1)
    })
    .await;
    ([one, two], stranger)
}

async fn is_kept_out(why: Dropped, change: impl FnOnce(&mut Start)) {
    let ([one, two], stranger) = with_a_stranger(change).await;

    until("what it sends is counted", || one.drops(why) > 2).await;

    assert!(!sees(&one, 3) && !sees(&two, 3) && stranger.peers().is_empty());
    assert!(sees(&one, 2) && sees(&two, 1));
    for other in Dropped::ALL.into_iter().filter(|other| *other != why) {
        assert_eq!(one.drops(other), 0, "{}", other.label());
    }
    assert!(Dropped::ALL.iter().all(|why| two.drops(*why) == 0));
}

#[tokio::test]
async fn a_node_of_another_cluster_is_kept_out() {
    is_kept_out(Dropped::Cluster, |stranger| stranger.cluster = "away").await;
}

#[tokio::test]
async fn a_node_with_another_key_is_kept_out() {
    is_kept_out(Dropped::Key, |stranger| stranger.keys = vec![2]).await;
}

#[tokio::test]
async fn a_node_with_a_clock_an_hour_off_is_kept_out() {
    is_kept_out(Dropped::Untimely, |stranger| {
        stranger.clock.wrong_by.store(-3_600, Ordering::Relaxed);
    })
    .await;
}

#[tokio::test]
async fn a_copy_of_a_node_is_kept_out_by_the_node_itself() {
    is_kept_out(Dropped::Own, |stranger| {
        stranger.node = 1;
    })
    .await;
}

#[tokio::test]
async fn a_captured_datagram_counts_once_and_a_changed_one_never() {
    let (tap, tapped) = tap().await;
    let one = node(1, &[]).go().await;
    let two = node(2, &[one.address(), tapped]).go().await;
    until("they see each other", || sees(&one, 2) && sees(&two, 1)).await;
    let captured = hear(&tap).await;
    let mut forged = hear(&tap).await;
    *forged.last_mut().unwrap() ^= 1;
    let send = async |datagram: &[u8]| tap.send_to(datagram, one.address()).await.unwrap();

    // The first time it is news to this node, as it was sent elsewhere.
    send(&captured).await;
    rounds(1).await;
    assert_eq!(one.drops(Dropped::Repeated), 0);
    for _ in 0..5 {
        send(&captured).await;
        send(&forged).await;
        send(b"junk").await;
        send(&forged[..OVERHEAD - 1]).await;
    }

    until("all are counted", || {
        let drops = [Dropped::Repeated, Dropped::Forged, Dropped::Length];
        drops.map(|why| one.drops(why)) == [5, 5, 10]
    })
    .await;
    assert!(sees(&one, 2) && sees(&two, 1));
}

#[tokio::test]
async fn a_datagram_sent_back_to_its_sender_is_dropped() {
    let (tap, tapped) = tap().await;
    let two = node(2, &[tapped]).go().await;

    let captured = hear(&tap).await;
    tap.send_to(&captured, two.address()).await.unwrap();

    until("it is counted", || two.drops(Dropped::Own) == 1).await;
    assert!(two.peers().is_empty());
}

#[tokio::test]
async fn a_flood_of_forged_datagrams_does_not_part_the_others() {
    let (tap, tapped) = tap().await;
    let one = node(1, &[]).go().await;
    let two = node(2, &[one.address(), tapped]).go().await;
    until("they see each other", || sees(&one, 2) && sees(&two, 1)).await;
    let mut forged = hear(&tap).await;
    *forged.last_mut().unwrap() ^= 1;
    let mut views = one.changed();
    views.mark_unchanged();

    for _ in 0..200 {
        for _ in 0..100 {
            tap.send_to(&forged, one.address()).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    rounds(4).await;

    assert!(one.drops(Dropped::Forged) > 1_000);
    assert!(!views.has_changed().unwrap() && sees(&one, 2) && sees(&two, 1));
}
