//! The token bucket of one instance, kept as a deadline.
//!
//! `next` is the point at which the next token is whole. A hand-over moves it by exactly one
//! interval, from where it *should* have been and not from when the caller came: lateness is not
//! lost. It never lies further back than the burst, which is all that can be caught up. So in any
//! window *w* at most `rate · w + burst + 1` hand-overs happen, however late or often one asks.
//!
//! Jitter delays single hand-overs by a random part of an interval and never moves `next`: gaps
//! vary, their mean is the interval, and the bound holds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PaceSaved, PaceSpec};
use crate::time::Mono;

/// What a throttling leaves of the rate: half, as congestion control does.
pub const DECREASE: f64 = 0.5;

/// The least part of the configured rate that throttling leaves, five halvings: a channel that is
/// not content with it means "stop", and says so by its waits.
pub const LEAST_FACTOR: f64 = 1.0 / 32.0;

/// The least wait after a throttling, also when the channel asked for less. Until it is over,
/// more throttling belongs to the same event and does not lower the rate again: what was in
/// flight comes back refused together.
pub const LEAST_THROTTLE_WAIT: Duration = Duration::from_secs(1);

/// How long acknowledgements take to lead from nothing back to the whole rate, evenly.
pub const RECOVERY: Duration = Duration::from_secs(60);

/// The rate is raised in steps of at least this length: finer ones would cost work on each
/// acknowledgement of a fast instance.
pub const RECOVERY_STEP: Duration = Duration::from_millis(100);

/// The most time that one acknowledgement counts for, so that after an idle hour a single one
/// does not restore the whole rate.
pub const RECOVERY_PER_ACK: Duration = Duration::from_secs(10);

/// The longest interval, about 100 years: what slower rates are rounded to.
const LONGEST_INTERVAL: u64 = 3_155_760_000 * 1_000_000_000;

/// How fast one instance may go, now.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: f64,
    burst: u32,
    jitter: f64,
    factor: f64,
    raised_at: Mono,
    held_until: Mono,
    bucket: Bucket,
}

/// Where a pace stands, for the next owner of its instance: as lengths, since no two nodes have the
/// same clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceHanded {
    /// Nanoseconds until the next token is whole; below 0, for how long it has been.
    pub next_in: i64,
    /// Nanoseconds for which throttling holds everything back.
    pub held_for: u64,
}

/// All times and lengths in nanoseconds.
#[derive(Clone, Debug)]
struct Bucket {
    interval: u64,
    /// `burst` intervals: how far `next` may lie behind.
    span: u64,
    next: u64,
    /// The delay of the next hand-over by jitter.
    delay: u64,
}

impl Pace {
    /// A pace with an empty bucket: the first hand-over is one interval from now, since a former
    /// owner may just have made one.
    pub fn new(spec: &PaceSpec, now: Mono) -> Self {
        Self::with_factor(spec, 1.0, now)
    }

    /// As [`Self::new`], as slow as throttling had left it.
    pub fn restored(spec: &PaceSpec, saved: &PaceSaved, now: Mono) -> Self {
        Self::with_factor(spec, saved.factor.unwrap_or(1.0), now)
    }

    fn with_factor(spec: &PaceSpec, factor: f64, now: Mono) -> Self {
        let (rate, burst) = (spec.rate_per_second(), spec.effective_burst());
        let factor = if factor.is_nan() {
            1.0
        } else {
            factor.clamp(LEAST_FACTOR, 1.0)
        };
        let interval = interval_of(rate * factor);
        let next = now.as_nanos().saturating_add(interval);
        let bucket = Bucket {
            interval,
            span: span_of(interval, burst),
            next,
            delay: 0,
        };
        Self {
            rate,
            burst,
            jitter: spec.jitter,
            factor,
            raised_at: now,
            held_until: now,
            bucket,
        }
    }

    /// Where it stands at `now`, after the last hand-over of this owner.
    pub fn handed(&self, now: Mono) -> PaceHanded {
        let (next, now) = (self.bucket.next, now.as_nanos());
        let ahead = i64::try_from(next.saturating_sub(now)).unwrap_or(i64::MAX);
        let behind = i64::try_from(now.saturating_sub(next)).unwrap_or(i64::MAX);
        PaceHanded {
            next_in: ahead - behind,
            held_for: self.held_until.as_nanos().saturating_sub(now),
        }
    }

    /// Goes on where a former owner stood; `at` is when this node heard of it, by its own clock. That
    /// is later than it was, so nothing goes sooner than it would have gone there.
    pub fn go_on(&mut self, handed: &PaceHanded, at: Mono) {
        let at = at.as_nanos();
        self.bucket.next = match u64::try_from(handed.next_in) {
            Ok(ahead) => at.saturating_add(ahead.min(LONGEST_INTERVAL)),
            Err(_) => at.saturating_sub(handed.next_in.unsigned_abs()),
        };
        let held = handed.held_for.min(LONGEST_INTERVAL);
        self.held_until = self
            .held_until
            .max(Mono::from_nanos(at.saturating_add(held)));
    }

