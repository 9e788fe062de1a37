//! The end of a log: after a failed write nobody knows what the disk holds, so nothing is written.

use std::fmt;
use std::sync::OnceLock;

use super::{LogError, OnFatal};

/// The first failure of a log, which is its last: nothing is written after it.
pub(super) struct Failure {
    first: OnceLock<String>,
    on_fatal: OnFatal,
}

impl Failure {
    pub(super) fn new(on_fatal: OnFatal) -> Self {
        Self {
            first: OnceLock::new(),
            on_fatal,
        }
    }

    /// Whether the log may still be written.
    pub(super) fn check(&self) -> Result<(), LogError> {
        self.first
            .get()
            .map_or(Ok(()), |reason| Err(LogError::Failed(reason.clone())))
    }

    /// Fails the log, and tells so the first time; answers what callers are told.
    pub(super) fn fail(&self, error: &LogError) -> LogError {
        let reason = error.to_string();
        if self.first.set(reason.clone()).is_ok() {
            tracing::error!(%error, "the log failed");
            (self.on_fatal)(error);
        }
        LogError::Failed(reason)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failure").field(&self.first.get()).finish()
    }
}
