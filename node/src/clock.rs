//! The real clocks of the machine, handed to everything that needs the time.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use zajil_model::time::{Clock, Mono, Timestamp};

/// Tells the time of this machine. Its monotonic side also counts while the machine is suspended:
/// a lease runs on then, and who holds it must not think that it stood still.
#[derive(Debug)]
pub struct SystemClock {
    zero: u128,
}

impl SystemClock {
    /// A clock whose monotonic side begins now.
    pub fn new() -> Self {
        Self { zero: since_boot() }
    }
}

/// Nanoseconds since the machine was started, suspended or not.
fn since_boot() -> u128 {
    let time = clock_gettime(ClockId::Boottime);
    u128::from(time.tv_sec.unsigned_abs()) * 1_000_000_000 + u128::from(time.tv_nsec.unsigned_abs())
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one real clock")]
    fn now(&self) -> Timestamp {
        // A clock set before 1970 reads as 1970: ids never run backwards, so nothing breaks.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn mono(&self) -> Mono {
        let since = since_boot().saturating_sub(self.zero);
        Mono::from_nanos(u64::try_from(since).unwrap_or(u64::MAX))
    }
}
