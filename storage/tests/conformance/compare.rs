//! Asks a store everything that the model knows.

use std::collections::BTreeMap;
use std::time::Duration;

use zajil_model::id::MessageId;
use zajil_model::lifecycle::{MessageState, Status};
use zajil_model::message::Queue;
use zajil_model::time::{Day, Timestamp};
use zajil_storage::{Expiring, ListFilter, ListRequest, MessageRecord, TotalsFilter};

use crate::model::{Naive, work_set};
use crate::world::{START, World, account, instance, part, phone};

/// How many instances the random histories use.
pub(crate) const INSTANCES: u64 = 3;

/// The queues that the random histories use.
pub(crate) fn queues() -> [Queue; 4] {
    [Queue::High, Queue::Normal, part(0), part(1)]
}

/// Every answer is what the model says.
pub(crate) async fn same(world: &World, naive: &Naive) {
    messages(world, naive).await;
    totals(world, naive).await;
    let work = world.store.work().await.unwrap();
    assert_eq!(work_set(&work), naive.work(), "work");
    for of in 0..INSTANCES {
        for queue in queues() {
            queued(world, naive, of, queue).await;
            expiries(world, naive, of, queue).await;
        }
        scheduled(world, naive, of).await;
        recipients(world, naive, of).await;
    }
    lists(world, naive).await;
    changes(world, naive).await;
}

async fn messages(world: &World, naive: &Naive) {
    for (id, known) in &naive.messages {
        let found = world.store.message(*id).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("message {id} is gone"));
        assert_eq!((found.id(), found.state), (*id, known.state));
        assert_eq!(found.message(), &known.chunk.messages[known.index]);
    }
    let unknown = MessageId::new(12_345).unwrap();
    assert!(world.store.message(unknown).await.unwrap().is_none());
}

async fn totals(world: &World, naive: &Naive) {
    let instances: Vec<_> = (0..INSTANCES).map(instance).collect();
    let day = |n: i32| Day(START.day().0 + n);
    let Queue::Part(batch) = part(0) else {
        unreachable!()
    };
    let all = TotalsFilter {
        instances,
        ..TotalsFilter::default()
    };
    let filters = [
        TotalsFilter {
            batch: Some(batch),
            ..all.clone()
        },
        TotalsFilter {
            from: Some(day(1)),
            to: Some(day(3)),
            ..all.clone()
        },
        TotalsFilter {
            instances: vec![instance(1)],
            ..all.clone()
        },
        all,
    ];
    for filter in filters {
        let found = world.store.totals(filter.clone()).await.unwrap();
        assert_eq!(found, naive.totals(&filter), "totals of {filter:?}");
    }
}

