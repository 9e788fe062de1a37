//! The promises one by one, on every kind of store.

use std::future::Future;
use std::sync::{Arc, mpsc};

use zajil_model::id::Tick;
use zajil_model::lifecycle::{Event, Status};
use zajil_model::message::{Payload, Queue};
use zajil_storage::{
    Append, Budgets, Condition, Entry, Health, RowKey, RowWrite, StoreError, Table, Written,
};

use crate::compare::same;
use crate::model::Naive;
use crate::world::{Ending, Kind, SMALL, World, database, instance, message, runtime};

/// Runs a story on every kind of store.
pub(crate) fn on_every_kind<F: Future<Output = ()>>(story: impl Fn(World) -> F) {
    let runtime = runtime();
    let large = Budgets::default();
    let here = [
        Kind::Memory(large),
        Kind::Memory(SMALL),
        Kind::Embedded(large),
        Kind::Embedded(SMALL),
    ];
    let there = database().map(|_| Kind::Cql(SMALL));
    for kind in here.into_iter().chain(there) {
        runtime.block_on(story(World::new(kind)));
    }
}

fn key(name: &str) -> RowKey {
    RowKey::new(Table::Contacts, "account", name)
}

#[test]
fn appends_are_answered_in_the_order_of_the_calls_and_are_seen_by_then() {
    on_every_kind(|mut world| async move {
        let shard = instance(1).shard();
        let epoch = world.epoch(shard).await;
        let chunks: Vec<_> = (0..200)
            .map(|n| world.chunk(1, Queue::Normal, vec![message(n)]))
            .collect();
        let (sender, receiver) = mpsc::channel();
        for (n, chunk) in chunks.iter().enumerate() {
            let sender = sender.clone();
            let append = Append {
                shard,
                epoch,
                entries: vec![Entry::Accept(Arc::clone(chunk))],
            };
            let done = Box::new(move |result: Result<(), _>| sender.send((n, result)).unwrap());
            world.store.append(append, done);
        }

        for (n, chunk) in chunks.iter().enumerate() {
            assert_eq!(receiver.recv().unwrap(), (n, Ok(())));
            let found = world.store.message(chunk.first).await.unwrap().unwrap();
            assert_eq!(found.message(), &chunk.messages[0]);
        }
    });
}

#[test]
fn entries_of_an_append_are_applied_in_order_and_together() {
    on_every_kind(|mut world| async move {
        let chunk = world.chunk(1, Queue::High, vec![message(0), message(1)]);
        let row = RowWrite::put(key("with"), b"it".to_vec());
        let at = world.now;
        let told = |event| zajil_model::lifecycle::Outcome {
            id: chunk.first,
            at,
            event,
        };

        let entries = vec![
            Entry::Accept(Arc::clone(&chunk)),
            Entry::Outcomes(vec![told(Event::Attempt(1)), told(Event::Acked)]),
            Entry::Rows(vec![row]),
        ];
        world.append(1, entries).await.unwrap();
        world.reopen(Ending::Dropped).await;

        let found = world.store.message(chunk.first).await.unwrap().unwrap();
        assert_eq!(
            (found.state.status, found.state.attempts),
            (Status::Sent, 1)
        );
        let row = world.store.row(&key("with")).await.unwrap().unwrap();
        assert_eq!(row.value, b"it");
    });
}

