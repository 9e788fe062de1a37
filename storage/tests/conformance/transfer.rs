//! What is exported from one store and imported into another reads the same there, and goes on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use zajil_model::id::{Shard, Tick};
use zajil_model::lifecycle::Event;
use zajil_model::message::Queue;
use zajil_storage::cql::SHARD_BUDGETS;
use zajil_storage::transfer::{
    self, Checked, Feeds, Import, ImportError, Source, held_row, unfinished_row, wa_key_row,
};
use zajil_storage::{
    Budgets, CqlConfig, CqlStore, Cursor, EmbeddedConfig, EmbeddedStore, MemoryStore, Row, RowKey,
    RowWrite, StatusChange, Store, Table,
};

use crate::compare::same;
use crate::history::{Both, Step, step};
use crate::model::Naive;
use crate::world::{
    Ending, Kind, SMALL, START, Still, World, account, database, instance, keyspace, message,
    runtime,
};

/// A store to be filled and exported.
pub(crate) struct Origin {
    pub(crate) both: Both,
    memory: Option<Arc<MemoryStore>>,
}

impl Origin {
    pub(crate) fn new(kind: Kind) -> Self {
        let mut world = World::new(kind);
        let memory = match kind {
            Kind::Memory(budgets) => Some(Arc::new(MemoryStore::with_budgets(budgets))),
            Kind::Embedded(_) | Kind::Cql(_) => None,
        };
        if let Some(memory) = &memory {
            world.store = memory.clone();
        }
        let naive = Naive::default();
        Self {
            both: Both { world, naive },
            memory,
        }
    }

    /// Some rows: those of a store that was at work, and some that do not travel.
    pub(crate) async fn fill_rows(&self) -> Vec<Row> {
        let row = |table, partition: &str, sort: &str, value: &str| Row {
            key: RowKey::new(table, partition, sort),
            value: value.into(),
        };
        let travels = vec![
            Row {
                key: wa_key_row(),
                value: vec![7; 32],
            },
            row(Table::Accounts, "", "an account", "its value"),
            row(Table::Contacts, "an account", "ali", "Ali"),
            row(Table::Contacts, "an account", "badr", ""),
            row(Table::Audit, "an account", "line", "somebody did something"),
            row(Table::Idempotency, "a key", "", "an answer"),
            row(Table::Checkpoints, "an instance", "", "its pace"),
            row(Table::DayCaps, "an instance", "", "its day"),
        ];
        let stays = [
            row(Table::Leases, "a node", "", "its lease"),
            row(Table::ShardOwners, "", "a shard", "its owner"),
            row(Table::Members, "", "a node", "where it is"),
        ];
        for Row { key, value } in travels.iter().chain(&stays).cloned() {
            let written = self.both.world.store.write(vec![RowWrite::put(key, value)]);
            written.await.unwrap();
        }
        travels
    }

    /// Ends whoever uses the store, as a crash does, and exports it.
    pub(crate) async fn export(&mut self, file: &Path) {
        let world = &mut self.both.world;
        world.store = Arc::new(MemoryStore::new());
        let now = world.now;
        match world.kind {
            Kind::Memory(_) => {
                let memory = self.memory.take().unwrap();
                world.store = memory.clone();
                write(&memory.source(), file, now);
            }
            Kind::Embedded(budgets) => {
                let store = embedded(world.dir.path(), budgets, 0);
                write(&store.source().unwrap(), file, now);
            }
            Kind::Cql(_) => {
                let store = cql(&keyspace(&world.dir));
                write(&store.source().await.unwrap(), file, now);
            }
        }
    }
}

fn write(source: &Source, file: &Path, now: zajil_model::time::Timestamp) {
    // A store in a database waits for it, which a test's own thread must not.
    std::thread::scope(|threads| {
        let written = threads.spawn(|| transfer::export(source, file, now, &mut |_| {}));
        written.join().unwrap().unwrap();
    });
}

fn embedded(dir: &Path, budgets: Budgets, log_begins: u64) -> EmbeddedStore {
    let fatal = Arc::new(|reason: &str| panic!("the store failed: {reason}"));
    let config = EmbeddedConfig {
        segment_bytes: 1 << 20,
        budgets,
        log_begins,
        ..EmbeddedConfig::new(dir, Arc::new(Still), fatal)
    };
    EmbeddedStore::open(config).unwrap()
}

