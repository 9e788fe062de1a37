//! What waits for a shard becomes durable: one group on its way at a time, which is repeated as it was
//! until it has an answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use zajil_model::id::{Epoch, SHARD_BITS, Shard, Tick};
use zajil_model::time::Clock as _;
use zajil_storage::{RowWrite, StoreError};

use super::held::{self, Held};
use super::{NodeStore, WITHIN};
use crate::database::{Appended, Group, Place};
use crate::rare::Rare;
use crate::wire::Lateness;

/// The wait before an append without an answer is made again.
const AGAIN: Duration = Duration::from_millis(100);

/// How often an owner that appends finds out whether it still is one: with each flush.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

impl NodeStore {
    /// Writes what waits for a shard, one group after the other.
    pub(super) async fn write_all(self, shard: Shard, held: Arc<Held>) {
        let mut flushed_at = Instant::now();
        while let Some(calls) = held.next_group() {
            let group: Group = Arc::new(calls.iter().map(|call| call.entries.clone()).collect());
            let Some(first) = self.write_group(shard, &held, &group).await else {
                held.lose();
                for call in calls {
                    // It may be durable, and then the next owner has it.
                    (call.done)(Err(StoreError::Closed));
                }
                break;
            };
            for (tick, call) in (first..).zip(calls) {
                held.apply(shard, Tick(tick).id(shard), call.entries);
                (call.done)(Ok(()));
            }
            held.log.applied();
            if flushed_at.elapsed() >= FLUSH_EVERY {
                flushed_at = Instant::now();
                self.flush(shard, &held).await;
            }
        }
        for call in held.rest() {
            (call.done)(Err(StoreError::NotOpen(shard)));
        }
    }

    /// Makes a group durable, and then the rows that it brings; answers the tick of its first call.
    /// `None` when the shard was lost meanwhile.
    async fn write_group(&self, shard: Shard, held: &Held, group: &Group) -> Option<u64> {
        let calls = group.len() as u64;
        let first = loop {
            if let Some(places) = held.log.take(calls, self.0.clock.now()) {
                break places[0] >> SHARD_BITS;
            }
            self.raise_log(shard, held).await.ok()?;
        };
        let place = (held.epoch, first);
        let written = self.insist(shard, held, place, group).await;
        (written && self.put_rows(held, place, group).await).then_some(first)
    }

    /// Makes it durable that a log may go on for a while.
    pub(super) async fn raise_log(&self, shard: Shard, held: &Held) -> Result<(), StoreError> {
        let (epoch, to) = (held.epoch, held.log.wanted(self.0.clock.now()));
        while held.is_alive() {
            let raised = self.ask("raise a log", Lateness::Seldom, move |database| {
                database.log_goes_to(shard, epoch, (to, false))
            });
            match raised.await {
                Ok(Ok(())) => {
                    held.log.raise(to);
                    return Ok(());
                }
                Ok(Err(_)) => held.lose(),
                Err(_) => sleep(AGAIN).await,
            }
        }
        Err(StoreError::NotOpen(shard))
    }

    /// Lets a shard go in good order: its log ends, and the next owner begins right behind it.
    pub(super) async fn release(&self, shard: Shard, held: &Held) -> Result<(), StoreError> {
        let epoch = held.epoch;
        while held.is_alive() {
            let last = held.log.last();
            let released = self.ask("let a shard go", Lateness::Seldom, move |database| {
                database.log_goes_to(shard, epoch, (last, true))
            });
            match released.await {
                Ok(result) => return result,
                Err(_) => sleep(AGAIN).await,
            }
        }
        Err(StoreError::NotOpen(shard))
    }

    /// Writes the rows that a group brings, again and again: they count by their time, whoever owns
    /// the shard.
    async fn put_rows(&self, held: &Held, (_, stamp): Place, group: &Group) -> bool {
        let rows = held::rows(group);
        while held.is_alive() {
            if self.put_rows_once(stamp, &rows).await.is_ok() {
                return true;
            }
            sleep(AGAIN).await;
        }
        false
    }

    /// One try to write rows that a group brought.
    pub(super) async fn put_rows_once(
        &self,
        stamp: u64,
        rows: &[RowWrite],
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = rows.to_vec();
        let put = self.ask(
            "write rows of an append",
            Lateness::Often,
            move |database| {
                database.write_of_log(stamp, &rows);
            },
        );
        put.await
    }

    /// Appends again and again until it has an answer; false when the shard was lost meanwhile.
    async fn insist(&self, shard: Shard, held: &Held, place: Place, group: &Group) -> bool {
        while held.is_alive() {
            if self.append_once(shard, place, group).await {
                return true;
            }
            sleep(AGAIN).await;
        }
        false
    }

    /// One try to append; true when it is known to be there. The database does not look whose
    /// shard it is.
    async fn append_once(&self, shard: Shard, place: Place, group: &Group) -> bool {
        let (there, back) = self.ways();
        let (answer, answered) = oneshot::channel();
        let (wire, database) = (self.0.wire.clone(), Arc::clone(&self.0.database));
        let (group, reached) = (Arc::clone(group), Arc::clone(&self.0.reached));
        self.0.wire.send(there, Lateness::Often, move || {
            let accepts = held::accepts(&group);
            if database.append(shard, place, &group) == Appended::Void {
                reached.note(Rare::LateAppend);
                if held::parts(&group).next().is_some() {
                    reached.note(Rare::LateRows);
                }
            }
            let note = Arc::clone(&reached);
            let comes = move || {
                if answer.send(()).is_err() && accepts {
                    note.note(Rare::AcceptAppliedButTimedOut);
                }
            };
            if wire.send(back, Lateness::Seldom, comes).is_none() && accepts {
                reached.note(Rare::AcceptAppliedButTimedOut);
            }
        });
        matches!(timeout(WITHIN, answered).await, Ok(Ok(())))
    }

    /// Whether what is durable under an epoch counts: nobody took the shard before.
    pub(super) async fn still_counts(&self, shard: Shard, epoch: Epoch) -> Result<(), StoreError> {
        let now = self.ask(
            "read the epoch of a shard",
            Lateness::Seldom,
            move |database| database.epoch(shard),
        );
        match now.await? {
            now if now == epoch => Ok(()),
            _ => Err(StoreError::Closed),
        }
    }

    /// A flush is conditional on the epoch: so a deposed owner finds out.
    async fn flush(&self, shard: Shard, held: &Held) {
        let epoch = self.ask("flush", Lateness::Seldom, move |database| {
            database.epoch(shard)
        });
        if epoch.await.is_ok_and(|epoch| epoch != held.epoch) {
            self.0.reached.note(Rare::FoundOutByFlush);
            held.lose();
        }
    }
}
