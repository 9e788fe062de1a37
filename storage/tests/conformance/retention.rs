//! Retention, on every kind of store: what is live stays whatever its age, all else goes.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use zajil_model::id::MessageId;
use zajil_model::lifecycle::{Event, Outcome, Status};
use zajil_model::message::Queue;
use zajil_model::time::Timestamp;
use zajil_storage::{Cursor, Entry, FEED_KEPT, RowKey, RowWrite, Table, TotalsFilter};

use crate::model::Naive;
use crate::promises::on_every_kind;
use crate::world::{Ending, Kind, World, account, instance, long_message, message};

const DAY: Duration = Duration::from_secs(86_400);

const WEEK: Duration = Duration::from_secs(7 * 86_400);

#[test]
fn retirement_drops_ended_periods_and_keeps_what_is_unsettled() {
    on_every_kind(|mut world| async move {
        let week = Duration::from_secs(7 * 86_400);
        let old = world.chunk(1, Queue::Normal, vec![message(1), message(2)]);
        world.accept(1, &old).await;
        world.later(week * 2);
        let stuck = world.chunk(2, Queue::Normal, vec![message(3)]);
        world.accept(2, &stuck).await;
        world.later(week * 2);
        let new = world.chunk(1, Queue::Normal, vec![message(4)]);
        world.accept(1, &new).await;

        let none = world.store.retire(world.now, Duration::ZERO).await.unwrap();
        world
            .tell(
                1,
                vec![(old.id(0), Event::Acked), (old.id(1), Event::Acked)],
            )
            .await;
        let one = world.store.retire(world.now, Duration::ZERO).await.unwrap();
        world.reopen(Ending::Dropped).await;

        assert_eq!((none, one), (0, 1));
        assert!(world.store.message(old.first).await.unwrap().is_none());
        let mut naive = Naive::default();
        naive.accept(&stuck);
        naive.accept(&new);
        let found = world.store.message(stuck.first).await.unwrap().unwrap();
        assert_eq!(found.state.status, Status::Pending);
        let filter = TotalsFilter {
            instances: vec![instance(1), instance(2)],
            ..TotalsFilter::default()
        };
        let totals = world.store.totals(filter.clone()).await.unwrap();
        assert_eq!(totals, naive.totals(&filter));
    });
}

/// Tells the store and the model.
async fn tell(world: &World, naive: &mut Naive, id: MessageId, event: Event) {
    let at = world.now;
    let of = naive.messages[&id].chunk.instance.get() - instance(0).get();
    naive.outcome(Outcome { id, at, event });
    world.tell(of, vec![(id, event)]).await;
}

/// Every message that is not settled is there, as it was accepted, and so is the row.
async fn live_is_kept(world: &World, naive: &Naive, row: &RowKey) {
    let live = |id: &&MessageId| !naive.messages[id].state.status.is_settled();
    for id in naive.messages.keys().filter(live) {
        let known = &naive.messages[id];
        let found = world.store.message(*id).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("{id} is gone"));
        assert_eq!(found.state, known.state);
        assert_eq!(found.message(), &known.chunk.messages[known.index]);
    }
    assert!(world.store.row(row).await.unwrap().is_some());
}

