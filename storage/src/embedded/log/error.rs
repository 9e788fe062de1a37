//! What can go wrong with the file log.

use std::io;
use std::path::{Path, PathBuf};

use super::Lsn;
use crate::StoreError;

/// Why a call to the log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No space is left for records of this class; nothing of the group was written. It passes
    /// by itself when there is space again.
    #[error("no space is left for the log")]
    Full,
    /// The log failed, or was closed, and takes nothing any more. Whether the records that were
    /// being written are durable is known only after the next open.
    #[error("the log is closed for good: {0}")]
    Failed(String),
    /// A record or a group is larger than the log can hold.
    #[error("{bytes} bytes do not fit: at most {limit} do")]
    TooLarge {
        /// What was asked for, in bytes.
        bytes: usize,
        /// What fits, in bytes.
        limit: usize,
    },
    /// Stored bytes are not what was written. The file is left as it is.
    #[error("{} is corrupt at byte {offset}: {detail}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        detail: String,
    },
    /// The position is not in the log: its segment was retired, or never was.
    #[error("position {0} is not in the log")]
    Missing(Lsn),
    /// The one who replays refused a record.
    #[error("the record at {lsn} was refused: {source}")]
    Refused {
        /// The record.
        lsn: Lsn,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system refused an operation on a file.
    #[error("cannot {operation} {}: {source}", file.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LogError {
    /// Makes the system's refusal of `operation` on `file` an error of the log.
    pub(super) fn io(operation: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io {
            operation,
            file,
            source,
        }
    }

    /// Whether it says that the disk is full.
    pub(super) fn is_no_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

impl From<&LogError> for StoreError {
    fn from(error: &LogError) -> Self {
        match error {
            LogError::Full => Self::Full,
            LogError::Failed(_) => Self::Closed,
            LogError::TooLarge { .. } => Self::Invalid("larger than the log can hold"),
            LogError::Corrupt { .. } | LogError::Missing(_) | LogError::Refused { .. } => {
                Self::Corrupt {
                    what: "log",
                    detail: error.to_string(),
                }
            }
            LogError::Io {
                operation, source, ..
            } => Self::Io {
                operation,
                reason: source.to_string(),
            },
        }
    }
}