fn cql(keyspace: &str) -> CqlStore {
    let contact_points = vec![database().unwrap()];
    let config = CqlConfig::new(contact_points, keyspace.to_owned(), Arc::new(Still));
    CqlStore::open(CqlConfig {
        replication: 1,
        ..config
    })
    .unwrap()
}

pub(crate) fn checked(file: &Path) -> Result<Checked, ImportError> {
    transfer::check(file, &mut |_| {})
}

/// Imports a checked file into a store.
pub(crate) async fn import(
    file: &Path,
    checked: &Checked,
    store: &Arc<dyn Store>,
    kind: Kind,
) -> Result<transfer::Counts, ImportError> {
    let import = Import {
        file,
        checked,
        store: store.clone(),
        name: "the store".to_owned(),
        feeds: match kind {
            Kind::Memory(_) | Kind::Embedded(_) => Feeds::One,
            Kind::Cql(_) => Feeds::OfEachShard,
        },
        rows: Vec::new(),
        now: START,
    };
    transfer::import(import, &mut |_| {}).await
}

/// A new store of a kind with what is in a file.
async fn imported(file: &Path, kind: Kind) -> World {
    let checked = checked(file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = match kind {
        Kind::Memory(budgets) => Arc::new(MemoryStore::with_budgets(budgets)),
        Kind::Embedded(budgets) => Arc::new(embedded(dir.path(), budgets, checked.feed_end)),
        Kind::Cql(_) => Arc::new(cql(&keyspace(&dir))),
    };
    let counts = import(file, &checked, &store, kind).await.unwrap();
    assert_eq!(counts, checked.counts);
    World {
        store,
        kind,
        dir,
        now: START,
        last: Tick(0),
    }
}

/// A file in a folder of its own.
pub(crate) fn file() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("everything");
    (folder, file)
}

fn moves(from: Kind, to: Kind, steps: &[Step], later: &[Step]) {
    runtime().block_on(async {
        let (_folder, file) = file();
        let mut origin = Origin::new(from);
        let rows = origin.fill_rows().await;
        for step in steps {
            origin.both.run(step).await;
        }

        origin.export(&file).await;
        let Both { world: old, naive } = origin.both;
        let mut world = imported(&file, to).await;
        (world.now, world.last) = (old.now, old.last);
        let mut both = Both { world, naive };

        same(&both.world, &both.naive).await;
        for row in rows {
            let found = both.world.store.row(&row.key).await.unwrap();
            assert_eq!(found, Some(row));
        }
        is_held(&both.world).await;
        both.world.reopen(Ending::Dropped).await;
        same(&both.world, &both.naive).await;
        for step in later {
            both.run(step).await;
        }
        same(&both.world, &both.naive).await;
    });
}

