//! A flush as bytes, so that it happens as a whole although it touches several partitions.
//!
//! What is to be written is written down first, in the shard's own row when it is small, else in
//! parts beside it. The compare-and-set that names it is the moment at which it happened; putting it
//! in place may be repeated by anybody, at any time after that.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use zajil_model::id::{Epoch, Shard};

use super::alive::Alive;
use super::db::Db;
use super::head::Redo;
use super::insist::insist;
use super::statements::Kind;
use crate::StoreError;
use crate::codec::varint::{self, Reader};
use crate::kv::{KvWrite, Space};

/// The form of a flush; a reader refuses others.
const VERSION: u8 = 1;

/// A flush up to this size is kept in the row of its shard: the database writes what is under a
/// condition twice, but saves a request.
const INLINE: usize = 32 << 10;

/// The size of a part: well below what the database takes in one mutation.
const PART: usize = 256 << 10;

/// What one batch puts in place, about: as the parts.
const BATCH: usize = 256 << 10;

/// What a flush changes: the last write of each key.
pub(super) type Changes = BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>;

/// The last write of each key.
pub(super) fn changes(writes: Vec<KvWrite>) -> Changes {
    let each = writes
        .into_iter()
        .map(|write| ((write.space, write.key), write.value));
    each.collect()
}

/// The number of a space in the database.
pub(super) fn number(space: Space) -> i32 {
    match space {
        Space::Main => 0,
        Space::Period(period) => period as i32 + 1,
    }
}

fn space(number: u64) -> Space {
    match number.checked_sub(1) {
        None => Space::Main,
        Some(period) => Space::Period(period as u32),
    }
}

/// A flush as bytes.
pub(super) fn encode(changes: &Changes) -> Vec<u8> {
    let mut plain = Vec::new();
    for ((space, key), value) in changes {
        varint::put(&mut plain, number(*space) as u64);
        varint::put_bytes(&mut plain, key);
        match value {
            None => plain.push(0),
            Some(value) => {
                plain.push(1);
                varint::put_bytes(&mut plain, value);
            }
        }
    }
    let mut out = vec![VERSION];
    out.extend(lz4_flex::compress_prepend_size(&plain));
    out
}

/// Reads a flush back.
pub(super) fn decode(bytes: &[u8]) -> Result<Changes, StoreError> {
    let mut reader = Reader::new("flush", bytes);
    if reader.byte()? != VERSION {
        return Err(reader.fault("unknown version"));
    }
    let plain = lz4_flex::decompress_size_prepended(reader.rest());
    let plain = plain.map_err(|error| reader.fault(error.to_string()))?;
    let mut reader = Reader::new("flush", &plain);
    let mut changes = Changes::new();
    while !reader.is_empty() {
        let space = space(reader.number()?);
        let key = reader.bytes()?.to_vec();
        let value = match reader.byte()? {
            0 => None,
            _ => Some(reader.bytes()?.to_vec()),
        };
        changes.insert((space, key), value);
    }
    Ok(changes)
}

/// The timestamp of what a flush writes: a later epoch wins, and a later flush of the same.
pub(super) const fn stamp(epoch: Epoch, seq: u64) -> i64 {
    (epoch.0 << 40 | seq) as i64
}

/// The parts in which a flush is kept beside its shard's row; none for one that fits into it.
pub(super) fn parts(body: &[u8]) -> Vec<&[u8]> {
    if body.len() <= INLINE {
        return Vec::new();
    }
    body.chunks(PART).collect()
}

const fn slot(seq: u64) -> i8 {
    (seq % 2) as i8
}

/// Writes the parts of a flush that is not committed yet.
pub(super) async fn write_parts(
    db: &Db,
    alive: &Alive,
    shard: Shard,
    redo: Redo,
    parts: &[&[u8]],
) -> Result<(), StoreError> {
    let (number, seq, at) = (
        shard.number() as i16,
        redo.seq as i64,
        stamp(redo.epoch, redo.seq),
    );
    for (place, body) in (0_i32..).zip(parts) {
        let values = (number, slot(redo.seq), place, seq, *body, at);
        insist(alive, "write a flush", move || async move {
            db.write(&db.statements.shards.put_part, values).await
        })
        .await?;
    }
    Ok(())
}

