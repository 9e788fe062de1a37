//! The timer alone: how late a bare tokio loop is, which no pacing on tokio can undercut.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::measure::{micros, now};

/// Runs `loops` loops that wake every `every`, and answers by how much the gaps between their
/// wake-ups were wrong, in microseconds.
pub(crate) async fn of_bare_loops(loops: usize, every: Duration, seconds: f64) -> Histogram<u64> {
    let mut running = JoinSet::new();
    // The first round wakes late while the others are still being started.
    let zero = now() + every;
    let wakes = (seconds / every.as_secs_f64()).ceil() as usize;
    for n in 0..loops {
        let first = zero + every.mul_f64(n as f64 / loops as f64);
        running.spawn(async move {
            let mut errors = Vec::with_capacity(wakes);
            let (mut due, mut last) = (first, None);
            for _ in 0..wakes {
                tokio::time::sleep_until(due.into()).await;
                let at = now();
                if let Some(last) = last.replace(at) {
                    errors.push(gap_error(at - last, every));
                }
                due += every;
            }
            errors
        });
    }
    // Added up when all is over: a histogram for each loop would be megabytes in between.
    let mut all = micros();
    for errors in running.join_all().await {
        for error in errors {
            all.saturating_record(error);
        }
    }
    all
}

/// By how many microseconds a gap is wrong.
pub(crate) fn gap_error(gap: Duration, wanted: Duration) -> u64 {
    gap.abs_diff(wanted).as_micros() as u64
}
