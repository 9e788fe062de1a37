//! What several nodes on one database promise each other. Without a database nothing is asked.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use zajil_model::id::{Epoch, MessageId, Shard, Tick};
use zajil_model::lifecycle::{Event, Outcome, Status};
use zajil_model::message::{Chunk, Queue};
use zajil_model::time::Timestamp;
use zajil_storage::cql::SHARD_BUDGETS;
use zajil_storage::{
    Append, Condition, CqlConfig, CqlOpenError, CqlStore, Cursor, Entry, ListFilter, ListRequest,
    RowKey, RowWrite, Store, StoreError, Table, TotalsFilter, Written,
};

use crate::compare::same;
use crate::model::Naive;
use crate::world::{Kind, Still, World, account, database, instance, keyspace, message, runtime};

/// How often a shard moves, so that a flush is on its way in many of its moves.
const MOVES: usize = 100;

/// Two nodes, one database: the first holds the shards of the tests' instances.
pub(crate) struct Two {
    pub(crate) first: World,
    pub(crate) second: Arc<CqlStore>,
}

impl Two {
    pub(crate) fn new() -> Self {
        let first = World::new(Kind::Cql(SHARD_BUDGETS));
        let second = Arc::new(node(&keyspace(&first.dir)));
        Self { first, second }
    }
}

/// A node that holds no shard.
pub(crate) fn node(keyspace: &str) -> CqlStore {
    CqlStore::open(config(keyspace)).unwrap()
}

fn config(keyspace: &str) -> CqlConfig {
    let contact_points = vec![database().unwrap()];
    CqlConfig {
        replication: 1,
        ..CqlConfig::new(contact_points, keyspace.to_owned(), Arc::new(Still))
    }
}

/// Tells a story, where there is a database.
pub(crate) fn with_database<F: Future<Output = ()>>(story: impl FnOnce() -> F) {
    if database().is_some() {
        runtime().block_on(story());
    }
}

fn shard() -> Shard {
    instance(1).shard()
}

pub(crate) async fn append(
    store: &dyn Store,
    epoch: Epoch,
    entries: Vec<Entry>,
) -> Result<(), StoreError> {
    let (sender, answer) = mpsc::channel();
    let append = Append {
        shard: shard(),
        epoch,
        entries,
    };
    store.append(append, Box::new(move |result| sender.send(result).unwrap()));
    answer.recv().unwrap()
}

/// Whether a chunk is seen anywhere.
async fn is_seen(store: &dyn Store, chunk: &Arc<Chunk>) -> bool {
    let instances = vec![instance(1)];
    let filter = ListFilter {
        instances: instances.clone(),
        ..ListFilter::default()
    };
    let request = ListRequest {
        filter,
        before: None,
        skip: 0,
        limit: 1_000,
    };
    let listed = store.list(request).await.unwrap().messages;
    let totals = TotalsFilter {
        instances,
        ..TotalsFilter::default()
    };
    let total = store.totals(totals).await.unwrap().sum();
    assert_eq!(total, listed.len() as u64);
    let found = store.message(chunk.first).await.unwrap().is_some();
    let is_listed = listed.iter().any(|record| record.id() == chunk.first);
    assert_eq!(found, is_listed);
    found
}

async fn is_queued(store: &dyn Store, chunk: &Arc<Chunk>) -> bool {
    let queued = store
        .queued(instance(1), Queue::Normal, None, 1_000, 1 << 20)
        .await
        .unwrap();
    queued.0.iter().any(|one| one.chunk.first == chunk.first)
}

#[test]
fn what_a_former_owner_writes_late_counts_nowhere_and_never() {
    with_database(async || {
        let mut two = Two::new();
        let old = two.first.epoch(shard()).await;
        let kept = two
            .first
            .chunk(1, Queue::Normal, vec![message(1), message(2)]);
        two.first.accept(1, &kept).await;

        let new = two.second.open_shard(shard(), None).await.unwrap().epoch;
        // It does not know yet, and its log takes it.
        let late = two.first.chunk(1, Queue::Normal, vec![message(3)]);
        let accept = vec![Entry::Accept(Arc::clone(&late))];
        let told = Outcome {
            id: kept.first,
            at: two.first.now,
            event: Event::Acked,
        };
        let written = append(&*two.first.store, old, accept).await;
        append(&*two.first.store, old, vec![Entry::Outcomes(vec![told])])
            .await
            .ok();
        let after = two.first.chunk(1, Queue::Normal, vec![message(4)]);
        let accept = vec![Entry::Accept(Arc::clone(&after))];
        append(&*two.second, new, accept).await.unwrap();

        assert!(new > old);
        let counts = async |store: &dyn Store| {
            assert!(is_seen(store, &kept).await);
            assert!(is_seen(store, &after).await);
            assert!(!is_seen(store, &late).await, "written as {written:?}");
            assert!(is_queued(store, &kept).await && !is_queued(store, &late).await);
            let state = store.message(kept.first).await.unwrap().unwrap().state;
            assert_eq!(state.status, Status::Pending, "an outcome counts no more");
        };
        counts(&*two.second).await;
        let third = node(&keyspace(&two.first.dir));
        third.open_shard(shard(), None).await.unwrap();
        counts(&third).await;
    });
}

