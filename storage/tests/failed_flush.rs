//! A flush that fails, whoever asked for it, ends the store: a later one would skip what it took. So
//! does a panic of a thread of the store.
#![expect(clippy::unwrap_used, reason = "a failure is a panic")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use zajil_model::time::{Clock, Mono, Timestamp};
use zajil_storage::embedded::log::Failpoints;
use zajil_storage::embedded::{EmbeddedConfig, EmbeddedStore};
use zajil_storage::{Health, RowKey, RowWrite, Store, StoreError, Table};

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000)
    }

    fn mono(&self) -> Mono {
        Mono::from_nanos(0)
    }
}

/// A store in a directory, and how often it told that it ended by a failure.
fn usual(dir: &Path) -> (EmbeddedConfig, Arc<AtomicU32>) {
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    let on_fatal = move |_: &str| {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let usual = EmbeddedConfig::new(dir, Arc::new(Still), Arc::new(on_fatal));
    (usual, told)
}

fn key() -> RowKey {
    RowKey::new(Table::Meta, "kept", Vec::new())
}

#[tokio::test]
async fn a_failed_flush_of_a_backup_ends_the_store_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (usual, told) = usual(dir.path());
    let once = AtomicU32::new(0);
    let failpoints = Failpoints::new(move |step| {
        let fails = step == Failpoints::FLUSH && once.fetch_add(1, Ordering::SeqCst) == 0;
        if fails {
            Err(io::Error::other("the disk is gone"))
        } else {
            Ok(())
        }
    });
    let store = EmbeddedStore::open(EmbeddedConfig {
        failpoints,
        ..usual.clone()
    })
    .unwrap();
    store
        .write(vec![RowWrite::put(key(), b"value".to_vec())])
        .await
        .unwrap();

    store.backup(&dir.path().join("backup")).await.unwrap_err();

    assert_eq!(told.load(Ordering::SeqCst), 1);
    assert!(
        matches!(store.health(), Health::Failed(_)),
        "{:?}",
        store.health()
    );
    let refused = store
        .write(vec![RowWrite::put(key(), b"later".to_vec())])
        .await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    drop(store);
    let store = EmbeddedStore::open(usual).unwrap();
    assert_eq!(store.row(&key()).await.unwrap().unwrap().value, b"value");
}

/// Closes a store; fails when it takes longer than any close.
fn close(store: Arc<EmbeddedStore>) -> Result<(), StoreError> {
    let (reply, closed) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let closed = runtime.unwrap().block_on(store.close());
        drop(store);
        reply.send(closed)
    });
    closed
        .recv_timeout(Duration::from_secs(20))
        .expect("it ends")
}

/// A thread of the store panics at a step, while a value is written that is too large to be applied
/// beside the log.
async fn panics_at(step: &'static str) {
    let dir = tempfile::tempdir().unwrap();
    let (usual, told) = usual(dir.path());
    let armed = Arc::new(AtomicBool::new(false));
    let trap = Arc::clone(&armed);
    let failpoints = Failpoints::new(move |reached| {
        assert!(reached != step || !trap.load(Ordering::SeqCst), "a bug");
        Ok(())
    });
    let store = EmbeddedStore::open(EmbeddedConfig {
        failpoints,
        ..usual.clone()
    });
    let store = Arc::new(store.unwrap());
    let put = |value| vec![RowWrite::put(key(), value)];
    store.write(put(b"before".to_vec())).await.unwrap();
    let large = vec![7; 64 << 10];

    armed.store(true, Ordering::SeqCst);
    // Who waits for it learns that nobody knows, or that it is durable.
    let written = store.write(put(large.clone())).await;
    assert!(
        matches!(written, Err(StoreError::Closed) | Ok(_)),
        "{written:?}"
    );
    for _ in 0..1_000 {
        if told.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    assert!(
        matches!(store.health(), Health::Failed(_)),
        "{:?}",
        store.health()
    );
    let refused = store.write(put(b"later".to_vec())).await;
    assert_eq!(refused, Err(StoreError::Closed));
    let closed = close(store).unwrap_err().to_string();
    assert!(closed.contains("panicked"), "{closed}");
    assert_eq!(told.load(Ordering::SeqCst), 1);
    let store = EmbeddedStore::open(usual).unwrap();
    assert_eq!(store.row(&key()).await.unwrap().unwrap().value, large);
}

#[tokio::test]
async fn a_panic_while_records_are_applied_ends_the_store_and_loses_nothing() {
    panics_at(Failpoints::APPLY).await;
}

#[tokio::test]
async fn a_panic_of_a_flush_ends_the_store_and_loses_nothing() {
    panics_at(Failpoints::FLUSH).await;
}
