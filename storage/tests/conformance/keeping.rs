//! What only a store on disk promises: one process, backups, restores.

use std::fs;
use std::sync::Arc;

use zajil_model::lifecycle::Event;
use zajil_model::message::Queue;
use zajil_storage::{
    Budgets, EmbeddedConfig, EmbeddedStore, MemoryStore, OpenError, RestoreError, RowKey,
    StageError, Table, restore,
};

use crate::compare::same;
use crate::model::Naive;
use crate::world::{Kind, SMALL, START, Still, World, message, open_embedded, runtime};

#[test]
fn a_second_store_on_the_same_directory_is_refused() {
    let world = World::new(Kind::Embedded(Budgets::default()));

    let config = EmbeddedConfig::new(world.dir.path(), Arc::new(Still), Arc::new(|_| {}));
    let second = EmbeddedStore::open(config);

    let error = second.err().unwrap();
    assert!(matches!(error, OpenError::InUse(_)));
    assert!(
        error
            .to_string()
            .contains("already used by another process")
    );
}

#[test]
fn a_backup_taken_while_the_store_works_restores_to_the_same_answers() {
    runtime().block_on(async {
        let mut world = World::new(Kind::Embedded(SMALL));
        let mut naive = Naive::default();
        for n in 0..30_u64 {
            let chunk = world.chunk(n % 3, Queue::Normal, (0..40).map(message).collect());
            naive.accept(&chunk);
            world.accept(n % 3, &chunk).await;
            let at = world.now;
            let (id, event) = (chunk.id(5), Event::Attempt(1));
            naive.outcome(zajil_model::lifecycle::Outcome { id, at, event });
            world.tell(n % 3, vec![(id, event)]).await;
        }
        let old = world.epoch(crate::world::instance(1).shard()).await;
        let target = tempfile::tempdir().unwrap();
        let (file, dir) = (target.path().join("copy.bak"), target.path().join("data"));

        world.store.backup(&file).await.unwrap();
        let late = world.chunk(1, Queue::High, vec![message(99)]);
        world.accept(1, &late).await;
        restore(&file, &dir, Arc::new(Still)).unwrap();

        world.store = Arc::new(open_embedded(&dir, SMALL));
        same(&world, &naive).await;
        assert!(world.store.message(late.first).await.unwrap().is_none());
        assert!(world.epoch(crate::world::instance(1).shard()).await > old);
        let key = RowKey::new(Table::Meta, "restored", Vec::new());
        let row = world.store.row(&key).await.unwrap().unwrap();
        assert_eq!(row.value, START.as_micros().to_string().into_bytes());
        world.store = Arc::new(MemoryStore::new());
    });
}

#[test]
fn a_restore_into_a_directory_with_something_in_it_is_refused() {
    runtime().block_on(async {
        let world = World::new(Kind::Embedded(SMALL));
        let target = tempfile::tempdir().unwrap();
        let file = target.path().join("copy.bak");
        world.store.backup(&file).await.unwrap();

        let refused = restore(&file, target.path(), Arc::new(Still));

        assert!(matches!(
            refused,
            Err(RestoreError::Target(StageError::NotEmpty(_)))
        ));
    });
}

#[test]
fn a_damaged_or_foreign_backup_leaves_nothing_behind() {
    runtime().block_on(async {
        let mut world = World::new(Kind::Embedded(SMALL));
        let chunk = world.chunk(1, Queue::Normal, vec![message(1)]);
        world.accept(1, &chunk).await;
        let target = tempfile::tempdir().unwrap();
        let file = target.path().join("copy.bak");
        world.store.backup(&file).await.unwrap();
        let good = fs::read(&file).unwrap();
        let dir = target.path().join("data");
        let try_restore = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            restore(&file, &dir, Arc::new(Still))
        };

        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let damaged = try_restore(&flipped);
        let short = try_restore(&good[..good.len() - 30]);
        let mut newer = good.clone();
        newer[8] = 9;
        let newer = try_restore(&newer);
        let foreign = try_restore(b"something else entirely");

        assert!(matches!(damaged, Err(RestoreError::Damaged { .. })));
        assert!(matches!(short, Err(RestoreError::Damaged { .. })));
        assert!(matches!(newer, Err(RestoreError::Version { found: 9 })));
        assert!(matches!(foreign, Err(RestoreError::NotABackup(_))));
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
        assert!(try_restore(&good).is_ok());
    });
}
