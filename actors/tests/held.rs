//! A store that was filled from a copy: nothing of it is sent before an operator says so, on any
//! node, and nobody serves one that was filled by half.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::site::Site;
use support::{TokioClock, per_second, text};
use zajil_actors::engine::{Engine, Ports, StartError};
use zajil_actors::owners::{Sharing, StoreRows, free_shards};
use zajil_actors::send::EngineError;
use zajil_model::id::MessageId;
use zajil_model::lifecycle::Status;
use zajil_storage::transfer::{held_row, unfinished_row};
use zajil_storage::{MemoryStore, RowKey, RowWrite, Store};

const ANNA: &str = "+966501234567";

/// Two nodes over a store with a row, and a message that waits.
async fn two_nodes_held() -> (Site, MessageId) {
    // Later than everything that a test sends.
    let store = with(held_row(), &i64::MAX.to_string()).await;
    let mut site = Site::on(store, 2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(10.0)).await;
    let other = site.other(&instance);
    let sent = site.send(other, &instance, vec![text(ANNA, "hello")]).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(site.whatsapp.frames().len(), 0);
    (site, sent.expect("a held node accepts").first)
}

async fn with(key: RowKey, value: &str) -> Arc<dyn Store> {
    let store = MemoryStore::new();
    let row = RowWrite::put(key, value.into());
    let written = store.write(vec![row]).await;
    written.expect("a store in memory takes rows");
    Arc::new(store)
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_is_ended_at_one_node_is_ended_at_all() {
    let (site, waits) = two_nodes_held().await;

    assert_eq!(site.engine(1).release(true).await, Ok(0));

    site.becomes(waits, Status::Sent).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!site.engine(1).is_held() && !site.engine(2).is_held());
    assert_eq!(site.whatsapp.frames().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_waited_is_settled_by_a_node_that_owns_everything_and_by_no_other() {
    let (mut site, waits) = two_nodes_held().await;

    let by_one_of_two = site.engine(1).release(false).await;
    site.drain(2).await;
    site.balanced().await;
    let by_the_last = site.engine(1).release(false).await;

    assert!(matches!(by_one_of_two, Err(EngineError::Unavailable(_))));
    assert_eq!(by_the_last, Ok(1));
    site.becomes(waits, Status::Unknown).await;
    assert_eq!(site.whatsapp.frames().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_serves_a_store_whose_import_was_cut() {
    let store = with(unfinished_row(), "1").await;

    let started = Engine::start(Ports {
        store,
        clock: Arc::new(TokioClock::new()),
        transports: Vec::new(),
        sharing: Sharing::alone(),
        seed: 1,
    });

    assert!(matches!(started.await, Err(StartError::Unfinished)));
}

#[tokio::test(start_paused = true)]
async fn shards_that_an_import_left_are_taken_by_the_first_nodes() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    store.write(free_shards()).await.unwrap();
    for shard in zajil_model::id::Shard::all() {
        store.open_shard(shard, None).await.unwrap();
    }

    let mut site = Site::on(store, 2).await;
    let account = site.account().await;
    let instance = site.instance(account, "shop", per_second(10.0)).await;
    let sent = site.send(1, &instance, vec![text(ANNA, "hello")]).await;

    site.becomes(sent.unwrap().first, Status::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_renews_its_lease_is_told_from_one_that_is_gone() {
    let mut site = Site::new(2).await;
    let rows = StoreRows::new(site.store.clone(), site.clock.clone());

    let both = rows.leases().await.unwrap();
    let living = rows.living(&both).await.unwrap();
    site.kill(1);
    site.drain(2).await;
    let left = rows.leases().await.unwrap();
    let gone = rows.living(&left).await.unwrap();

    assert!(both.iter().any(|(member, _)| Some(*member) == living));
    assert_eq!(both.len(), 2);
    let named: Vec<u64> = left.iter().map(|(member, _)| member.node.0).collect();
    assert_eq!((named, gone), (vec![1], None));
}
