//! The items of an export: MessagePack with named maps, so that later versions may add to them.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use zajil_model::id::{AccountId, Shard, Tick};
use zajil_model::lifecycle::MessageState;
use zajil_model::message::Chunk;
use zajil_model::time::Timestamp;

use super::Counts;
use crate::projection::feed::Placed;
use crate::row::{Row, RowKey, Table};

/// One item; they come in this order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Item {
    /// First, once.
    Header(Header),
    /// Some rows.
    Rows(Vec<KeptRow>),
    /// What follows up to the next one is of this shard.
    Shard(ShardOf),
    /// Some chunks, those of a queue in the order of acceptance.
    Chunks(Vec<KeptChunk>),
    /// Some changes of an account, in the order of their places.
    Told(KeptChanges),
    /// Last, once.
    End(End),
}

/// What an export begins with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// The program that wrote it, for people.
    pub(super) program: String,
    /// The kind of store that it is of, for people.
    pub(super) source: String,
    /// When it was made.
    pub(super) at: Timestamp,
    /// The key of WhatsApp ids; a store that no node ever started on has none.
    pub(super) wa_key: Option<Blob>,
    /// Every place of the change feed is before this record.
    pub(super) feed_end: u64,
}

/// A row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptRow {
    table: u8,
    partition: Blob,
    sort: Blob,
    value: Blob,
}

impl KeptRow {
    pub(super) fn new(row: Row) -> Self {
        Self {
            table: row.key.table as u8,
            partition: Blob(row.key.partition),
            sort: Blob(row.key.sort),
            value: Blob(row.value),
        }
    }

    /// The row; `None` for one of a table that this program does not know.
    pub(super) fn row(self) -> Option<Row> {
        let table = Table::from_number(self.table)?;
        Some(Row {
            key: RowKey::new(table, self.partition.0, self.sort.0),
            value: self.value.0,
        })
    }

    /// About how long it is.
    pub(super) fn bytes(&self) -> usize {
        16 + self.partition.0.len() + self.sort.0.len() + self.value.0.len()
    }
}

/// A shard.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ShardOf {
    pub(super) shard: Shard,
    /// It gave no id above this tick.
    pub(super) ceiling: Tick,
}

/// A chunk with what is known of its messages.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptChunk {
    pub(super) chunk: Arc<Chunk>,
    /// The states that are not those in which messages begin, by their place in the chunk.
    pub(super) states: Vec<(u32, MessageState)>,
}

/// Changes of an account.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptChanges {
    pub(super) account: AccountId,
    pub(super) changes: Vec<Placed>,
}

/// What an export ends with.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) counts: Counts,
    /// Frames before this one.
    pub(super) frames: u64,
    /// The check sum of all of them.
    pub(super) sum: u32,
}

/// Bytes that are not text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Blob(pub(super) Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a key.
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }

        deserializer.deserialize_byte_buf(Bytes)
    }
}
