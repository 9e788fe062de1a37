//! What can go wrong on the way from one store to another.

use std::io;
use std::path::PathBuf;

use super::frames::VERSION;
use crate::StoreError;
use crate::staged::StageError;

/// Why nothing was exported. There is no file then.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file cannot be made.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The file cannot be written.
    #[error("cannot write the export")]
    Write(#[source] io::Error),
    /// The store cannot be read, or holds what cannot be.
    #[error("cannot read the store")]
    Store(#[from] StoreError),
    /// There is no account, no instance, nothing in it.
    #[error("the store holds nothing")]
    Nothing,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is no export.
    #[error("{} is no export", .0.display())]
    NotAnExport(PathBuf),
    /// The export was made by a program with another form.
    #[error("the export has version {found}; this program reads {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// The export is damaged or cut off.
    #[error("the export is damaged at frame {frame}: {detail}")]
    Damaged {
        /// Which frame, from 0.
        frame: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is something in the store.
    #[error("{0} is not empty: an import needs an empty store")]
    NotEmpty(String),
    /// An import into the store did not come to its end.
    #[error("an import into {0} was cut before its end: drop it, and import again")]
    Unfinished(String),
    /// The store cannot be written.
    #[error("cannot write the store; what was written is not served")]
    Store(#[from] StoreError),
}
