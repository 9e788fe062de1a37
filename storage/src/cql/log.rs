//! The log of a shard, as a table: written in groups, read from where a flush left off, and chunk by
//! chunk.

use std::ops::ControlFlow;
use std::sync::Arc;

use zajil_model::id::{Epoch, SHARD_BITS, SHARDS, Tick};
use zajil_model::message::Chunk;

use super::clock::hour;
use super::db::Db;
use super::insist::insist;
use super::kv::Ground;
use super::statements::Kind;
use crate::StoreError;
use crate::codec::{self, Record};
use crate::projection::bodies::ChunkSource;

/// Rows of the first page of a tail: most are short.
const FIRST_PAGE: usize = 64;

/// A record on its way to the log.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) lsn: u64,
    pub(super) payload: &'a [u8],
}

/// A record's columns, its timestamp and its time to live.
type Values<'a> = (i16, i32, i64, i64, i64, &'a [u8], i64, i32);

/// A record of the log.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) lsn: u64,
    pub(super) epoch: Epoch,
    /// When it was written, by its writer's clock: the timestamp of rows that it brings.
    pub(super) at: i64,
    pub(super) payload: Vec<u8>,
}

/// Writes records of one hour in one mutation, again and again until they are durable.
///
/// # Errors
/// Why the shard is not held here any more; whether they are durable is not known then.
pub(super) async fn write<'a>(
    ground: &Ground,
    epoch: Epoch,
    at: i64,
    ttl: i32,
    lines: &[Line<'a>],
) -> Result<(), StoreError> {
    let Ground {
        shard, db, alive, ..
    } = ground;
    let (number, epoch) = (shard.number() as i16, epoch.0 as i64);
    let values = |line: &Line<'a>| -> Values<'a> {
        let (lsn, hour) = (line.lsn as i64, hour(line.lsn) as i32);
        (number, hour, lsn, epoch, at, line.payload, at, ttl)
    };
    let values: Vec<Values<'a>> = lines.iter().map(values).collect();
    let values = &values[..];
    insist(alive, "append to the log", move || async move {
        let put = &db.statements.log.put;
        match values {
            [] => Ok(()),
            [line] => db.write(put, *line).await,
            many => {
                let writes = many.iter().map(|line| (put, *line));
                db.batch(Kind::Append, writes.collect()).await.map(drop)
            }
        }
    })
    .await
}

/// Every record from a position on, up to a tick, in order.
pub(super) async fn tail(ground: &Ground, from: u64, upto: Tick) -> Result<Vec<Found>, StoreError> {
    let Ground {
        shard, db, alive, ..
    } = ground;
    let number = shard.number() as i16;
    let mut found: Vec<Found> = Vec::new();
    for hour in hour(from)..=hour(upto.id(*shard)) {
        let values = (number, hour as i32, from as i64);
        let part = insist(alive, "read the log", move || async move {
            let mut part = Vec::new();
            let visit = |(lsn, epoch, at, payload): (i64, i64, i64, Vec<u8>)| {
                part.push(Found {
                    lsn: lsn as u64,
                    epoch: Epoch(epoch as u64),
                    at,
                    payload,
                });
                ControlFlow::Continue(())
            };
            db.each(&db.statements.log.from, FIRST_PAGE, values, visit)
                .await?;
            Ok(part)
        })
        .await?;
        found.extend(part);
    }
    Ok(found)
}

/// Drops an hour of the log.
pub(super) async fn drop_hour(ground: &Ground, at: i64, hour: u32) -> Result<(), StoreError> {
    let Ground {
        shard, db, alive, ..
    } = ground;
    let values = (at, shard.number() as i16, hour as i32);
    insist(alive, "drop an hour of the log", move || async move {
        db.write(&db.statements.log.drop, values).await
    })
    .await
}

/// Chunks, read back from the log.
#[derive(Debug)]
pub(super) struct LogChunks(pub(super) Ground);

impl ChunkSource for LogChunks {
    fn chunk(&self, lsn: u64, _len: u32) -> Result<Arc<Chunk>, StoreError> {
        let Ground {
            db, handle, alive, ..
        } = &self.0;
        let read = insist(alive, "read the log", move || one(db, lsn));
        let payload = handle.block_on(read)?;
        let missing = |detail: String| StoreError::Corrupt {
            what: "log",
            detail,
        };
        let payload = payload.ok_or_else(|| missing(format!("no record {lsn}")))?;
        match codec::decode(&payload)? {
            (_, Record::Accept(chunk)) => Ok(chunk),
            _ => Err(missing(format!("no chunk at {lsn}"))),
        }
    }
}

async fn one(db: &Db, lsn: u64) -> Result<Option<Vec<u8>>, super::failed::Failed> {
    let shard = (lsn % u64::from(SHARDS)) as i16;
    const { assert!(SHARDS == 1 << SHARD_BITS) };
    let values = (shard, hour(lsn) as i32, lsn as i64);
    let row = db
        .first::<(Vec<u8>,)>(&db.statements.log.one, values)
        .await?;
    Ok(row.map(|(payload,)| payload))
}
