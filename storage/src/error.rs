//! What can go wrong with a store.

use serde::{Deserialize, Serialize};
use zajil_model::id::{Epoch, Shard};

/// Why a call to a store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StoreError {
    /// The disk is (nearly) full: accepts are refused until space is freed; outcomes are still
    /// written, as long as there is room at all.
    #[error("the disk is full")]
    Full,
    /// Too much waits to be written; nothing of this call was or will be.
    #[error("too much waits to be written")]
    Overloaded,
    /// Somebody else owns the shard.
    #[error("shard {shard} is owned under epoch {current:?}, not {ours:?}")]
    Fenced {
        /// The shard.
        shard: Shard,
        /// The epoch of the call.
        ours: Epoch,
        /// The epoch in force.
        current: Epoch,
    },
    /// This store does not serve the shard: it was not opened here, or was closed.
    #[error("shard {0} is not open here")]
    NotOpen(Shard),
    /// The store was closed, or failed for good. Whether the call took effect is not known.
    #[error("the store is closed")]
    Closed,
    /// The medium failed. Whether the call took effect is not known.
    #[error("cannot {operation}: {reason}")]
    Io {
        /// What was tried.
        #[serde(deserialize_with = "elsewhere")]
        operation: Words,
        /// What the system said.
        reason: String,
    },
    /// Stored bytes are not what was written.
    #[error("corrupt {what}: {detail}")]
    Corrupt {
        /// What was read.
        #[serde(deserialize_with = "elsewhere")]
        what: Words,
        /// What is wrong with it.
        detail: String,
    },
    /// The call asks for something that cannot be (a fault of the caller).
    #[error("invalid call: {0}")]
    Invalid(#[serde(deserialize_with = "elsewhere")] Words),
}

/// Words that are part of the program; a name of its own keeps serde from borrowing them.
type Words = &'static str;

/// The words of an error that another node told of: that node has the details in its log.
fn elsewhere<'de, D: serde::Deserializer<'de>>(words: D) -> Result<&'static str, D::Error> {
    String::deserialize(words).map(|_| "do that on another node")
}
