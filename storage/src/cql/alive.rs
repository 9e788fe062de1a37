//! Whether a shard is still held here: what everything that waits for the database looks at.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::Notify;

use crate::StoreError;

/// Ends once, with a reason.
#[derive(Debug, Default)]
pub(super) struct Alive {
    ended: OnceLock<StoreError>,
    told: Notify,
}

impl Alive {
    /// It ends, unless it has.
    pub(super) fn lose(&self, why: StoreError) {
        if self.ended.set(why).is_ok() {
            self.told.notify_waiters();
        }
    }

    /// Why it ended, if it did.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.ended.get() {
            None => Ok(()),
            Some(why) => Err(why.clone()),
        }
    }

    /// Waits until it ends.
    pub(super) async fn ended(&self) -> StoreError {
        loop {
            let told = self.told.notified();
            if let Some(why) = self.ended.get() {
                return why.clone();
            }
            told.await;
        }
    }

    /// Waits for a while, or until it ends.
    pub(super) async fn pause(&self, at_most: Duration) {
        tokio::select! {
            () = tokio::time::sleep(at_most) => {}
            _ = self.ended() => {}
        }
    }
}