/// Nothing is sent before a release, no id is given twice, and nothing of the other store's inside
/// came along.
async fn is_held(world: &World) {
    let row = |key| world.store.row(key);
    let (held, unfinished) = (held_row(), unfinished_row());
    let at = row(&held).await.unwrap().unwrap().value;
    assert_eq!(at, START.as_micros().to_string().into_bytes());
    assert_eq!(row(&unfinished).await.unwrap(), None);
    let lease = RowKey::new(Table::Leases, "a node", "");
    assert_eq!(row(&lease).await.unwrap(), None);
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_moved_between_stores_in_memory_reads_the_same(
        steps in steps(50), later in steps(10)
    ) {
        moves(Kind::Memory(SMALL), Kind::Memory(SMALL), &steps, &later);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn what_is_moved_between_embedded_stores_reads_the_same(
        steps in steps(40), later in steps(10)
    ) {
        moves(Kind::Embedded(SMALL), Kind::Embedded(Budgets::default()), &steps, &later);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn what_is_moved_into_a_database_reads_the_same(steps in steps(30), later in steps(8)) {
        if database().is_some() {
            moves(Kind::Embedded(SMALL), Kind::Cql(SHARD_BUDGETS), &steps, &later);
        }
    }

    #[test]
    fn what_is_moved_out_of_a_database_reads_the_same(steps in steps(30), later in steps(8)) {
        if database().is_some() {
            moves(Kind::Cql(SMALL), Kind::Embedded(SMALL), &steps, &later);
        }
    }

    #[test]
    fn what_is_moved_between_databases_reads_the_same(steps in steps(20), later in steps(8)) {
        if database().is_some() {
            moves(Kind::Cql(SHARD_BUDGETS), Kind::Cql(SMALL), &steps, &later);
        }
    }
}

async fn all_told(store: &dyn Store, after: Option<Cursor>) -> Vec<(Cursor, StatusChange)> {
    let page = store.changes(account(), after, 10_000).await;
    page.unwrap().changes
}

#[test]
fn a_client_goes_on_in_the_change_feed_where_it_was() {
    let mut targets = vec![Kind::Embedded(SMALL)];
    targets.extend(database().map(|_| Kind::Cql(SMALL)));
    for to in targets {
        runtime().block_on(async {
            let (_folder, file) = file();
            let mut origin = Origin::new(Kind::Embedded(SMALL));
            let world = &mut origin.both.world;
            let [one, two] =
                [1, 2].map(|of| world.chunk(of, Queue::Normal, (0..40).map(message).collect()));
            world.accept(1, &one).await;
            world.accept(2, &two).await;
            for index in 0..40 {
                world
                    .tell(1, vec![(one.id(index), Event::Attempt(1))])
                    .await;
                world
                    .tell(2, vec![(two.id(index), Event::Attempt(1))])
                    .await;
            }
            let told = all_told(world.store.as_ref(), None).await;
            let (read, _) = told[50];
            let cursor = Cursor {
                within: read.within + 1,
                ..read
            };
            let last = world.last;
            origin.fill_rows().await;

            origin.export(&file).await;
            let mut moved = imported(&file, to).await;
            moved.last = last;

            assert_eq!(all_told(moved.store.as_ref(), None).await, told);
            moved.tell(1, vec![(one.id(0), Event::Acked)]).await;
            let rest = all_told(moved.store.as_ref(), Some(cursor)).await;
            assert_eq!(rest[..29], told[51..]);
            let (_, new) = rest[29];
            assert_eq!((rest.len(), new.id), (30, one.id(0)), "{to:?}");
        });
    }
}

#[test]
fn no_shard_gives_an_id_again_that_came_with_an_import() {
    let mut targets = vec![Kind::Memory(SMALL), Kind::Embedded(SMALL)];
    targets.extend(database().map(|_| Kind::Cql(SHARD_BUDGETS)));
    for to in targets {
        runtime().block_on(async {
            let (_folder, file) = file();
            let mut origin = Origin::new(Kind::Embedded(SMALL));
            origin.fill_rows().await;
            let store = &origin.both.world.store;
            let shard = Shard::of(77);
            let epoch = store.open_shard(shard, None).await.unwrap().epoch;
            let ceiling = Tick::at(START + Duration::from_secs(600));
            store.raise_ceiling(shard, epoch, ceiling).await.unwrap();

            origin.export(&file).await;
            let mut moved = imported(&file, to).await;
            moved.reopen(Ending::Dropped).await;

            for shard in [shard, instance(1).shard()] {
                let epoch = moved.epoch(shard).await;
                let opened = moved.store.raise_ceiling(shard, epoch, Tick(0)).await;
                assert!(opened.unwrap() >= ceiling, "{to:?}");
            }
        });
    }
}

#[test]
fn what_retention_let_go_does_not_come_back_and_the_rest_is_whole() {
    for from in [Kind::Memory(SMALL), Kind::Embedded(SMALL)] {
        runtime().block_on(async {
            let week = Duration::from_secs(7 * 86_400);
            let (_folder, file) = file();
            let mut origin = Origin::new(from);
            origin.fill_rows().await;
            let Both { world, naive } = &mut origin.both;
            let old = world.chunk(1, Queue::Normal, (0..300).map(message).collect());
            world.accept(1, &old).await;
            let settled = (0..300).map(|index| (old.id(index), Event::Acked));
            world.tell(1, settled.collect()).await;
            world.later(week * 3);
            for _ in 0..5 {
                let new = world.chunk(1, Queue::Normal, (0..200).map(message).collect());
                naive.accept(&new);
                world.accept(1, &new).await;
            }
            world.store.retire(world.now, week).await.unwrap();

            origin.export(&file).await;
            let moved = imported(&file, Kind::Memory(SMALL)).await;

            assert!(moved.store.message(old.first).await.unwrap().is_none());
            for (id, known) in &origin.both.naive.messages {
                let found = moved.store.message(*id).await.unwrap().unwrap();
                assert_eq!(found.state, known.state);
            }
            let work = moved.store.work().await.unwrap();
            assert_eq!(work.iter().map(|work| work.unsettled).sum::<u64>(), 1_000);
        });
    }
}