    /// When the next hand-over is allowed; `now` when it is already.
    pub fn ready_at(&self, now: Mono) -> Mono {
        self.deadline().max(now)
    }

    /// For how long a hand-over has been allowed; zero while it is not.
    pub fn allowed_for(&self, now: Mono) -> Duration {
        now.since(self.deadline())
    }

    fn deadline(&self) -> Mono {
        let jittered = self.bucket.next.saturating_add(self.bucket.delay);
        Mono::from_nanos(jittered).max(self.held_until)
    }

    /// Records a hand-over if one is allowed now. `random`, in 0..1, is the jitter of the next.
    ///
    /// Call it again at the same `now` until it answers `false`: what is owed may go at once.
    pub fn take(&mut self, now: Mono, random: f64) -> bool {
        if now < self.deadline() {
            return false;
        }
        let bucket = &mut self.bucket;
        let oldest = now.as_nanos().saturating_sub(bucket.span);
        bucket.next = bucket.next.max(oldest).saturating_add(bucket.interval);
        bucket.delay = (bucket.interval as f64 * self.jitter * random.clamp(0.0, 1.0)) as u64;
        true
    }

    /// `count` hand-overs that were taken are over by `at`: they may have happened as late as that.
    /// What was not made by then is not caught up, beyond the burst.
    pub fn handed_over(&mut self, count: u32, at: Mono) {
        let bucket = &mut self.bucket;
        let oldest = at.as_nanos().saturating_sub(bucket.span);
        let used = bucket.interval.saturating_mul(u64::from(count));
        bucket.next = bucket.next.max(oldest.saturating_add(used));
    }

    /// New settings, in force at once. Tokens are kept as they are, whole and in part: neither a
    /// change nor many of them give a burst.
    pub fn set(&mut self, spec: &PaceSpec, now: Mono) {
        let before = self.bucket.span;
        self.rate = spec.rate_per_second();
        self.burst = spec.effective_burst();
        self.jitter = spec.jitter;
        self.change_interval(before, now);
    }

    /// The channel asked for a slower pace: nothing for `wait`, then at half the rate, with an
    /// empty bucket.
    pub fn throttled(&mut self, wait: Duration, now: Mono) {
        let span = self.bucket.span;
        let same_event = now < self.held_until;
        self.held_until = self.held_until.max(now + wait.max(LEAST_THROTTLE_WAIT));
        self.raised_at = self.held_until;
        if !same_event {
            self.factor = (self.factor * DECREASE).max(LEAST_FACTOR);
            self.change_interval(span, now);
        }
        self.bucket.next = self.bucket.next.max(self.held_until.as_nanos());
    }

    /// The channel took a message: after a throttling the rate rises again, evenly in time and
    /// only while there are acknowledgements.
    pub fn acked(&mut self, now: Mono) {
        if self.factor >= 1.0 {
            return;
        }
        let elapsed = now.since(self.raised_at);
        if elapsed < RECOVERY_STEP {
            return;
        }
        let step = elapsed.min(RECOVERY_PER_ACK).as_secs_f64() / RECOVERY.as_secs_f64();
        self.factor = (self.factor + step).min(1.0);
        self.raised_at = now;
        self.change_interval(self.bucket.span, now);
    }

    /// Hand-overs a second, throttling counted in.
    pub fn effective_rate(&self) -> f64 {
        self.rate * self.factor
    }

    /// The part of the configured rate that throttling leaves: what [`PaceSaved::factor`] keeps
    /// when it is below 1.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Goes on with the interval of the present rate and factor: as many tokens as before, at
    /// most those of the old `span`, and the same part of the one that grows.
    fn change_interval(&mut self, span: u64, now: Mono) {
        let (old, new) = (self.bucket.interval, interval_of(self.effective_rate()));
        let base = now.max(self.held_until).as_nanos();
        let next = match base.checked_sub(self.bucket.next) {
            Some(credit) => {
                let tokens = u128::from(credit.min(span)) * u128::from(new) / u128::from(old);
                base.saturating_sub(narrow(tokens))
            }
            None => {
                let debt = u128::from(self.bucket.next - base) * u128::from(new);
                base.saturating_add(narrow(debt.div_ceil(u128::from(old))))
            }
        };
        let delay = narrow(u128::from(self.bucket.delay) * u128::from(new) / u128::from(old));
        self.bucket = Bucket {
            interval: new,
            span: span_of(new, self.burst),
            next,
            delay,
        };
    }
}

/// Nanoseconds between hand-overs, rounded up: never faster than the rate.
fn interval_of(rate: f64) -> u64 {
    ((1e9 / rate).ceil() as u64).clamp(1, LONGEST_INTERVAL)
}

const fn span_of(interval: u64, burst: u32) -> u64 {
    interval.saturating_mul(burst as u64)
}

fn narrow(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}