#[test]
fn nothing_is_lost_however_often_a_shard_moves_while_it_is_flushed() {
    with_database(async || {
        let mut world = World::new(Kind::Cql(SHARD_BUDGETS));
        let keyspace = keyspace(&world.dir);
        let often = || CqlConfig {
            flush_every: Duration::from_millis(1),
            ..config(&keyspace)
        };
        let nodes = [(), ()].map(|()| CqlStore::open(often()).unwrap());
        let mut accepted = Vec::new();

        for node in nodes.iter().cycle().take(MOVES) {
            let epoch = node.open_shard(shard(), None).await.unwrap().epoch;
            let chunk = world.chunk(1, Queue::Normal, vec![message(1)]);
            let accept = vec![Entry::Accept(Arc::clone(&chunk))];
            append(node, epoch, accept).await.unwrap();
            accepted.push(chunk);
            node.close_shard(shard(), epoch).await.unwrap();
        }

        nodes[0].open_shard(shard(), None).await.unwrap();
        for (number, chunk) in accepted.iter().enumerate() {
            assert!(is_seen(&nodes[0], chunk).await, "of move {number}");
        }
    });
}

#[test]
fn a_former_owner_finds_out_when_it_changes_what_only_an_owner_may() {
    with_database(async || {
        let mut two = Two::new();
        let old = two.first.epoch(shard()).await;
        let current = Epoch(old.0 + 5);
        two.second.open_shard(shard(), Some(current)).await.unwrap();

        let raised = two.first.store.raise_ceiling(shard(), old, Tick(1 << 40));
        let raised = raised.await.map(drop);
        let chunk = two.first.chunk(1, Queue::Normal, vec![message(1)]);
        let refused = append(&*two.first.store, old, vec![Entry::Accept(chunk)]).await;
        let next = Some(Epoch(old.0 + 1));
        let again = two.first.store.open_shard(shard(), next).await.map(drop);

        let fenced = |ours| {
            let shard = shard();
            Err(StoreError::Fenced {
                shard,
                ours,
                current,
            })
        };
        assert_eq!((raised, refused), (fenced(old), fenced(old)));
        assert_eq!(again, fenced(Epoch(old.0 + 1)));
    });
}

#[test]
fn a_shard_that_is_given_up_goes_on_elsewhere_where_it_stopped() {
    with_database(async || {
        let mut two = Two::new();
        let mut naive = Naive::default();
        let old = two.first.epoch(shard()).await;
        for n in 0..20 {
            let chunk = two.first.chunk(1, Queue::Normal, vec![message(n)]);
            naive.accept(&chunk);
            two.first.accept(1, &chunk).await;
        }
        let raised = two.first.store.raise_ceiling(shard(), old, Tick(77 << 30));
        let raised = raised.await.unwrap();

        two.first.store.close_shard(shard(), old).await.unwrap();
        let chunk = two.first.chunk(1, Queue::Normal, vec![message(99)]);
        let refused = append(&*two.first.store, old, vec![Entry::Accept(chunk)]).await;
        let opened = two.second.open_shard(shard(), Some(old.next())).await;

        assert_eq!(refused, Err(StoreError::NotOpen(shard())));
        let opened = opened.unwrap();
        assert_eq!((opened.epoch, opened.last), (old.next(), raised));
        for of in [0, 2, 3] {
            let shard = instance(of).shard();
            let epoch = two.first.epoch(shard).await;
            two.first.store.close_shard(shard, epoch).await.unwrap();
            two.second.open_shard(shard, None).await.unwrap();
        }
        two.first.store = two.second;
        same(&two.first, &naive).await;
    });
}

#[test]
fn a_node_reads_messages_of_shards_that_it_does_not_hold() {
    with_database(async || {
        let mut two = Two::new();
        let chunk = two.first.chunk(1, Queue::Normal, vec![message(1)]);
        two.first.accept(1, &chunk).await;

        assert!(is_seen(&*two.second, &chunk).await);

        let queued = two.second.queued(instance(1), Queue::Normal, None, 1, 1);
        assert_eq!(queued.await.map(drop), Err(StoreError::NotOpen(shard())));
    });
}

