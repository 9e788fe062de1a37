//! Retention: whole periods go at once, and never one with something unsettled. The change feed
//! goes by when its records were written.

use std::ops::ControlFlow;
use std::time::Duration;

use rustc_hash::FxHashSet;
use zajil_model::id::MessageId;
use zajil_model::time::{Day, Timestamp};

use super::apply::Applier;
use super::bodies::ChunkSource;
use super::disk::corrupt;
use super::head::Head;
use super::key::{self, BlockKey, QueueKey};
use super::{Projection, feed};
use crate::kv::{Direction, Kv, Space, Span};
use crate::{FEED_KEPT, StoreError};

/// Rows of the change feed that are taken out at once: some MiB of memory until the next flush.
const FEED_ROWS: usize = 65_536;

/// How often it is noted how far the log is written: what the feed keeps too long at most, and
/// some 170 notes in all.
const NOTE_EVERY: Duration = Duration::from_secs(3_600);

impl<K: Kv, C: ChunkSource> Projection<K, C> {
    /// The period below which everything may go: none that reaches beyond `horizon`, and none
    /// with something unsettled.
    pub(crate) fn retirable(&self, horizon: Timestamp) -> u32 {
        let state = self.state.read();
        let ended = key::period_at(horizon);
        let live = state.oldest_live_period();
        live.map_or(ended, |live| live.min(ended))
    }

    /// Takes changes that were written longer ago than the feed is kept out of it; answers
    /// whether there are more, to be taken out after a flush. When a record was written is known
    /// from notes of how far the log was at earlier calls.
    pub(crate) fn trim_feed(&self, now: Timestamp) -> Result<bool, StoreError> {
        let notes = self.scan(&key::all_written(), Direction::Up, usize::MAX)?;
        let notes = notes.into_iter().map(|(key, value)| {
            let at = key::read_written(&key).ok_or_else(|| corrupt("note of the log"))?;
            let lsn = value.try_into().map_err(|_| corrupt("note of the log"))?;
            Ok((at, u64::from_be_bytes(lsn)))
        });
        let notes = notes.collect::<Result<Vec<_>, StoreError>>()?;
        let old = notes.partition_point(|(at, _)| *at <= now - FEED_KEPT);
        let below = old.checked_sub(1).map(|newest| notes[newest].1);
        let feeds = self.state.read().tellers.clone();
        let mut outdated = Vec::new();
        let mut left = FEED_ROWS;
        if let Some(below) = below {
            for (account, teller) in feeds.iter().filter(|(_, teller)| teller.first < below) {
                let found = feed::outdated(&self.kv, *account, teller.first, below, left)?;
                left -= found.keys.len();
                outdated.push((*account, found));
            }
        }
        let more = outdated.iter().any(|(_, found)| found.is_cut);
        let mut state = self.state.write();
        for (account, found) in outdated {
            state.trim(account, found);
        }
        let notes_gone = notes.iter().take(old.saturating_sub(1));
        notes_gone.for_each(|(at, _)| state.overlay.put(key::written(*at), None));
        if notes.last().is_none_or(|(at, _)| *at + NOTE_EVERY <= now) {
            let behind = state.applied + 1;
            let value = behind.to_be_bytes().to_vec();
            state.overlay.put(key::written(now), Some(value));
        }
        Ok(more)
    }

    /// Where the log may begin: before everything that is kept or not flushed.
    pub(crate) fn log_floor(&self) -> u64 {
        let flushed = self.flushed.load(std::sync::atomic::Ordering::Acquire);
        let state = self.state.read();
        state
            .periods
            .values()
            .copied()
            .min()
            .map_or(flushed, |start| start.min(flushed))
    }
}