#[test]
fn a_write_happens_when_every_condition_holds_and_else_tells_what_it_met() {
    on_every_kind(|world| async move {
        let put = |name: &str, value: &str| RowWrite::put(key(name), value.as_bytes().to_vec());
        // The whole of it, its directory included.
        let world = world;
        let store = &world.store;

        let first = store
            .write(vec![put("a", "1").when(Condition::Absent)])
            .await;
        let again = store
            .write(vec![put("b", "1"), put("a", "2").when(Condition::Absent)])
            .await;
        let swapped = store
            .write(vec![put("a", "2").when(Condition::Is(b"1".to_vec()))])
            .await;
        let missing = store
            .write(vec![put("c", "1").when(Condition::Present)])
            .await;
        let deleted = store.write(vec![RowWrite::delete(key("a"))]).await;

        assert_eq!(first, Ok(Written::Applied));
        let current = Some(b"1".to_vec());
        assert_eq!(
            again,
            Ok(Written::Conflict {
                key: key("a"),
                current
            })
        );
        assert_eq!(store.row(&key("b")).await.unwrap(), None);
        assert_eq!(swapped, Ok(Written::Applied));
        assert_eq!(
            missing,
            Ok(Written::Conflict {
                key: key("c"),
                current: None
            })
        );
        assert_eq!(deleted, Ok(Written::Applied));
        assert_eq!(store.row(&key("a")).await.unwrap(), None);
    });
}

#[test]
fn of_many_who_claim_a_name_at_once_one_gets_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let here = [Kind::Memory(SMALL), Kind::Embedded(Budgets::default())];
    let there = database().map(|_| Kind::Cql(SMALL));
    for kind in here.into_iter().chain(there) {
        let world = World::new(kind);
        let claims: Vec<_> = (0..64_u8)
            .map(|n| {
                let store = Arc::clone(&world.store);
                runtime.handle().spawn(async move {
                    let row = RowWrite::put(key("name"), vec![n]).when(Condition::Absent);
                    store.write(vec![row]).await.unwrap()
                })
            })
            .collect();

        let written: Vec<_> = claims
            .into_iter()
            .map(|claim| runtime.block_on(claim).unwrap())
            .collect();

        let applied = written
            .iter()
            .filter(|written| **written == Written::Applied);
        assert_eq!(applied.count(), 1);
        let winner = written
            .iter()
            .position(|written| *written == Written::Applied)
            .unwrap();
        for other in written
            .iter()
            .filter(|written| **written != Written::Applied)
        {
            let current = Some(vec![winner as u8]);
            assert_eq!(
                *other,
                Written::Conflict {
                    key: key("name"),
                    current
                }
            );
        }
    }
}

#[test]
fn rows_of_a_partition_come_in_order_and_page_by_page_both_ways() {
    on_every_kind(|mut world| async move {
        for n in 0..600_u16 {
            let row = RowWrite::put(key(&format!("{n:04}")), vec![1; 40]);
            world.store.write(vec![row]).await.unwrap();
        }
        for n in (0..600_u16).step_by(3) {
            world
                .store
                .write(vec![RowWrite::delete(key(&format!("{n:04}")))])
                .await
                .unwrap();
        }
        world
            .store
            .write(vec![RowWrite::put(
                RowKey::new(Table::Contacts, "account2", "0001"),
                Vec::new(),
            )])
            .await
            .unwrap();
        world.reopen(Ending::Dropped).await;

        let expected: Vec<String> = (0..600)
            .filter(|n| n % 3 != 0)
            .map(|n| format!("{n:04}"))
            .collect();
        for reverse in [false, true] {
            let mut found: Vec<String> = Vec::new();
            loop {
                let after = found.last().map(|sort| sort.clone().into_bytes());
                let page = world
                    .store
                    .rows(Table::Contacts, b"account", after.as_deref(), 70, reverse)
                    .await
                    .unwrap();
                if page.is_empty() {
                    break;
                }
                found.extend(
                    page.into_iter()
                        .map(|row| String::from_utf8(row.key.sort).unwrap()),
                );
            }
            if reverse {
                found.reverse();
            }
            assert_eq!(found, expected);
        }
    });
}

