//! Who waits for a place to change.
//!
//! They are woken in the order in which they began to wait: who waits longest asks first, and a
//! simulation can be repeated.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::Ownership;

/// Counts changes, and wakes who waits for one.
#[derive(Debug, Default)]
pub(super) struct Changes {
    count: AtomicU64,
    waiting: Notify,
}

impl Changes {
    /// Something changed.
    pub(super) fn another(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.waiting.notify_waiters();
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }
}

/// Tells that a place changed since it was asked last.
#[derive(Clone, Debug)]
pub struct Changed {
    ownership: Ownership,
    seen: u64,
}

impl Changed {
    pub(super) fn new(ownership: &Ownership) -> Self {
        let mut changed = Self {
            ownership: ownership.clone(),
            seen: 0,
        };
        changed.mark_unchanged();
        changed
    }

    /// What changed so far is known.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.count();
    }

    /// Whether a place changed meanwhile.
    pub fn has_changed(&self) -> bool {
        self.count() != self.seen
    }

    /// Waits until a place changed; on a node alone none ever does.
    pub async fn changed(&mut self) {
        let ownership = self.ownership.clone();
        let Some(shared) = ownership.cluster() else {
            return std::future::pending().await;
        };
        loop {
            let mut woken = std::pin::pin!(shared.changes.waiting.notified());
            woken.as_mut().enable();
            if self.has_changed() {
                return self.mark_unchanged();
            }
            woken.await;
        }
    }

    fn count(&self) -> u64 {
        let shared = self.ownership.cluster();
        shared.map_or(0, |shared| shared.changes.count())
    }
}