async fn queued(world: &World, naive: &Naive, of: u64, queue: Queue) {
    let mut found: Vec<(MessageId, MessageState)> = Vec::new();
    let mut after = None;
    loop {
        let (chunks, next) = world
            .store
            .queued(instance(of), queue, after, 30, 10_000)
            .await
            .unwrap();
        assert!(
            next.is_none() || !chunks.is_empty(),
            "at least one, if there is one"
        );
        for one in chunks {
            let ids = (0..one.states.len()).map(|index| one.chunk.id(index));
            found.extend(
                ids.zip(one.states).filter(|(_, state)| {
                    matches!(state.status, Status::Pending | Status::Processing)
                }),
            );
        }
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(
        found,
        naive.ready(instance(of), queue),
        "queue {queue:?} of {of}"
    );
}

/// Each message that is not settled is in one stretch, and each stretch is told when the first of
/// its messages expires.
async fn expiries(world: &World, naive: &Naive, of: u64, queue: Queue) {
    let known: Vec<_> = naive.of_queue(instance(of), queue).collect();
    let mut found: Vec<Expiring> = Vec::new();
    let mut after = None;
    for _ in 0..=known.len() + 1 {
        let (some, next) = world
            .store
            .expiries(instance(of), queue, after, 2)
            .await
            .unwrap();
        assert!(some.len() <= 2, "no more than was asked for");
        found.extend(some);
        after = next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(after, None, "the stretches of a queue come to an end");
    for (id, one) in &known {
        let homes = found
            .iter()
            .filter(|home| home.first <= *id && *id <= home.last);
        let homes = homes.count();
        let fits = homes == 1 || (homes == 0 && one.state.status.is_settled());
        assert!(fits, "{id} of {of} is in {homes} stretches of {queue:?}");
    }
    for home in found {
        let within = known
            .iter()
            .filter(|(id, _)| home.first <= *id && *id <= home.last);
        let first = within.map(|(_, one)| {
            let message = &one.chunk.messages[one.index];
            message.expires_at(one.chunk.created_at)
        });
        assert_eq!(first.min(), Some(home.at), "{home:?} of {of} in {queue:?}");
    }
}

async fn scheduled(world: &World, naive: &Naive, of: u64) {
    let expected = naive.scheduled(instance(of));
    let middle = expected
        .get(expected.len() / 2)
        .map_or(START, |(due, _)| *due);
    let (found, next) = world
        .store
        .scheduled(instance(of), middle, 10_000)
        .await
        .unwrap();
    let found: Vec<(Timestamp, MessageId)> = found
        .iter()
        .map(|record| (record.state.next_at.unwrap(), record.id()))
        .collect();
    let (due, later): (Vec<_>, Vec<_>) = expected.into_iter().partition(|(at, _)| *at <= middle);
    assert_eq!(found, due, "schedule of {of}");
    assert_eq!(
        next,
        later.first().map(|(at, _)| *at),
        "next in the schedule of {of}"
    );
}

async fn recipients(world: &World, naive: &Naive, of: u64) {
    let Queue::Part(batch) = part(0) else {
        unreachable!()
    };
    let expected: Vec<_> = naive
        .messages
        .iter()
        .filter(|(_, known)| (known.chunk.instance, known.chunk.queue) == (instance(of), part(0)))
        .map(|(id, known)| (*id, known.chunk.messages[known.index].recipient))
        .collect();
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|(id, _)| *id);
        let page = world
            .store
            .recipients(instance(of), batch, after, 17)
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    assert_eq!(found, expected, "recipients of {of}");
}

async fn lists(world: &World, naive: &Naive) {
    let instances: Vec<_> = (0..INSTANCES).map(instance).collect();
    let all = ListFilter {
        instances,
        ..ListFilter::default()
    };
    let Queue::Part(batch) = part(1) else {
        unreachable!()
    };
    let bulk = naive.messages.values().find_map(|known| known.chunk.bulk);
    let day = Duration::from_secs(86_400);
    let mut filters = vec![
        ListFilter {
            batch: Some(batch),
            ..all.clone()
        },
        ListFilter {
            from: Some(START + day),
            to: Some(START + day * 4),
            ..all.clone()
        },
        ListFilter {
            recipient: Some(phone(3)),
            ..all.clone()
        },
        ListFilter {
            client_ref: Some("ref-2".to_owned()),
            ..all.clone()
        },
        ListFilter {
            instances: vec![instance(2)],
            ..all.clone()
        },
    ];
    filters.extend(bulk.map(|batch| ListFilter {
        batch: Some(batch),
        ..all.clone()
    }));
    filters.extend(Status::ALL.map(|status| ListFilter {
        status: Some(status),
        ..all.clone()
    }));
    filters.push(all);
    for filter in filters {
        let expected = naive.list(&filter);
        assert_eq!(walk(world, &filter).await, expected, "list of {filter:?}");
        let skip = expected.len() / 2;
        let request = ListRequest {
            filter: filter.clone(),
            before: None,
            skip: skip as u64,
            limit: 5,
        };
        let page = world.store.list(request).await.unwrap();
        let ids: Vec<MessageId> = page.messages.iter().map(MessageRecord::id).collect();
        let end = expected.len().min(skip + 5);
        assert_eq!(ids, expected[skip..end], "page of {filter:?}");
    }
}

async fn walk(world: &World, filter: &ListFilter) -> Vec<MessageId> {
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let request = ListRequest {
            filter: filter.clone(),
            before,
            skip: 0,
            limit: 23,
        };
        let page = world.store.list(request).await.unwrap();
        found.extend(page.messages.iter().map(MessageRecord::id));
        match page.next {
            Some(next) => before = Some(next),
            None => return found,
        }
    }
}

async fn changes(world: &World, naive: &Naive) {
    let found = world.changes(naive.changes.len(), 37).await;
    let (found, expected) = (Naive::by_message(&found), Naive::by_message(&naive.changes));
    let differ: BTreeMap<_, _> = expected
        .iter()
        .filter(|(id, told)| found.get(id) != Some(told))
        .collect();
    assert!(
        differ.is_empty(),
        "changes of {}: not told as {differ:?}",
        account()
    );
    assert_eq!(
        found.len(),
        expected.len(),
        "changes of messages that did not change"
    );
}