/// The number of the oldest segment of the log.
fn oldest_segment(world: &World) -> u64 {
    let names = fs::read_dir(world.dir.path().join("log")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let numbers = names.filter_map(|name| name.strip_suffix(".seg")?.parse().ok());
    numbers.min().unwrap()
}

#[test]
fn retention_never_drops_what_is_live_and_gives_back_the_rest_of_the_log() {
    on_every_kind(|mut world| async move {
        let mut naive = Naive::default();
        let row = RowKey::new(Table::Contacts, "account", "old");
        let write = RowWrite::put(row.clone(), b"kept".to_vec());
        world.store.write(vec![write]).await.unwrap();
        let mut live: Vec<Vec<MessageId>> = Vec::new();

        // Each week brings more than a segment of the log. Something of it stays live: a message
        // in its queue, one under way, one that waits for its time.
        for week in 0..6_u64 {
            let of = week % 3;
            let chunks: Vec<_> = (0..30)
                .map(|n| {
                    let mut messages: Vec<_> = (0..10).map(|m| long_message(n * 10 + m)).collect();
                    messages[0].send_at = (n == 3).then(|| world.now + DAY * 20);
                    world.chunk(of, Queue::Normal, messages)
                })
                .collect();
            for chunk in &chunks {
                naive.accept(chunk);
                world
                    .append(of, vec![Entry::Accept(Arc::clone(chunk))])
                    .await
                    .unwrap();
            }
            let stays = [chunks[3].id(0), chunks[7].id(5), chunks[29].id(9)];
            tell(&world, &mut naive, stays[1], Event::Attempt(1)).await;
            for chunk in &chunks {
                let ids = (0..10).map(|index| chunk.id(index));
                for id in ids.filter(|id| !stays.contains(id)) {
                    let at = world.now;
                    naive.outcome(Outcome {
                        id,
                        at,
                        event: Event::Acked,
                    });
                }
                let settled = (0..10).map(|index| chunk.id(index));
                let settled = settled.filter(|id| !stays.contains(id));
                world
                    .tell(of, settled.map(|id| (id, Event::Acked)).collect())
                    .await;
            }
            live.push(stays.to_vec());
            world.later(WEEK);
            // All but the newest two of the weeks before this one end.
            if week >= 2 {
                for id in live[week as usize - 2].clone() {
                    tell(&world, &mut naive, id, Event::Expired).await;
                }
            }

            world.store.retire(world.now, WEEK).await.unwrap();

            live_is_kept(&world, &naive, &row).await;
            world.reopen(Ending::Dropped).await;
            live_is_kept(&world, &naive, &row).await;
        }

        let gone = live[0][0];
        assert!(world.store.message(gone).await.unwrap().is_none());
        if matches!(world.kind, Kind::Embedded(_)) {
            assert!(
                oldest_segment(&world) > 3,
                "the log of four weeks is given back"
            );
        }
    });
}

/// Every change after a cursor.
async fn changes_after(world: &World, cursor: Option<Cursor>) -> (Vec<MessageId>, Option<Cursor>) {
    let page = world.store.changes(account(), cursor, 100).await.unwrap();
    (
        page.changes.iter().map(|(_, change)| change.id).collect(),
        page.next,
    )
}

#[test]
fn the_feed_keeps_a_change_for_seven_days_and_old_cursors_go_on_with_the_oldest() {
    on_every_kind(|mut world| async move {
        let chunk = world.chunk(1, Queue::Normal, vec![message(1), message(2)]);
        world.accept(1, &chunk).await;
        let (first, second) = (chunk.id(0), chunk.id(1));
        world.tell(1, vec![(first, Event::Acked)]).await;
        let (_, after_first) = changes_after(&world, None).await;
        let retention = DAY * 90;
        let days = async |world: &mut World, days: u32| {
            for _ in 0..days {
                world.store.retire(world.now, retention).await.unwrap();
                world.later(DAY);
            }
        };

        days(&mut world, 5).await;
        // What happened long ago, and is known only now.
        let at = Timestamp::from_seconds(world.now.as_seconds() - 40 * 86_400);
        let late = Outcome {
            id: second,
            at,
            event: Event::Acked,
        };
        world
            .append(1, vec![Entry::Outcomes(vec![late])])
            .await
            .unwrap();
        days(&mut world, 2).await;
        assert_eq!(changes_after(&world, None).await.0, [first, second]);

        days(&mut world, 3).await;
        world.reopen(Ending::Dropped).await;
        let (kept, after_second) = changes_after(&world, None).await;
        assert_eq!(
            kept,
            [second],
            "the first was written ten days ago, the other five"
        );
        assert_eq!(
            changes_after(&world, Some(Cursor::default())).await.0,
            [second]
        );
        assert_eq!(changes_after(&world, after_first).await.0, [second]);

        world.later(FEED_KEPT);
        days(&mut world, 1).await;
        assert_eq!(
            changes_after(&world, after_first).await,
            (Vec::new(), after_first)
        );
        assert_eq!(
            changes_after(&world, after_second).await,
            (Vec::new(), after_second)
        );
        world.tell(1, vec![(first, Event::Delivered)]).await;
        assert_eq!(changes_after(&world, after_first).await.0, [first]);
    });
}
