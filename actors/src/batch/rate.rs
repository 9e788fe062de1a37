//! How fast a batch goes, and when it is done.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use zajil_model::batch::{BatchState, eta as time_left};
use zajil_model::lifecycle::Status;
use zajil_model::time::{Mono, Timestamp};
use zajil_storage::{StatusCounts, StoreError, Totals};

use super::record::BatchRecord;
use super::{BatchError, BatchPorts};
use crate::directory::DirectoryError;

/// The time over which a rate is measured.
const OVER: Duration = Duration::from_secs(60);

/// Counts that are at least this far apart are kept; more would say nothing more.
const APART: Duration = Duration::from_secs(2);

/// Messages that are settled, in a table of counts.
pub(super) fn settled(counts: &StatusCounts) -> u64 {
    counts.iter().sum::<u64>() - unsettled(counts)
}

/// Messages that are not settled, in a table of counts.
pub(super) fn unsettled(counts: &StatusCounts) -> u64 {
    let unsettled = [Status::Scheduled, Status::Pending, Status::Processing];
    unsettled
        .into_iter()
        .map(|status| counts[status as usize])
        .sum()
}

/// Measures messages a second from what is counted now and then.
#[derive(Debug, Default)]
pub(super) struct RateMeter {
    /// When, and how many were settled then; at most `OVER / APART` of them, and two.
    counted: VecDeque<(Mono, u64)>,
}

impl RateMeter {
    /// Notes how many are settled now.
    pub(super) fn note(&mut self, now: Mono, settled: u64) {
        if self
            .counted
            .back()
            .is_some_and(|(last, _)| now.since(*last) < APART)
        {
            return;
        }
        self.counted.push_back((now, settled));
        // One older than the span stays, so that the span is covered.
        while self
            .counted
            .get(1)
            .is_some_and(|(second, _)| now.since(*second) > OVER)
        {
            self.counted.pop_front();
        }
    }

    /// Messages a second, lately.
    pub(super) fn rate(&self, now: Mono) -> f64 {
        let (Some(first), Some(last)) = (self.counted.front(), self.counted.back()) else {
            return 0.0;
        };
        let seconds = now.since(first.0).as_secs_f64();
        if first.0 == last.0 || seconds <= 0.0 {
            return 0.0;
        }
        last.1.saturating_sub(first.1) as f64 / seconds
    }
}

/// When a batch is done at the pace that its instances have now.
pub(super) async fn eta(
    ports: &BatchPorts,
    record: &BatchRecord,
    totals: &Totals,
) -> Result<Option<Timestamp>, BatchError> {
    if !matches!(record.life.state, BatchState::Draft | BatchState::Running) {
        return Ok(None);
    }
    let left: FxHashMap<_, _> = totals
        .by_instance
        .iter()
        .map(|(instance, counts)| (*instance, unsettled(counts)))
        .collect();
    let mut parts = Vec::with_capacity(record.senders.len());
    for sender in &record.senders {
        let instance = ports
            .directory
            .instance_of(record.account, sender.instance)
            .await;
        let moving = instance?.filter(|instance| !instance.paused && !instance.held);
        let rate = moving.map_or(0.0, |instance| instance.pace.rate_per_second());
        parts.push((left.get(&sender.instance).copied().unwrap_or(0), rate));
    }
    Ok(time_left(&parts).map(|left| ports.clock.now() + left))
}

impl From<DirectoryError> for BatchError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Field { field, message } => Self::Field { field, message },
            DirectoryError::Store(error) => Self::Store(error),
            DirectoryError::NotFound(_) => Self::NotFound,
            DirectoryError::Busy => Self::Store(StoreError::Overloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let mut meter = RateMeter::default();
        for second in 0..100 {
            meter.note(at(second), second * 5);
        }
        assert!(
            (meter.rate(at(99)) - 5.0).abs() < 0.3,
            "{}",
            meter.rate(at(99))
        );

        for second in 100..300 {
            meter.note(at(second), 500);
        }
        assert_eq!(meter.rate(at(299)), 0.0);
    }

    #[test]
    fn a_rate_is_not_known_from_one_count() {
        let mut meter = RateMeter::default();
        meter.note(at(0), 1_000);

        assert_eq!(meter.rate(at(10)), 0.0);
    }
}
