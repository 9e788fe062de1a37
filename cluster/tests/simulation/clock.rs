//! The clocks of one simulated machine: they run at their own speed, and the wall clock jumps.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use zajil_model::time::{Clock, Mono, Timestamp};

/// 2026-06-01: some time that nothing depends on.
const EPOCH_MICROS: i64 = 1_780_272_000_000_000;

#[derive(Debug)]
pub(crate) struct SimClock {
    zero: Instant,
    /// Parts per thousand of true speed.
    speed: u64,
    wall_off_micros: AtomicI64,
}

impl SimClock {
    pub(crate) const fn new(zero: Instant, speed: u64) -> Self {
        let wall_off_micros = AtomicI64::new(0);
        Self {
            zero,
            speed,
            wall_off_micros,
        }
    }

    /// Sets the wall clock off by so much.
    pub(crate) fn wall_off(&self, seconds: i64) {
        self.wall_off_micros
            .store(seconds * 1_000_000, Ordering::Relaxed);
    }

    fn elapsed(&self) -> Duration {
        Instant::now().duration_since(self.zero)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let off = self.wall_off_micros.load(Ordering::Relaxed);
        Timestamp::from_micros(EPOCH_MICROS + off) + self.elapsed()
    }

    fn mono(&self) -> Mono {
        let nanos = self.elapsed().as_nanos() as u64;
        Mono::from_nanos(nanos / 1_000 * self.speed)
    }
}
