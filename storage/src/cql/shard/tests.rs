//! Taking a shard and giving it up, over a database.

use super::super::testing;
use super::*;
use crate::codec::encode_alone;
use crate::kv::{Kv, KvWrite, Space};
use crate::projection::key::{self, QueueKey};
use crate::projection::testing::chunk;
use crate::{Condition, Entry, RowKey, RowWrite, Table};

/// Applies a record of the log, as its writer does; answers its place.
async fn applied(ground: &testing::Ground, open: &Arc<Open>, record: Record) -> u64 {
    let (own, now) = (Arc::clone(open), ground.db.clock.now());
    let applied = ground.ask(move || {
        let lsn = own.log.take(1, now).unwrap()[0];
        let len = 0;
        let records = vec![Positioned { lsn, len, record }];
        own.projection.apply(records).unwrap();
        own.projection.advance(own.log.next());
        own.log.applied();
        lsn
    });
    applied.await
}

#[test]
fn a_flush_that_was_committed_is_put_in_place_by_the_next_owner() {
    testing::Ground::with(async |ground| {
        for (number, bytes) in [(1, 100), (2, 2 << 20)] {
            let shard = Shard::new(number).unwrap();
            let value: Vec<u8> = (0..bytes)
                .map(|n| (n % 251 * (n % 239) % 251) as u8)
                .collect();
            let means = ground.means();
            let taken = Open::take(&means, shard, None, Arc::default());
            let (first, _) = taken.await.unwrap();
            let changes = redo::changes(vec![KvWrite {
                space: Space::Main,
                key: b"X".to_vec(),
                value: Some(value.clone()),
            }]);
            let body = redo::encode(&changes);
            let parts = redo::parts(&body);
            let redo = head::Redo {
                seq: 1,
                epoch: first.epoch,
                parts: parts.len() as u32,
                is_applied: false,
            };
            let (db, alive) = (&first.ground.db, &first.ground.alive);
            redo::write_parts(db, alive, shard, redo, &parts)
                .await
                .unwrap();
            let inline = if parts.is_empty() { &body[..] } else { &[] };
            let commit = first
                .held
                .change(db, alive, Some(inline), |head| head.redo = redo);
            commit.await.unwrap();

            // It dies here.
            let taken = Open::take(&means, shard, None, Arc::default());
            let (second, _) = taken.await.unwrap();

            let found = ground.ask(move || second.projection.kv().get(Space::Main, b"X"));
            assert_eq!(found.await.unwrap(), Some(value));
        }
    });
}

#[test]
fn a_shard_with_news_is_given_up_in_one_change_and_taken_in_one() {
    testing::Ground::with(async |ground| {
        let (shard, means) = (Shard::new(3).unwrap(), ground.means());
        let taken = Open::take(&means, shard, None, Arc::default());
        let (first, begun) = taken.await.unwrap();
        let first = Arc::new(first);
        let last = applied(&ground, &first, Record::Retire(1)).await;
        let before = head::read(&ground.db, shard).await.unwrap().unwrap();

        Open::release(&first).await.unwrap();
        let given = head::read(&ground.db, shard).await.unwrap().unwrap();
        let taken = Open::take(&means, shard, None, Arc::default());
        let (second, opened) = taken.await.unwrap();
        let now = head::read(&ground.db, shard).await.unwrap().unwrap();

        assert_eq!([given.seq, now.seq], [before.seq + 1, before.seq + 2]);
        assert_eq!(given.head.log.id(shard), last);
        assert_eq!(second.projection.stands_at(), (last, given.head.tail));
        assert!(now.head.seals.is_void(first.epoch, sealed(last).unwrap()));
        assert!(begun.ceiling <= opened.last && opened.last < opened.ceiling);
    });
}

#[test]
fn what_a_flush_took_that_was_under_way_when_the_shard_was_given_up_is_found_by_the_next_owner() {
    testing::Ground::with(async |ground| {
        let means = ground.means();
        for number in 5..15 {
            let shard = Shard::new(number).unwrap();
            let taken = Open::take(&means, shard, None, Arc::default());
            let first = Arc::new(taken.await.unwrap().0);
            let chunk = chunk(ground.db.clock.now(), 0);
            let instance = chunk.instance;
            applied(&ground, &first, Record::Accept(chunk)).await;

            let on_time = writer::flush(Arc::clone(&first));
            let (_, given) = tokio::join!(on_time, Open::release(&first));
            given.unwrap();
            let late = ground.ask(move || first.projection.flush()).await;
            assert_eq!(late, Err(StoreError::Closed));
            let taken = Open::take(&means, shard, None, Arc::default());
            let (second, _) = taken.await.unwrap();

            let work = second.projection.work();
            assert!(
                work.iter().any(|one| one.instance == instance),
                "shard {number}: {work:?}"
            );
        }
    });
}

#[test]
fn who_dies_leaves_a_tail_that_is_read_before_it_is_sealed() {
    testing::Ground::with(async |ground| {
        let (shard, means) = (Shard::new(4).unwrap(), ground.means());
        let taken = Open::take(&means, shard, None, Arc::default());
        let (first, _) = taken.await.unwrap();
        let lsn = first.log.take(1, ground.db.clock.now()).unwrap()[0];
        let payload = &encode_alone(Record::Retire(1)).payload[..];
        let lines = [log::Line { lsn, payload }];
        let written = log::write(&first.ground, first.epoch, 1, 3_600, &lines);
        written.await.unwrap();

        // It dies here.
        let taken = Open::take(&means, shard, None, Arc::default());
        let (second, _) = taken.await.unwrap();

        assert_eq!(second.projection.stands_at().0, lsn);
        let head = second.held.now().await;
        assert!(!head.seals.is_void(first.epoch, sealed(lsn).unwrap()));
    });
}

