//! Carrying everything from one store into another, of whatever kind, under the same ids: how a
//! user outgrows one machine.
//!
//! ```text
//! a store that nobody uses ─► Source ─► export ─► file ─► check, import ─► an empty store
//! ```
//!
//! An export is one file: a header with the key of WhatsApp ids, rows, then shard by shard what was
//! accepted with what is known of it, then what accounts were told of changes, and a trailer with
//! counts and a check sum. Nothing of how a store works inside is in it (positions of a log, epochs,
//! leases, owners), but the places of the change feed, so that cursors of clients stay good.
//!
//! An import reads the file twice: once to see that all of it is good, and once to write. It writes
//! through the port, as an owner of all shards. While it does, a row says so, and who finds that row
//! does not serve. In the end there is another one in its place: as after a restore, nothing is sent
//! before an operator releases it, since the store that it came from may still be at work.

use serde::{Deserialize, Serialize};

use crate::row::{RowKey, Table};

mod check;
mod error;
mod export;
mod format;
mod frames;
mod import;
mod source;

pub use check::{Checked, check};
pub use error::{ExportError, ImportError};
pub use export::export;
pub use import::{Feeds, Import, import};
pub use source::Source;
pub(crate) use source::{AllRows, Part};

/// What an export holds, and what was written or read of it so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows.
    pub rows: u64,
    /// Chunks of accepted messages.
    pub chunks: u64,
    /// Messages.
    pub messages: u64,
    /// Changes that accounts were told.
    pub changes: u64,
}

/// Told of how far it is, now and then.
pub type Progress<'a> = &'a mut (dyn FnMut(Counts) + Send);

fn meta(name: &str) -> RowKey {
    RowKey::new(Table::Meta, name, Vec::new())
}

/// The row with the key of WhatsApp ids: 32 bytes, the same for ever.
pub fn wa_key_row() -> RowKey {
    meta("wa_id_key")
}

/// The row that holds everything back: the store was filled from a copy, at the time in it
/// (microseconds since the Unix epoch, as text), and was not released yet.
pub fn held_row() -> RowKey {
    meta("restored")
}

/// The row of a store that is being filled. Where it is and no import runs, one was cut: the store
/// lacks something, and nobody may serve it.
pub fn unfinished_row() -> RowKey {
    meta("importing")
}

/// The row of an embedded store with its epoch, big-endian.
pub(crate) const EPOCH: &str = "epoch";

/// The one with the ceiling of ticks of all shards, big-endian.
pub(crate) const CEILING: &str = "ceiling";

/// The one with the number that tells it from others, big-endian.
pub(crate) const STORE: &str = "store";

/// Whether a row belongs to what a store holds, and not to how one store or cluster works.
fn travels(key: &RowKey) -> bool {
    match key.table {
        Table::Members | Table::Leases | Table::ShardOwners => false,
        Table::Meta => {
            let own = [EPOCH, CEILING, STORE].map(meta);
            *key != held_row() && *key != unfinished_row() && !own.contains(key)
        }
        _ => true,
    }
}
