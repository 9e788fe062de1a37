//! Pace: in every window *w* at most `rate · w + burst + 1` hand-overs, whatever happened.
//!
//! With the hand-overs of an instance in order, `j - i + 1 <= rate · (t[j] - t[i]) + burst + 1`
//! must hold for all `i <= j`. One pass is enough: of all `i` so far only the one with the
//! greatest `rate · t[i] - i` can be the worst.

use std::time::Duration;

use super::{Fault, Rules};
use crate::ledger::Frame;
use crate::operator::Pace;

/// Stamps are whole microseconds: what their rounding can add, in hand-overs at the highest rate.
const ROUNDING: f64 = 1e-3;

pub(super) fn check(frames: &[Frame], rules: &Rules, faults: &mut Vec<Fault>) {
    for (instance, pace) in &rules.paces {
        let mine = frames.iter().filter(|frame| frame.instance == *instance);
        let mut times: Vec<i64> = mine.map(|frame| frame.handed_over_at).collect();
        times.sort_unstable();
        if let Some(fault) = worst(&times, *pace, rules.stamp_lag, *instance) {
            faults.push(fault);
        }
    }
}

/// The window that breaks the pace most, if one does.
fn worst(times: &[i64], pace: Pace, lag: Duration, instance: u64) -> Option<Fault> {
    let first = *times.first()?;
    let allowance = |at: i64| pace.rate * (at - first) as f64 / 1e6;
    let most = f64::from(pace.burst) + 1.0 + pace.rate * lag.as_secs_f64();
    let mut begin = (0, f64::NEG_INFINITY);
    let mut worst = (most + ROUNDING, None);
    for (j, at) in times.iter().enumerate() {
        let saved = allowance(*at) - j as f64;
        if saved > begin.1 {
            begin = (j, saved);
        }
        let (i, best) = begin;
        // (j - i + 1) - rate * (t[j] - t[i])
        let over = best - saved + 1.0;
        if over > worst.0 {
            worst = (over, Some((i, j)));
        }
    }
    let (i, j) = worst.1?;
    let window = times[j] - times[i];
    Some(Fault::Pace {
        instance,
        frames: j - i + 1,
        window: Duration::from_micros(window.unsigned_abs()),
        allowed: pace.rate * window as f64 / 1e6 + most,
    })
}
