//! The index by shard: which block holds an id.
//!
//! Rows are packed per shard and flush, and never overlap: an entry that falls between those of
//! an older row is merged into it.

use zajil_model::id::{MessageId, Shard};

use super::key::{self, BlockKey, QueueKey};
use crate::StoreError;
use crate::codec::varint::{self, Reader};
use crate::codec::{put_queue, read_instance, read_queue};
use crate::kv::{Direction, Kv, KvWrite, Space};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The form below; a reader refuses others.
const VERSION: u8 = 1;

/// A row is cut at this many entries, so that a look-up reads little.
const ROW_ENTRIES: usize = 256;

/// A chunk of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardEntry {
    /// Its first id.
    pub(crate) first: MessageId,
    /// How many messages it holds.
    pub(crate) count: u32,
    /// The block that holds it.
    pub(crate) block: BlockKey,
}

impl ShardEntry {
    fn last(&self) -> MessageId {
        self.first.plus(u64::from(self.count.saturating_sub(1)))
    }
}

fn encode(entries: &[ShardEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + entries.len() * 24);
    out.push(VERSION);
    varint::put(&mut out, entries.len() as u64);
    let mut first = 0;
    for entry in entries {
        varint::put(&mut out, entry.first.get() - first);
        first = entry.first.get();
        varint::put(&mut out, u64::from(entry.count));
        varint::put(&mut out, entry.block.queue.instance.get());
        put_queue(&mut out, entry.block.queue.queue);
        varint::put_signed(&mut out, first as i64 - entry.block.first.get() as i64);
    }
    out
}

fn decode(bytes: &[u8]) -> Result<Vec<ShardEntry>, StoreError> {
    let mut reader = Reader::new("shard index", bytes);
    if reader.byte()? != VERSION {
        return Err(reader.fault("unknown version"));
    }
    let count = reader.small()? as usize;
    let mut entries = Vec::with_capacity(count.min(ROW_ENTRIES));
    let mut first = 0_u64;
    for _ in 0..count {
        first = first.wrapping_add(reader.number()?);
        let id = MessageId::new(first).ok_or_else(|| reader.fault("an id out of range"))?;
        let count = reader.small()?;
        let queue = QueueKey {
            instance: read_instance(&mut reader)?,
            queue: read_queue(&mut reader)?,
        };
        let block = (first as i64).wrapping_sub(reader.signed()?);
        let block = u64::try_from(block).ok().and_then(MessageId::new);
        let block = block.ok_or_else(|| reader.fault("a block out of range"))?;
        entries.push(ShardEntry {
            first: id,
            count,
            block: BlockKey {
                queue,
                first: block,
            },
        });
    }
    Ok(entries)
}

/// The row of a shard that begins at `upto` or before; empty when there is none.
fn row_at<K: Kv>(
    kv: &K,
    period: u32,
    shard: Shard,
    upto: MessageId,
) -> Result<Vec<ShardEntry>, StoreError> {
    let mut found = None;
    let span = key::shard_upto(shard, upto);
    kv.scan(
        Space::Period(period),
        &span,
        Direction::Down,
        &mut |_, value| {
            found = Some(decode(value));
            ControlFlow::Break(())
        },
    )?;
    found.unwrap_or_else(|| Ok(Vec::new()))
}

/// The chunk that holds an id, as the key-value store knows it.
pub(crate) fn locate<K: Kv>(kv: &K, id: MessageId) -> Result<Option<BlockKey>, StoreError> {
    // A chunk is kept in the period of its first id, which may be the one before.
    let period = key::period_of(id);
    for period in [Some(period), period.checked_sub(1)].into_iter().flatten() {
        let entries = row_at(kv, period, id.giver(), id)?;
        let place = entries.partition_point(|entry| entry.first <= id);
        let entry = place.checked_sub(1).map(|place| entries[place]);
        if let Some(entry) = entry.filter(|entry| id <= entry.last()) {
            return Ok(Some(entry.block));
        }
    }
    Ok(None)
}

/// The last entry of the index of each period and shard that was written lately.
pub(crate) type Newest = FxHashMap<(u32, Shard), Option<MessageId>>;

/// As many as all shards have in a few periods; then it begins anew.
const NEWEST_KNOWN: usize = 8_192;

/// The rows that new entries make, merged with older ones that they fall between.
pub(crate) fn writes<K: Kv>(
    kv: &K,
    known: &mut Newest,
    mut fresh: Vec<ShardEntry>,
) -> Result<Vec<KvWrite>, StoreError> {
    let home = |entry: &ShardEntry| (key::period_of(entry.first), entry.first.giver());
    fresh.sort_unstable_by_key(|entry| (home(entry), entry.first));
    let mut writes = Vec::new();
    for entries in fresh.chunk_by(|a, b| home(a) == home(b)) {
        let (period, shard) = home(&entries[0]);
        if known.len() >= NEWEST_KNOWN {
            known.clear();
        }
        let newest = match known.get(&(period, shard)) {
            Some(newest) => *newest,
            None => {
                let row = row_at(kv, period, shard, key::highest())?;
                row.last().map(|last| last.first)
            }
        };
        let last = entries.last().map(|entry| entry.first);
        known.insert((period, shard), newest.max(last));
        let late = entries.partition_point(|entry| newest.is_some_and(|id| entry.first < id));
        let mut rows = merged(kv, period, shard, &entries[..late])?;
        rows.extend(entries[late..].chunks(ROW_ENTRIES).map(<[_]>::to_vec));
        writes.extend(rows.iter().map(|row| KvWrite {
            space: Space::Period(period),
            key: key::shard(shard, row[0].first),
            value: Some(encode(row)),
        }));
    }
    Ok(writes)
}

/// Older rows with late entries put where their ids say; an entry before every row is one alone.
fn merged<K: Kv>(
    kv: &K,
    period: u32,
    shard: Shard,
    late: &[ShardEntry],
) -> Result<Vec<Vec<ShardEntry>>, StoreError> {
    let mut rows: BTreeMap<MessageId, Vec<ShardEntry>> = BTreeMap::new();
    for entry in late {
        let older = row_at(kv, period, shard, entry.first)?;
        let name = older.first().map_or(entry.first, |first| first.first);
        let row = rows.entry(name).or_insert(older);
        let place = row.partition_point(|known| known.first < entry.first);
        row.insert(place, *entry);
    }
    Ok(rows.into_values().collect())
}
