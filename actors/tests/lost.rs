//! A node that lost its lease drops what it owned, and goes on, whatever the database does.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::site::Site;
use support::trouble::TroubledStore;
use support::{per_second, text};
use tokio::time::{sleep, timeout};
use zajil_actors::owners::StoreRows;
use zajil_actors::send::AcceptError;
use zajil_cluster::{Cas, Rows};
use zajil_model::id::Shard;
use zajil_model::lease::{NodeId, NodeRow, NodeState, SEND_FOR};
use zajil_model::lifecycle::Status;

const ANNA: &str = "+966501234567";

/// Far longer than a node takes to join, and far shorter than any hang.
const SOON: Duration = Duration::from_secs(15);

/// The lease row of a node.
async fn lease(site: &Site, node: u64) -> NodeRow {
    let rows = StoreRows::new(site.store.clone(), site.clock.clone());
    let row = rows.read_lease(NodeId(node)).await;
    row.expect("the store answers").expect("it joined")
}

/// A peer declares the present life of a node dead.
async fn declared_dead(site: &Site, node: u64) {
    let rows = StoreRows::new(site.store.clone(), site.clock.clone());
    let row = lease(site, node).await;
    let dead = row.declared_dead(&row).expect("it lives");
    let told = rows.cas_lease(NodeId(node), Some(row), dead);
    assert!(matches!(told.await, Cas::Applied));
}

/// Waits until a node has a life after the dead one.
async fn joins_again(site: &Site, node: u64) {
    while lease(site, node).await.state == NodeState::Dead {
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_partition_that_hangs_keeps_no_node_from_joining_again() {
    let trouble = Arc::new(TroubledStore::default());
    let mut site = Site::on(trouble.clone(), 2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(10.0)).await;
    let (owner, shard) = (site.owner(&instance), instance.id.shard());
    let sent = site.send(owner, &instance, vec![text(ANNA, "first")]).await;
    site.becomes(sent.unwrap().first, Status::Sent).await;
    trouble.hang(Some(shard));
    let asked = site.send(owner, &instance, vec![text(ANNA, "hello")]).await;
    assert_eq!(asked, Err(AcceptError::OutcomeUnknown));

    declared_dead(&site, owner).await;
    let joined = timeout(SOON, joins_again(&site, owner)).await;

    assert!(joined.is_ok(), "it waits for the partition that hangs");
    trouble.hang(None);
    site.balanced().await;
    let sent = site.send(owner, &instance, vec![text(ANNA, "again")]).await;
    site.becomes(sent.unwrap().first, Status::Sent).await;
    assert_eq!(
        site.whatsapp.texts(),
        ["first", "again"],
        "what hung counts nowhere"
    );
}

#[tokio::test(start_paused = true)]
async fn ids_that_are_being_asked_for_keep_no_shard_from_being_dropped() {
    let trouble = Arc::new(TroubledStore::default());
    let mut site = Site::on(trouble.clone(), 1).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(10.0)).await;
    let shard: Shard = instance.id.shard();
    site.send(1, &instance, vec![text(ANNA, "hello")])
        .await
        .unwrap();
    let engine = site.engine(1).clone();
    let epoch = engine.ownership().epoch(shard).unwrap();
    trouble.hang(Some(shard));
    sleep(Duration::from_secs(600)).await;
    let waits = site.send(1, &instance, vec![text(ANNA, "again")]);
    drop(timeout(Duration::from_secs(1), waits).await);

    let shards = engine.shards().shared();
    let dropped = timeout(Duration::from_secs(1), shards.lost(shard, epoch)).await;

    assert!(dropped.is_ok(), "it waits for ids");
}

#[tokio::test(start_paused = true)]
async fn what_was_armed_when_the_lease_lapsed_is_sent_once_it_is_good_again() {
    let trouble = Arc::new(TroubledStore::default());
    let mut site = Site::on(trouble.clone(), 1).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(1.0)).await;
    let taken = site.send(1, &instance, vec![text(ANNA, "armed")]).await;
    let sent = taken.unwrap().first;
    trouble.appends_wait();
    while trouble.appends_waiting() == 0 {
        sleep(Duration::from_millis(10)).await;
    }

    trouble.take_leases_away(true);
    sleep(SEND_FOR).await;
    trouble.appends_go_on();
    sleep(Duration::from_millis(100)).await;
    assert!(site.whatsapp.frames().is_empty(), "nobody may send");
    trouble.take_leases_away(false);
    // The lease is asked for again within a second, and the instance looks as soon.
    let sent = timeout(Duration::from_secs(3), site.becomes(sent, Status::Sent)).await;

    assert!(sent.is_ok(), "the instance sleeps");
}
