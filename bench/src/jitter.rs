//! The timer alone: how late a bare tokio loop is, which no pacing on tokio can undercut.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::measure::{micros, now};

/// Runs `loops` loops that wake every `every`, and answers by how much the gaps between their
/// wake-ups were wrong, in microseconds.
pub(crate) async fn of_bare_loops(loops: usize, every: Duration, seconds: f64) -> Histogram<u64> {
    let errors = Arc::new(Mutex::new(micros()));
    let mut running = JoinSet::new();
    let zero = now();
    for n in 0..loops {
        let errors = errors.clone();
        let first = zero + every.mul_f64(n as f64 / loops as f64);
        running.spawn(async move {
            let mut mine = micros();
            let (mut due, mut last) = (first, None);
            while (now() - zero).as_secs_f64() < seconds {
                tokio::time::sleep_until(due.into()).await;
                let at = now();
                if let Some(last) = last.replace(at) {
                    mine.saturating_record(gap_error(at - last, every));
                }
                due += every;
            }
            errors.lock().add(mine).expect("both have the same bounds");
        });
    }
    while running.join_next().await.is_some() {}
    errors.lock().clone()
}

/// By how many microseconds a gap is wrong.
pub(crate) fn gap_error(gap: Duration, wanted: Duration) -> u64 {
    gap.abs_diff(wanted).as_micros() as u64
}
