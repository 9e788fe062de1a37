//! Waiting without sleeping for luck: until something holds, or a deadline has passed.

use std::fmt::Debug;
use std::time::Duration;

/// Between two looks. Fine enough to see a state that lasts a tenth of a second.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` answers something, and answers it.
///
/// # Panics
/// It did not within `patience`: the message names `what`.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(patience, looking).await {
        Ok(found) => found,
        Err(_) => panic!("after {patience:?} still not: {what}"),
    }
}

/// Waits until `look` answers `wanted`.
///
/// # Panics
/// It did not within `patience`; the message holds what it answered last.
pub async fn eventually<T: PartialEq + Debug>(
    patience: Duration,
    wanted: T,
    mut look: impl AsyncFnMut() -> T,
) {
    let mut last = None;
    let looking = async {
        loop {
            let seen = look().await;
            if seen == wanted {
                return;
            }
            last = Some(seen);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(patience, looking).await.is_err() {
        panic!("after {patience:?} it was {last:?} and not {wanted:?}");
    }
}

/// Seconds, for deadlines.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Milliseconds, for short times.
pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