impl<K: Kv, C: ChunkSource> Applier<'_, K, C> {
    /// Lets go of periods below this one, as far as nothing in them is unsettled.
    pub(super) fn retire(&mut self, below: u32) -> Result<(), StoreError> {
        let below = self
            .state
            .oldest_live_period()
            .map_or(below, |live| live.min(below));
        if below <= self.state.retired {
            return Ok(());
        }
        self.state.retired = below;
        let gone = |key: &BlockKey| key::period_of(key.first) < below;
        let blocks: Vec<BlockKey> = self.state.blocks.keys().copied().filter(gone).collect();
        blocks.into_iter().for_each(|key| self.state.cool(key));
        let periods: Vec<u32> = self.state.periods.range(..below).map(|(p, _)| *p).collect();
        for period in periods {
            self.state.periods.remove(&period);
            self.state.overlay.put(key::period_start(period), None);
            self.state.drops.push(period);
        }
        if let Some(last) = below.checked_sub(1) {
            self.retire_heads(key::period_end(last))?;
            self.retire_totals(Day(below as i32 * key::PERIOD_DAYS))?;
        }
        Ok(())
    }

    /// Forgets queues that hold nothing from `end` on.
    fn retire_heads(&mut self, end: MessageId) -> Result<(), StoreError> {
        let gone = |head: &Head| head.last < end && head.unsettled() == 0;
        // Before the scan: a flush may write what is in memory during it, and let it go.
        let known: FxHashSet<QueueKey> = self.state.heads.keys().copied().collect();
        let mut queues: Vec<QueueKey> = self
            .state
            .heads
            .iter()
            .filter(|(_, head)| gone(head))
            .map(|(key, _)| *key)
            .collect();
        let cold = self.unlocked(|kv| {
            let mut found = Vec::new();
            kv.scan(
                Space::Main,
                &Span::prefix(b"Q"),
                Direction::Up,
                &mut |key, value| {
                    let idle = Head::decode(value).is_ok_and(|head| gone(&head));
                    found.extend(key::read_head(key).filter(|_| idle));
                    ControlFlow::Continue(())
                },
            )?;
            Ok(found)
        })?;
        queues.extend(cold.into_iter().filter(|key| !known.contains(key)));
        for queue in queues {
            self.state.heads.remove(&queue);
            self.state.overlay.put(key::head(queue), None);
            self.state.overlay.put(key::live(queue), None);
        }
        Ok(())
    }

    /// Forgets the counts of days before `first`.
    fn retire_totals(&mut self, first: Day) -> Result<(), StoreError> {
        let mut old: Vec<(QueueKey, Day)> = self
            .state
            .cells
            .keys()
            .copied()
            .filter(|(_, day)| *day < first)
            .collect();
        let cold = self.unlocked(|kv| {
            let mut found = Vec::new();
            kv.scan(
                Space::Main,
                &Span::prefix(b"T"),
                Direction::Up,
                &mut |key, _| {
                    found.extend(key::read_totals(key).filter(|(_, day)| *day < first));
                    ControlFlow::Continue(())
                },
            )?;
            Ok(found)
        })?;
        old.extend(cold);
        for (queue, day) in old {
            self.state.cells.remove(&(queue, day));
            self.state.overlay.put(key::totals(queue, day), None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zajil_model::lifecycle::{Event, Outcome, Status};

    use super::*;
    use crate::codec::{CancelAll, Record};
    use crate::kv::map::MapKv;
    use crate::projection::testing::{Nowhere, START, chunk};
    use crate::projection::{Budgets, Positioned};

    #[test]
    fn a_period_stays_until_a_mass_cancel_is_in_its_states() {
        let week = Duration::from_secs(7 * 86_400);
        let projection = Projection::open(MapKv::default(), Nowhere, Budgets::default()).unwrap();
        let mut lsn = 0;
        let mut apply = |record| {
            lsn += 1;
            let records = vec![Positioned {
                lsn,
                len: 0,
                record,
            }];
            projection.apply(records).unwrap();
        };
        // More blocks than two sweeps reach.
        let chunks: Vec<_> = [START, START + week * 2]
            .into_iter()
            .flat_map(|at| (0..40).map(move |number| chunk(at, number)))
            .collect();
        for chunk in &chunks {
            apply(Record::Accept(Arc::clone(chunk)));
        }
        let newest = chunks[79].id(255);
        apply(Record::CancelAll(CancelAll {
            account: chunks[0].account,
            instance: chunks[0].instance,
            queue: None,
            upto: newest,
            at: START + week * 3,
        }));

        let below = projection.retirable(START + week * 2);
        apply(Record::Retire(key::period_at(START) + 1));
        let kept = projection.kept_periods();
        while let Some(instance) = projection.unswept().first() {
            apply(Record::Sweep(*instance));
        }
        apply(Record::Retire(key::period_at(START) + 1));

        assert_eq!((below, kept), (key::period_at(START), 2));
        assert_eq!(projection.kept_periods(), 1);
        let found = projection.message(newest).unwrap().unwrap();
        assert_eq!(found.state.status, Status::Cancelled);
        let told = projection.changes(chunks[0].account, None, 30_000).unwrap();
        assert_eq!(told.changes.len(), 80 * 256);
    }

    #[test]
    fn a_row_of_the_feed_stays_until_its_last_change_is_old() {
        let week = Duration::from_secs(7 * 86_400);
        let projection = Projection::open(MapKv::default(), Nowhere, Budgets::default()).unwrap();
        let chunk = chunk(START, 0);
        let mut lsn = 0;
        let mut apply = |record| {
            lsn += 1;
            let records = vec![Positioned {
                lsn,
                len: 0,
                record,
            }];
            projection.apply(records).unwrap();
        };
        let acked = |index| {
            let (id, at, event) = (chunk.id(index), START, Event::Acked);
            Record::Outcomes(vec![Outcome { id, at, event }])
        };
        let told = || {
            let changes = projection.changes(chunk.account, None, 10).unwrap().changes;
            changes
                .iter()
                .map(|(_, change)| change.id)
                .collect::<Vec<_>>()
        };

        apply(Record::Accept(Arc::clone(&chunk)));
        apply(acked(0));
        projection.trim_feed(START).unwrap();
        apply(acked(1));
        projection.flush().unwrap();
        projection.trim_feed(START + week).unwrap();
        projection.flush().unwrap();
        let after_a_week = told();
        projection.trim_feed(START + week * 2).unwrap();
        projection.flush().unwrap();

        assert_eq!(after_a_week, [chunk.id(0), chunk.id(1)]);
        assert_eq!(told(), []);
    }
}
