//! The real clocks of the machine, handed to everything that needs the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zajil_model::time::{Clock, Mono, Timestamp};

/// Tells the time of this machine.
#[derive(Debug)]
pub struct SystemClock {
    boot: Boot,
    zero: Duration,
}

impl SystemClock {
    /// A clock whose monotonic side begins now.
    pub fn new() -> Self {
        let boot = Boot::new();
        let zero = boot.elapsed();
        Self { boot, zero }
    }
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
        let since = self.boot.elapsed().saturating_sub(self.zero);
        Mono::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The clock since the machine was started, its suspension included. It is the monotonic one plus
/// the time that was slept through, so what ends by it never ends later than by the other.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Boot;

#[cfg(target_os = "linux")]
impl Boot {
    const fn new() -> Self {
        Self
    }

    fn elapsed(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
    }
}

/// Where the system has no such clock that can be asked for safely, the monotonic one.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Boot(std::time::Instant);

#[cfg(not(target_os = "linux"))]
impl Boot {
    #[expect(clippy::disallowed_methods, reason = "this is the one real clock")]
    fn new() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_begins_at_zero_and_runs() {
        let clock = SystemClock::new();

        let first = clock.mono();
        std::thread::sleep(Duration::from_millis(2));
        let second = clock.mono();

        assert!(first.as_nanos() < 1_000_000_000);
        assert!(second.since(first) >= Duration::from_millis(2));
    }
}
