//! Requests that are made again until they succeed: what is durable must be put in place, whatever
//! the database is going through.

use super::alive::Alive;
use super::db::{FIRST_PAUSE, LONGEST_PAUSE};
use super::failed::Failed;
use crate::{StoreError, metrics};

/// Makes a request until it succeeds, or until nobody needs it any more.
///
/// # Errors
/// Why nobody needs it.
pub(super) async fn insist<T, F>(
    alive: &Alive,
    what: &'static str,
    request: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Failed>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        alive.check()?;
        match request().await {
            Ok(answer) => return Ok(answer),
            Err(failed) => {
                metrics::cql_repeated();
                tracing::debug!(what, reason = failed.reason, "the database is asked again");
            }
        }
        alive.pause(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
