//! Claims: attempts of which it is known that they count, whoever owns the shard later.

use std::sync::mpsc;

use zajil_model::id::{Epoch, Shard};
use zajil_model::lifecycle::{Event, Outcome, Status};
use zajil_model::message::Queue;
use zajil_storage::{Append, CqlStore, Entry, Store, StoreError};

use crate::promises::on_every_kind;
use crate::shared::{Two, append, node, with_database};
use crate::world::{Ending, claim, instance, keyspace, message};

fn shard() -> Shard {
    instance(1).shard()
}

#[test]
fn a_claim_that_was_answered_is_there_for_every_later_owner() {
    on_every_kind(|mut world| async move {
        let chunk = world.chunk(1, Queue::Normal, vec![message(1), message(2)]);
        world.accept(1, &chunk).await;

        let claimed = world.claim(1, &[chunk.first]).await;
        world.reopen(Ending::Dropped).await;
        world.epoch(shard()).await;

        assert_eq!(claimed, Ok(()));
        let state = async |id| world.store.message(id).await.unwrap().unwrap().state;
        let found = state(chunk.first).await;
        assert_eq!((found.status, found.attempts), (Status::Processing, 1));
        assert_eq!(state(chunk.id(1)).await.status, Status::Pending);
    });
}

#[test]
fn a_claim_under_another_epoch_is_refused() {
    on_every_kind(|mut world| async move {
        let chunk = world.chunk(1, Queue::Normal, vec![message(1)]);
        world.accept(1, &chunk).await;
        let epoch = world.epoch(shard()).await;

        let former = Epoch(epoch.0 - 1);
        let claimed = claim(&*world.store, shard(), former, &[chunk.first], world.now);

        let fenced = StoreError::Fenced {
            shard: shard(),
            ours: former,
            current: epoch,
        };
        assert_eq!(claimed, Err(fenced));
        let found = world.store.message(chunk.first).await.unwrap().unwrap();
        assert_eq!(found.state.status, Status::Pending);
    });
}

#[test]
fn a_claim_of_a_former_owner_is_refused_though_its_log_takes_it() {
    with_database(async || {
        let mut two = Two::new();
        let old = two.first.epoch(shard()).await;
        let messages = vec![message(1), message(2)];
        let chunk = two.first.chunk(1, Queue::Normal, messages);
        two.first.accept(1, &chunk).await;
        two.second.open_shard(shard(), None).await.unwrap();

        // It does not know yet.
        let (id, at) = (chunk.first, two.first.now);
        let event = Event::Attempt(1);
        let plain = vec![Entry::Outcomes(vec![Outcome { id, at, event }])];
        let appended = append(&*two.first.store, old, plain).await;
        let claimed = claim(&*two.first.store, shard(), old, &[chunk.id(1)], at);

        let fenced = StoreError::Fenced {
            shard: shard(),
            ours: old,
            current: old.next(),
        };
        assert_eq!((appended, claimed), (Ok(()), Err(fenced)));
        let third = node(&keyspace(&two.first.dir));
        third.open_shard(shard(), None).await.unwrap();
        for index in 0..2 {
            let found = third.message(chunk.id(index)).await.unwrap().unwrap();
            assert_eq!(found.state.status, Status::Pending, "message {index}");
        }
    });
}

#[test]
fn claims_that_wait_together_are_one_question() {
    with_database(async || {
        let mut two = Two::new();
        let epoch = two.second.open_shard(shard(), None).await.unwrap().epoch;
        let messages = (0..100).map(message).collect();
        let chunk = two.first.chunk(1, Queue::Normal, messages);
        let accept = vec![Entry::Accept(chunk.clone())];
        append(&*two.second, epoch, accept).await.unwrap();
        let before = questions(&two.second);

        let (sender, answers) = mpsc::channel();
        for index in 0..100 {
            let (id, at, event) = (chunk.id(index), two.first.now, Event::Attempt(1));
            let entries = vec![Entry::Outcomes(vec![Outcome { id, at, event }])];
            let append = Append {
                shard: shard(),
                epoch,
                entries,
            };
            let sender = sender.clone();
            let done = Box::new(move |result| sender.send(result).unwrap());
            two.second.claim(append, done);
        }
        drop(sender);

        assert_eq!(answers.iter().collect::<Vec<_>>(), vec![Ok(()); 100]);
        let asked = questions(&two.second) - before;
        assert!((1..=20).contains(&asked), "{asked} questions");
    });
}

/// Reads that see every conditional write.
fn questions(store: &CqlStore) -> u64 {
    let requests = store.requests();
    let serial = requests.iter().find(|(kind, _)| *kind == "serial");
    serial.map_or(0, |(_, count)| *count)
}
