//! A flush that fails, whoever asked for it, ends the store: a later one would skip what it took.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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

fn key() -> RowKey {
    RowKey::new(Table::Meta, "kept", Vec::new())
}

#[tokio::test]
async fn a_failed_flush_of_a_backup_ends_the_store_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    let on_fatal = move |_: &str| {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let usual = EmbeddedConfig::new(dir.path(), Arc::new(Still), Arc::new(on_fatal));
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