#[test]
fn changes_of_several_shards_come_in_one_order_and_none_is_passed_over() {
    with_database(async || {
        let mut two = Two::new();
        let mut cursor: Option<Cursor> = None;
        let mut found: Vec<MessageId> = Vec::new();
        let mut told: Vec<MessageId> = Vec::new();
        for n in 0..30 {
            let chunk = two.first.chunk(n % 3, Queue::Normal, vec![message(n)]);
            two.first.accept(n % 3, &chunk).await;
            two.first
                .tell(n % 3, vec![(chunk.first, Event::Acked)])
                .await;
            told.push(chunk.first);
            let page = two
                .first
                .store
                .changes(account(), cursor, 100)
                .await
                .unwrap();
            assert!(page.changes.iter().all(|(place, _)| *place < page.upto));
            found.extend(page.changes.iter().map(|(_, change)| change.id));
            // The reader goes on from as far as it was told that it has seen everything.
            cursor = Some(page.upto);
        }

        assert_eq!(found, told);
    });
}

#[test]
fn a_write_of_several_partitions_happens_as_a_whole_or_not_at_all() {
    with_database(async || {
        let two = Two::new();
        let key = |table, partition: &str| RowKey::new(table, partition, "");
        let name = |value: &str| RowWrite::put(key(Table::UniqueNames, "name"), value.into());
        let row = |of: &str| RowWrite::put(key(Table::Templates, of), of.into());
        let index = |of: &str| RowWrite::put(key(Table::Sessions, of), of.into());
        let claim = |of: &str| {
            vec![
                row(of).when(Condition::Absent),
                name(of).when(Condition::Absent),
                index(of),
            ]
        };

        let first = two.first.store.write(claim("first")).await;
        let second = two.second.write(claim("second")).await;

        assert_eq!(first, Ok(Written::Applied));
        let (key, current) = (name("").key, Some(b"first".to_vec()));
        assert_eq!(second, Ok(Written::Conflict { key, current }));
        for write in [row("first"), index("first")] {
            let found = two.second.row(&write.key).await.unwrap();
            assert_eq!(found.map(|row| row.value), write.value);
        }
        for write in [row("second"), index("second")] {
            assert_eq!(two.second.row(&write.key).await, Ok(None));
        }
    });
}

#[test]
fn the_clock_of_the_database_is_told() {
    with_database(async || {
        let two = Two::new();

        let first = two.second.clock().await.unwrap().unwrap();
        let second = two.second.clock().await.unwrap().unwrap();

        assert!(Timestamp::from_seconds(1_700_000_000) < first && first <= second);
    });
}

#[test]
fn nodes_that_start_at_once_on_an_empty_database_all_start() {
    if database().is_none() {
        return;
    }
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let open = || CqlStore::open(config(&keyspace(&folder))).map(drop);

        let opened = std::thread::scope(|scope| {
            let nodes = [(); 3].map(|()| scope.spawn(open));
            nodes.map(|node| node.join().unwrap())
        });

        for node in opened {
            node.unwrap();
        }
    }
}

#[test]
fn what_does_not_fit_is_told_when_the_store_opens() {
    if database().is_none() {
        return;
    }
    let world = World::new(Kind::Cql(SHARD_BUDGETS));
    let usual = config(&keyspace(&world.dir));
    let open = |config| CqlStore::open(config).err().unwrap();

    let named = open(CqlConfig {
        keyspace: "Not-A-Name".to_owned(),
        ..usual.clone()
    });
    let copies = open(CqlConfig {
        replication: 3,
        ..usual.clone()
    });
    let place = open(CqlConfig {
        datacenter: Some("elsewhere".to_owned()),
        ..usual.clone()
    });
    let silent = open(CqlConfig {
        contact_points: vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
        ..usual
    });

    assert!(matches!(named, CqlOpenError::KeyspaceName(_)));
    let few = CqlOpenError::Replication {
        keyspace: keyspace(&world.dir),
        datacenter: "datacenter1".to_owned(),
        found: 1,
        wanted: 3,
    };
    assert_eq!(copies.to_string(), few.to_string());
    assert!(matches!(place, CqlOpenError::Datacenter { .. }));
    let said = silent.to_string();
    assert!(
        said.contains("127.0.0.1:1 (") && said.contains("127.0.0.1:2 ("),
        "{said}"
    );
}
