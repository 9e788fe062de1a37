//! The store in memory: the same projection as the embedded one, over maps. It keeps nothing.
//!
//! Everything happens on the caller's thread, `done` included, so that a test with a paused
//! clock waits for no other thread.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::message::{Chunk, Queue};
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use crate::codec::{self, Encoded, Record, encode_alone};
use crate::kv::Direction;
use crate::kv::map::MapKv;
use crate::projection::bodies::ChunkSource;
use crate::projection::key::QueueKey;
use crate::projection::{Budgets, Positioned, Projection};
use crate::row::unmet;
use crate::transfer::Source;
use crate::{
    Append, ChangePage, Cursor, Done, Expiring, Health, ListPage, ListRequest, MessageRecord,
    QueuedChunk, Row, RowKey, RowWrite, ShardOpened, Store, StoreError, Table, Totals,
    TotalsFilter, Work, Written,
};

/// Chunks, by the record that brought them.
#[derive(Debug, Default)]
struct Chunks(RwLock<BTreeMap<u64, Arc<Chunk>>>);

impl ChunkSource for Chunks {
    fn chunk(&self, lsn: u64, _len: u32) -> Result<Arc<Chunk>, StoreError> {
        let missing = || StoreError::Corrupt {
            what: "log",
            detail: format!("no record {lsn}"),
        };
        self.0.read().get(&lsn).cloned().ok_or_else(missing)
    }
}

/// What one shard has.
#[derive(Clone, Copy, Debug, Default)]
struct ShardRow {
    epoch: Epoch,
    ceiling: Tick,
}

/// What only one call at a time may change.
#[derive(Debug, Default)]
struct Writer {
    lsn: u64,
    shards: FxHashMap<Shard, ShardRow>,
    closed: bool,
}