#[test]
fn an_append_of_an_earlier_owner_is_refused() {
    on_every_kind(|mut world| async move {
        let shard = instance(1).shard();
        let old = world.epoch(shard).await;
        world.reopen(Ending::Dropped).await;
        let current = world.epoch(shard).await;
        let chunk = world.chunk(1, Queue::Normal, vec![message(1)]);

        let (sender, receiver) = mpsc::channel();
        let append = Append {
            shard,
            epoch: old,
            entries: vec![Entry::Accept(chunk)],
        };
        world
            .store
            .append(append, Box::new(move |result| sender.send(result).unwrap()));

        assert!(current > old);
        let refused = Err(StoreError::Fenced {
            shard,
            ours: old,
            current,
        });
        assert_eq!(receiver.recv().unwrap(), refused);
    });
}

#[test]
fn no_id_below_a_raised_ceiling_is_given_by_the_next_owner() {
    on_every_kind(|mut world| async move {
        let (shard, other) = (instance(1).shard(), instance(2).shard());
        let opened = world.store.open_shard(shard, None).await.unwrap();
        let ceiling = Tick(opened.ceiling.0 + 240_000);
        let raised = world
            .store
            .raise_ceiling(shard, opened.epoch, ceiling)
            .await
            .unwrap();
        let fresh = world.store.open_shard(other, None).await.unwrap();
        assert!(raised >= ceiling);
        assert!(
            fresh.last < raised,
            "a shard that gave nothing does not begin late"
        );

        world.reopen(Ending::Dropped).await;
        let next = world.store.open_shard(shard, None).await.unwrap();
        let lower = world
            .store
            .raise_ceiling(shard, next.epoch, Tick(1))
            .await
            .unwrap();

        assert!(next.last >= ceiling);
        assert!(lower >= ceiling, "a lower ceiling changes nothing");
    });
}

#[test]
fn a_chunk_that_is_too_long_for_one_record_keeps_its_ids_and_order() {
    on_every_kind(|mut world| async move {
        let messages: Vec<_> = (0..100)
            .map(|n| {
                let mut long = message(n);
                let text: String = (0..4_000_u64)
                    .map(|i| char::from(b'a' + ((i * n) % 23) as u8))
                    .collect();
                long.payload = Payload::Text(text.into());
                long
            })
            .collect();
        let chunk = world.chunk_of(1, Queue::Normal, messages, true);
        let mut naive = Naive::default();
        naive.accept(&chunk);

        world.accept(1, &chunk).await;

        same(&world, &naive).await;
        world.reopen(Ending::Dropped).await;
        same(&world, &naive).await;
    });
}

#[test]
fn a_closed_store_answers_that_it_is_closed() {
    on_every_kind(|mut world| async move {
        assert_eq!(world.store.health(), Health::Ready);
        let chunk = world.chunk(1, Queue::Normal, vec![message(1)]);
        let shard = instance(1).shard();
        let epoch = world.epoch(shard).await;
        world.store.close().await.unwrap();

        let (sender, receiver) = mpsc::channel();
        let append = Append {
            shard,
            epoch,
            entries: vec![Entry::Accept(chunk)],
        };
        world
            .store
            .append(append, Box::new(move |result| sender.send(result).unwrap()));

        assert_eq!(receiver.recv().unwrap(), Err(StoreError::Closed));
        assert_eq!(world.store.write(Vec::new()).await, Err(StoreError::Closed));
        assert!(matches!(world.store.health(), Health::Failed(_)));
    });
}

#[test]
fn a_chunk_that_comes_later_than_its_ids_say_is_found_where_they_say() {
    on_every_kind(|mut world| async move {
        let mut naive = Naive::default();
        let chunks: Vec<_> = (0..40)
            .map(|n| {
                let messages = (0..50).map(|m| message(n * 50 + m)).collect();
                world.chunk(1, Queue::Normal, messages)
            })
            .collect();
        let (late, early): (Vec<_>, Vec<_>) = (0..40).partition(|n| n % 7 == 0);

        for n in early.into_iter().chain(late) {
            naive.accept(&chunks[n]);
            world.accept(1, &chunks[n]).await;
        }

        same(&world, &naive).await;
        world.reopen(Ending::Dropped).await;
        same(&world, &naive).await;
    });
}
