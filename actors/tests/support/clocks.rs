//! Clocks of tests.

use std::sync::atomic::{AtomicI64, Ordering};

use zajil_model::time::{Clock, Mono, Timestamp};

/// Tells tokio's time, which stands still while anybody works and jumps when all wait.
#[derive(Debug)]
pub struct TokioClock(tokio::time::Instant);

impl TokioClock {
    pub fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000) + self.0.elapsed()
    }

    fn mono(&self) -> Mono {
        Mono::from_nanos(self.0.elapsed().as_nanos() as u64)
    }
}

/// The same, with a wall clock that somebody sets wrong.
#[derive(Debug)]
pub struct WrongClock {
    time: TokioClock,
    /// By how many microseconds the wall clock is ahead.
    ahead: AtomicI64,
}

impl WrongClock {
    pub fn new() -> Self {
        Self {
            time: TokioClock::new(),
            ahead: AtomicI64::new(0),
        }
    }

    /// From now on the wall clock is so many seconds ahead, or behind.
    pub fn is_ahead_by(&self, seconds: i64) {
        self.ahead.store(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        let right = self.time.now().as_micros();
        Timestamp::from_micros(right + self.ahead.load(Ordering::Relaxed))
    }

    fn mono(&self) -> Mono {
        self.time.mono()
    }
}
