//! The clocks of one simulated machine: they run at their own speed, and the wall clock jumps.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use zajil_model::time::{Clock, Mono, Timestamp};

/// 2026-06-01: some time that nothing depends on.
const EPOCH_MICROS: i64 = 1_780_272_000_000_000;

#[derive(Debug)]
pub(crate) struct SimClock {
    /// When its process began, by the time of its own runtime.
    zero: Instant,
    /// The same, in true time.
    began: Duration,
    /// Parts per thousand of true speed.
    speed: u32,
    wall_off_micros: AtomicI64,
}

impl SimClock {
    /// To be made in the runtime of its process.
    pub(crate) fn new(began: Duration, speed: u32) -> Self {
        Self {
            zero: Instant::now(),
            began,
            speed,
            wall_off_micros: AtomicI64::new(0),
        }
    }

    /// Sets the wall clock off by so much.
    pub(crate) fn wall_off(&self, seconds: i64) {
        self.wall_off_micros
            .store(seconds * 1_000_000, Ordering::Relaxed);
    }

    /// The point of its runtime's time that belongs to a true time.
    pub(crate) fn instant_at(&self, now: Duration) -> Instant {
        self.zero + now.saturating_sub(self.began) * self.speed / 1_000
    }

    /// What its monotonic clock shows at a true time.
    pub(crate) fn mono_at(&self, now: Duration) -> Mono {
        mono(now.saturating_sub(self.began) * self.speed / 1_000)
    }

    /// True time; to be asked in its runtime, as anywhere else the time of this machine goes by.
    pub(crate) fn true_now(&self) -> Duration {
        self.began + self.zero.elapsed() * 1_000 / self.speed
    }
}

fn mono(elapsed: Duration) -> Mono {
    /// No machine has just been switched on.
    const UP: Duration = Duration::from_secs(3_600);
    Mono::from_nanos((UP + elapsed).as_nanos() as u64)
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let off = self.wall_off_micros.load(Ordering::Relaxed);
        Timestamp::from_micros(EPOCH_MICROS + off) + self.true_now()
    }

    fn mono(&self) -> Mono {
        mono(self.zero.elapsed())
    }
}

/// The wall clock of whoever has the right time.
pub(crate) fn wall(now: Duration) -> Timestamp {
    Timestamp::from_micros(EPOCH_MICROS) + now
}
