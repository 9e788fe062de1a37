//! The clock of a shard's log: the places of its records.
//!
//! `lsn = tick << 10 | shard`, as ids are made: unique over all shards, in order of time, and each
//! names its hour, in which it is kept. No tick is given above a ceiling that is durable, so that a
//! new owner begins above everything that a former one ever wrote, or still may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use zajil_model::id::{SHARD_BITS, Shard, TICKS_PER_BUCKET, Tick};
use zajil_model::time::Timestamp;

use super::kv::CEILING_AHEAD;

/// The clock.
#[derive(Debug)]
pub struct LogClock {
    shard: Shard,
    /// A tick up to which a reader was told that it has seen everything: no record of any shard of
    /// this node may get one below it any more.
    told: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last tick given.
    last: u64,
    /// The highest that may be.
    ceiling: u64,
    /// The first tick of what is given and not applied yet.
    under_way: Option<u64>,
}

/// The hour of a record.
pub(super) const fn hour(lsn: u64) -> u32 {
    ((lsn >> SHARD_BITS) / TICKS_PER_BUCKET) as u32
}

impl LogClock {
    /// A clock that gave `last` before, and may give ticks up to `ceiling`.
    pub const fn new(shard: Shard, last: Tick, ceiling: Tick, told: Arc<AtomicU64>) -> Self {
        Self {
            shard,
            told,
            state: Mutex::new(State {
                last: last.0,
                ceiling: ceiling.0,
                under_way: None,
            }),
        }
    }

    /// The places of `n` records in a row, all in one hour and none before `now`; `None` when the
    /// ceiling is in the way.
    pub fn take(&self, n: u64, now: Timestamp) -> Option<Vec<u64>> {
        let mut state = self.state.lock();
        let next = self.due(now).max(state.last + 1);
        let end = (next / TICKS_PER_BUCKET + 1) * TICKS_PER_BUCKET;
        let first = if next + n > end { end } else { next };
        if first + n - 1 > state.ceiling {
            return None;
        }
        state.last = first + n - 1;
        state.under_way.get_or_insert(first);
        let places = (first..first + n).map(|tick| Tick(tick).id(self.shard));
        Some(places.collect())
    }

    /// The ceiling that is to be in force next.
    pub fn wanted(&self, now: Timestamp) -> Tick {
        let last = self.state.lock().last;
        Tick(last.max(self.due(now)) + CEILING_AHEAD.0)
    }

    /// The place of the first record, were it written now.
    pub(super) fn first(&self, now: Timestamp) -> u64 {
        let last = self.state.lock().last;
        Tick(self.due(now).max(last + 1)).id(self.shard)
    }

    /// The place of the next record at the earliest, if none is under way.
    pub(super) fn next_if_idle(&self) -> Option<u64> {
        let state = self.state.lock();
        let next = Tick(state.last + 1).id(self.shard);
        state.under_way.is_none().then_some(next)
    }

    /// The tick that a record would get now, were it the first.
    fn due(&self, now: Timestamp) -> u64 {
        Tick::at(now).0.max(self.told.load(Ordering::Acquire) + 1)
    }

    /// This ceiling is durable.
    pub fn raise(&self, ceiling: Tick) {
        let mut state = self.state.lock();
        state.ceiling = state.ceiling.max(ceiling.0);
    }

    /// The last tick given.
    pub fn last(&self) -> Tick {
        Tick(self.state.lock().last)
    }

    /// The place of the next record at the earliest.
    pub fn next(&self) -> u64 {
        Tick(self.state.lock().last + 1).id(self.shard)
    }

    /// All that was given is applied.
    pub fn applied(&self) {
        self.state.lock().under_way = None;
    }

    /// Moves on to a tick, as far as the ceiling allows: a shard without work keeps nobody waiting.
    /// Answers the place before which no record will come any more, and all are applied.
    pub fn settle(&self, tick: Tick) -> u64 {
        let mut state = self.state.lock();
        if let Some(first) = state.under_way {
            return Tick(first).id(self.shard);
        }
        state.last = state.last.max(tick.0.min(state.ceiling));
        Tick(state.last + 1).id(self.shard)
    }

    /// The first place that is given and not applied yet, if any.
    pub fn under_way(&self) -> Option<u64> {
        let first = self.state.lock().under_way;
        first.map(|first| Tick(first).id(self.shard))
    }

    /// Whether the ceiling is at a tick or above it.
    pub fn reaches(&self, tick: Tick) -> bool {
        self.state.lock().ceiling >= tick.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(last: u64, ceiling: u64) -> LogClock {
        let shard = Shard::new(5).unwrap();
        LogClock::new(shard, Tick(last), Tick(ceiling), Arc::default())
    }

    fn at(tick: u64) -> Timestamp {
        Tick(tick).time()
    }

    #[test]
    fn places_follow_the_time_and_never_pass_the_ceiling() {
        let clock = clock(10, 100);

        assert_eq!(clock.take(1, at(50)), Some(vec![50 << 10 | 5]));
        assert_eq!(
            clock.take(2, at(40)),
            Some(vec![51 << 10 | 5, 52 << 10 | 5])
        );
        assert_eq!(clock.take(49, at(0)), None);
        assert_eq!(clock.take(1, at(500)), None);
        clock.raise(Tick(600));
        assert_eq!(clock.take(1, at(500)), Some(vec![500 << 10 | 5]));
    }

    #[test]
    fn the_records_of_one_group_are_of_one_hour() {
        let clock = clock(TICKS_PER_BUCKET - 3, TICKS_PER_BUCKET * 2);

        let places = clock.take(5, at(0)).unwrap();

        assert_eq!(places[0] >> 10, TICKS_PER_BUCKET);
        assert_eq!(hour(places[0]), 1);
    }

    #[test]
    fn a_place_is_settled_when_nothing_before_it_is_under_way() {
        let clock = clock(10, 100);

        assert_eq!(clock.settle(Tick(20)), 21 << 10 | 5);
        let given = clock.take(2, at(30)).unwrap();
        assert_eq!(clock.settle(Tick(40)), given[0]);
        assert_eq!(clock.next(), given[1] + (1 << 10));
        clock.applied();
        assert_eq!(clock.settle(Tick(40)), 41 << 10 | 5);
        assert_eq!(clock.settle(Tick(400)), 101 << 10 | 5);
        assert!(clock.reaches(Tick(100)) && !clock.reaches(Tick(101)));
    }

    #[test]
    fn nothing_comes_before_what_a_reader_was_told_it_has_seen() {
        let clock = clock(10, 1_000);

        clock.told.store(500, Ordering::Release);

        assert_eq!(clock.take(1, at(20)), Some(vec![501 << 10 | 5]));
    }
}