/// Reads the parts of a committed flush; `None` when a later one has taken their place, which only
/// happens once it was in place.
pub(super) async fn read_parts(
    db: &Db,
    alive: &Alive,
    shard: Shard,
    redo: Redo,
) -> Result<Option<Vec<u8>>, StoreError> {
    let values = (shard.number() as i16, slot(redo.seq));
    let parts = insist(alive, "read a flush", move || async move {
        let mut parts: BTreeMap<i32, Vec<u8>> = BTreeMap::new();
        let visit = |(place, seq, body): (i32, i64, Vec<u8>)| {
            if seq as u64 == redo.seq {
                parts.insert(place, body);
            }
            ControlFlow::Continue(())
        };
        db.each(&db.statements.shards.parts, 8, values, visit)
            .await?;
        Ok(parts)
    })
    .await?;
    if parts.len() < redo.parts as usize {
        return Ok(None);
    }
    Ok(Some(
        parts
            .into_values()
            .take(redo.parts as usize)
            .flatten()
            .collect(),
    ))
}

/// Puts a committed flush in place.
pub(super) async fn apply(
    db: &Db,
    alive: &Alive,
    shard: Shard,
    redo: Redo,
    changes: &Changes,
) -> Result<(), StoreError> {
    let at = stamp(redo.epoch, redo.seq);
    let mut batch: Vec<Change<'_>> = Vec::new();
    let mut bytes = 0;
    for ((space, key), value) in changes {
        let size = key.len() + value.as_ref().map_or(0, Vec::len);
        let is_other = batch.first().is_some_and(|(first, _, _)| first != space);
        if is_other || (bytes + size > BATCH && !batch.is_empty()) {
            put(db, alive, shard, at, &batch).await?;
            batch.clear();
            bytes = 0;
        }
        batch.push((*space, key, value.as_deref()));
        bytes += size;
    }
    put(db, alive, shard, at, &batch).await
}

/// A key of a space, and its new value (`None` deletes it).
type Change<'a> = (Space, &'a [u8], Option<&'a [u8]>);

/// Writes keys of one space in one mutation.
async fn put(
    db: &Db,
    alive: &Alive,
    shard: Shard,
    at: i64,
    keys: &[Change<'_>],
) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let shard = shard.number() as i16;
    insist(alive, "put a flush in place", move || async move {
        let writes = keys.iter().map(|(space, key, value)| match value {
            Some(value) => {
                let values = (shard, number(*space), *key, *value, at);
                (&db.statements.kv.put, Values::Put(values))
            }
            None => {
                let values = (at, shard, number(*space), *key);
                (&db.statements.kv.delete, Values::Delete(values))
            }
        });
        db.batch(Kind::Append, writes.collect()).await.map(drop)
    })
    .await
}

/// Values of the statements of one batch.
enum Values<'a> {
    Put((i16, i32, &'a [u8], &'a [u8], i64)),
    Delete((i64, i16, i32, &'a [u8])),
}

impl scylla::serialize::row::SerializeRow for Values<'_> {
    fn serialize(
        &self,
        ctx: &scylla::serialize::row::RowSerializationContext<'_>,
        writer: &mut scylla::serialize::writers::RowWriter<'_>,
    ) -> Result<(), scylla::errors::SerializationError> {
        match self {
            Self::Put(values) => values.serialize(ctx, writer),
            Self::Delete(values) => values.serialize(ctx, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_comes_back_with_the_last_write_of_each_key() {
        let write = |space, key: &[u8], value: Option<&[u8]>| KvWrite {
            space,
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
        };
        let written = changes(vec![
            write(Space::Main, b"a", None),
            write(Space::Period(2_960), b"a", Some(b"1")),
            write(Space::Main, b"a", Some(b"2")),
            write(Space::Main, b"b", None),
        ]);

        assert_eq!(written.len(), 3);
        assert_eq!(written[&(Space::Main, b"a".to_vec())], Some(b"2".to_vec()));
        assert_eq!(decode(&encode(&written)), Ok(written));
    }
}
