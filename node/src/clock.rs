//! The real clocks of the machine, handed to everything that needs the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use zajil_model::time::{Clock, Mono, Timestamp};

/// Tells the time of this machine.
#[derive(Debug)]
pub struct SystemClock {
    zero: Instant,
}

impl SystemClock {
    /// A clock whose monotonic side begins now.
    #[expect(clippy::disallowed_methods, reason = "this is the one real clock")]
    pub fn new() -> Self {
        Self {
            zero: Instant::now(),
        }
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
        Mono::from_nanos(u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