/// A store that keeps everything in memory.
#[derive(Debug)]
pub struct MemoryStore {
    projection: Arc<Projection<MapKv, Chunks>>,
    writer: Mutex<Writer>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_budgets(Budgets::default())
    }

    /// An empty store with other budgets: small ones exercise what a large backlog would.
    pub fn with_budgets(budgets: Budgets) -> Self {
        let projection = Projection::open(MapKv::default(), Chunks::default(), budgets);
        let projection = projection.expect("empty maps hold nothing that could be corrupt");
        Self {
            projection: Arc::new(projection),
            writer: Mutex::default(),
        }
    }

    /// Everything that is in it, to be exported.
    pub fn source(&self) -> Source {
        let shards = &self.writer.lock().shards;
        Source {
            kind: "memory",
            parts: vec![self.projection.clone()],
            rows: self.projection.clone(),
            ceilings: shards
                .iter()
                .map(|(shard, row)| (*shard, row.ceiling))
                .collect(),
        }
    }

    fn take(&self, append: Append) -> Result<(), StoreError> {
        let records = codec::encode(append.entries)?;
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(StoreError::Closed);
        }
        let current = writer
            .shards
            .get(&append.shard)
            .copied()
            .unwrap_or_default()
            .epoch;
        if append.epoch != current {
            let (shard, ours) = (append.shard, append.epoch);
            return Err(StoreError::Fenced {
                shard,
                ours,
                current,
            });
        }
        self.apply(&mut writer, records)
    }

    fn apply(&self, writer: &mut Writer, records: Vec<Encoded>) -> Result<(), StoreError> {
        self.apply_one(writer, records)?;
        while let Some(instance) = self.projection.unswept().first() {
            self.apply_one(writer, vec![encode_alone(Record::Sweep(*instance))])?;
        }
        if self.projection.unflushed_bytes() >= self.projection.budgets().flush_bytes {
            self.projection.flush()?;
        }
        Ok(())
    }

    fn apply_one(&self, writer: &mut Writer, records: Vec<Encoded>) -> Result<(), StoreError> {
        let mut positioned = Vec::with_capacity(records.len());
        for Encoded { record, .. } in records {
            writer.lsn += 1;
            if let Record::Accept(chunk) = &record {
                self.projection
                    .source()
                    .0
                    .write()
                    .insert(writer.lsn, Arc::clone(chunk));
            }
            positioned.push(Positioned {
                lsn: writer.lsn,
                len: 0,
                record,
            });
        }
        self.projection.apply(positioned)?;
        self.projection.advance(writer.lsn);
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn open_shard(
        &self,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<ShardOpened, StoreError> {
        let mut writer = self.writer.lock();
        let row = writer.shards.entry(shard).or_default();
        let ours = epoch.unwrap_or(row.epoch.next());
        if ours <= row.epoch {
            return Err(StoreError::Fenced {
                shard,
                ours,
                current: row.epoch,
            });
        }
        row.epoch = ours;
        Ok(ShardOpened {
            epoch: row.epoch,
            last: row.ceiling,
            ceiling: row.ceiling,
        })
    }

    async fn close_shard(&self, _shard: Shard, _epoch: Epoch) -> Result<(), StoreError> {
        Ok(())
    }

    /// Nothing waits here: an append is written, or fenced, before it returns.
    fn drop_shard(&self, _shard: Shard, _epoch: Epoch) {}

    async fn raise_ceiling(
        &self,
        shard: Shard,
        epoch: Epoch,
        ceiling: Tick,
    ) -> Result<Tick, StoreError> {
        let mut writer = self.writer.lock();
        let row = writer.shards.entry(shard).or_default();
        if row.epoch != epoch {
            return Err(StoreError::Fenced {
                shard,
                ours: epoch,
                current: row.epoch,
            });
        }
        row.ceiling = row.ceiling.max(ceiling);
        Ok(row.ceiling)
    }

    fn append(&self, append: Append, done: Done) {
        done(self.take(append));
    }

    async fn write(&self, rows: Vec<RowWrite>) -> Result<Written, StoreError> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(StoreError::Closed);
        }
        for write in &rows {
            let current = self.projection.row(&write.key)?.map(|row| row.value);
            if unmet(&write.condition, current.as_deref()) {
                return Ok(Written::Conflict {
                    key: write.key.clone(),
                    current,
                });
            }
        }
        self.apply(
            &mut writer,
            vec![encode_alone(Record::Rows(codec::changes(rows)))],
        )?;
        Ok(Written::Applied)
    }

    async fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.projection.row(key)
    }

    async fn rows(
        &self,
        table: Table,
        partition: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StoreError> {
        self.projection
            .rows(table, partition, after, limit, Direction::of(reverse))
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageRecord>, StoreError> {
        self.projection.message(id)
    }

    async fn queued(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        self.projection
            .queued(QueueKey { instance, queue }, after, max_messages, max_bytes)
    }

    async fn processing(&self, instance: InstanceId, queue: Queue) -> Result<u64, StoreError> {
        Ok(self.projection.processing(QueueKey { instance, queue }))
    }

    async fn expiries(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<(Vec<Expiring>, Option<MessageId>), StoreError> {
        self.projection
            .expiries(QueueKey { instance, queue }, after, limit)
    }

    async fn scheduled(
        &self,
        instance: InstanceId,
        until: Timestamp,
        limit: usize,
    ) -> Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError> {
        self.projection.scheduled(instance, until, limit)
    }

    async fn work(&self) -> Result<Vec<Work>, StoreError> {
        Ok(self.projection.work())
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        self.projection.list(&request)
    }

    async fn totals(&self, filter: TotalsFilter) -> Result<Totals, StoreError> {
        self.projection.totals(&filter)
    }

    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<ChangePage, StoreError> {
        self.projection.changes(account, after, limit)
    }

    async fn recipients(
        &self,
        instance: InstanceId,
        batch: BatchId,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<(MessageId, Phone)>, StoreError> {
        let queue = QueueKey {
            instance,
            queue: Queue::Part(batch),
        };
        self.projection.recipients(queue, after, limit)
    }

    async fn retire(&self, now: Timestamp, retention: Duration) -> Result<u32, StoreError> {
        let mut writer = self.writer.lock();
        let below = self.projection.retirable(now - retention);
        let before = self.projection.kept_periods();
        self.apply_one(&mut writer, vec![encode_alone(Record::Retire(below))])?;
        while self.projection.trim_feed(now)? {
            self.projection.flush()?;
        }
        self.projection.flush()?;
        let floor = self.projection.log_floor();
        self.projection
            .source()
            .0
            .write()
            .retain(|lsn, _| *lsn >= floor);
        Ok(before.saturating_sub(self.projection.kept_periods()))
    }

    async fn backup(&self, _file: &Path) -> Result<(), StoreError> {
        Err(StoreError::Invalid("a store in memory has no backup"))
    }

    fn health(&self) -> Health {
        if self.writer.lock().closed {
            return Health::Failed("closed".to_owned());
        }
        Health::Ready
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.writer.lock().closed = true;
        Ok(())
    }
}
