//! What the errors of requests say.

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};

use crate::StoreError;

/// Why a request failed.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    /// What was said.
    pub(super) reason: String,
    /// Whether it certainly did nothing; else that is not known.
    pub(super) had_no_effect: bool,
}

impl Failed {
    /// As the port says it.
    pub(super) fn of(self, operation: &'static str) -> StoreError {
        StoreError::Io {
            operation,
            reason: self.reason,
        }
    }
}

/// An answer that cannot be read.
pub(super) fn unreadable(error: &impl std::error::Error) -> Failed {
    Failed {
        reason: error.to_string(),
        had_no_effect: true,
    }
}

/// Whether a request that failed was certainly not carried out anywhere.
pub(super) fn had_no_effect(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::PrepareError(_)
        | ExecutionError::ConnectionPoolError(_)
        | ExecutionError::UseKeyspaceError(_) => true,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => matches!(
            error,
            DbError::Unavailable { .. }
                | DbError::SyntaxError
                | DbError::Invalid
                | DbError::Unauthorized
                | DbError::IsBootstrapping
        ),
        _ => false,
    }
}