#[test]
fn rows_of_a_tail_are_there_before_a_flush_passes_them() {
    testing::Ground::with(async |ground| {
        let (shard, mut means) = (Shard::new(15).unwrap(), ground.means());
        let taken = Open::take(&means, shard, None, Arc::default());
        let (first, _) = taken.await.unwrap();
        let row = RowWrite {
            key: RowKey::new(Table::Audit, b"1", b"1"),
            value: Some(b"said".to_vec()),
            condition: Condition::None,
        };
        let good = chunk(ground.db.clock.now(), 0);
        let mut bad = Arc::unwrap_or_clone(chunk(ground.db.clock.now(), 1));
        bad.queue = zajil_model::message::Queue::High;
        let queue = QueueKey {
            instance: bad.instance,
            queue: bad.queue,
        };
        let appends = [
            vec![Entry::Rows(vec![row.clone()]), Entry::Accept(good)],
            vec![Entry::Accept(Arc::new(bad))],
        ];
        let records: Vec<_> = appends
            .into_iter()
            .flat_map(|entries| codec::encode(entries).unwrap())
            .collect();
        let now = ground.db.clock.now();
        let places = first.log.take(records.len() as u64, now).unwrap();
        let lines: Vec<_> = places
            .iter()
            .zip(&records)
            .map(|(lsn, record)| log::Line {
                lsn: *lsn,
                payload: &record.payload,
            })
            .collect();
        let written = log::write(&first.ground, first.epoch, 1, 3_600, &lines);
        written.await.unwrap();
        // Nobody can apply the second append.
        let unreadable = redo::changes(vec![KvWrite {
            space: Space::Main,
            key: key::head(queue),
            value: Some(vec![0]),
        }]);
        let redo = head::Redo::default();
        let put = redo::apply(&ground.db, &first.ground.alive, shard, redo, &unreadable);
        put.await.unwrap();

        // The next owner flushes the first append, and gets no further.
        means.budgets.flush_bytes = 0;
        let taken = Open::take(&means, shard, None, Arc::default()).await;

        assert!(matches!(taken, Err(StoreError::Corrupt { .. })));
        let left = head::read(&ground.db, shard).await.unwrap().unwrap().head;
        assert!(places[1] < left.tail && left.tail <= places[2]);
        let found = rows::row(&ground.db, &row.key).await.unwrap();
        assert_eq!(found, row.value);
    });
}

#[test]
fn rows_of_an_owner_come_after_those_of_the_last_one_although_its_clock_is_behind() {
    testing::Ground::with(async |ground| {
        let means = ground.means();
        for (number, dies) in [(16, false), (17, true)] {
            let shard = Shard::new(number).unwrap();
            let key = RowKey::new(Table::Checkpoints, number.to_be_bytes(), b"");
            let taken = Open::take(&means, shard, None, Arc::default());
            let first = Arc::new(taken.await.unwrap().0);
            ground.clock.later(Duration::from_secs(30));
            let at = ground.db.stamp();
            let old = vec![(key.clone(), Some(b"old".to_vec()))];
            put_rows(&first.ground, at, old).await.unwrap();
            if dies {
                let lsn = first.log.take(1, ground.db.clock.now()).unwrap()[0];
                let payload = &encode_alone(Record::Retire(1)).payload[..];
                let lines = [log::Line { lsn, payload }];
                let written = log::write(&first.ground, first.epoch, at, 3_600, &lines);
                written.await.unwrap();
            } else {
                applied(&ground, &first, Record::Retire(1)).await;
                Open::release(&first).await.unwrap();
            }

            let behind = ground.means_of_one_behind(Duration::from_secs(3_600)).await;
            let taken = Open::take(&behind, shard, None, Arc::default());
            let (second, _) = taken.await.unwrap();
            let new = vec![(key.clone(), Some(b"new".to_vec()))];
            let put = put_rows(&second.ground, behind.db.stamp(), new);
            put.await.unwrap();

            let found = rows::row(&ground.db, &key).await.unwrap();
            assert_eq!(found, Some(b"new".to_vec()), "shard {number}");
        }
    });
}

#[test]
fn a_late_record_of_a_sealed_epoch_is_left_out() {
    let found = |lsn: u64, epoch| Found {
        lsn,
        epoch: Epoch(epoch),
        at: 0,
        payload: encode_alone(Record::Retire(1)).payload,
    };
    let mut head = Head::default();
    let seen = sealed(20).map(|lsn| (Epoch(1), lsn));
    head.seals.seal_below(Epoch(2), seen);

    let tail = [found(10, 1), found(20, 1), found(30, 1), found(40, 2)];
    let (appends, _) = replayed(&head, &tail).unwrap();

    let counted: Vec<u64> = appends.iter().flatten().map(|one| one.lsn).collect();
    assert_eq!(counted, [10, 20, 40]);
}
