//! What the tests of this crate share.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::TryRngCore;
use rand::rngs::OsRng;
use zajil_model::time::Timestamp;

/// The seed of a random test: printed, so that a failure can be repeated by `ZAJIL_SEED`.
pub(crate) fn seed() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is told its seed by its environment"
    )]
    let told = std::env::var("ZAJIL_SEED").ok();
    let seed = match told {
        Some(told) => told.parse().expect("a seed is a number"),
        None => OsRng.try_next_u64().expect("the system has random numbers"),
    };
    eprintln!("ZAJIL_SEED={seed}");
    seed
}

/// The time by the clock that TLS reads, too.
pub(crate) fn now() -> Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "certificates are checked by this clock"
    )]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.expect("it is after 1970").as_secs();
    Timestamp::from_seconds(i64::try_from(seconds).expect("it is before the end of time"))
}
