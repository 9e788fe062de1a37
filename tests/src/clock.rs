//! The wall clock of this machine, which the processes under test read, too.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, in microseconds since the Unix epoch: comparable with the stamps in a ledger.
///
/// # Panics
/// The clock is set before 1970.
#[expect(clippy::disallowed_methods, reason = "scenarios run in real time")]
pub fn wall_micros() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is later than 1970");
    i64::try_from(since.as_micros()).expect("it is not that late")
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts one.
    #[expect(clippy::disallowed_methods, reason = "scenarios run in real time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long it has run.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
