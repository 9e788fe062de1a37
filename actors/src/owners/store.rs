//! The store as a node of many sees it: what another node owns is read there.
//!
//! The owner of a shard has its newest state in memory. A read about it goes to the owner; while
//! there is none, or it does not answer in time, what is stored is read here, which may be a moment
//! old. Appends and the queues of shards are their owner's alone and never leave the node.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::{Clock, Timestamp};
use zajil_storage::{
    Append, ChangePage, Cursor, Done, Expiring, Health, ListPage, ListRequest, MessageRecord,
    QueuedChunk, Row, RowKey, RowWrite, ShardOpened, Store, StoreError, Table, Totals,
    TotalsFilter, Work, Written,
};

use super::questions::{ReadChanges, ReadMessage, ReadRecipients};
use super::{Asked, Owners};

mod feed;
mod lists;

pub(crate) use feed::changes_here;

/// How long another node may take for its part of an answer; then what is stored is read here.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// A store over which several nodes share the work.
#[derive(Debug)]
pub struct RoutedStore {
    inner: Arc<dyn Store>,
    owners: Owners,
    clock: Arc<dyn Clock>,
}

impl RoutedStore {
    /// The store of this node, with the others behind `owners`.
    pub const fn new(inner: Arc<dyn Store>, owners: Owners, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            owners,
            clock,
        }
    }
}

#[async_trait]
impl Store for RoutedStore {
    async fn open_shard(
        &self,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<ShardOpened, StoreError> {
        self.inner.open_shard(shard, epoch).await
    }

    async fn close_shard(&self, shard: Shard, epoch: Epoch) -> Result<(), StoreError> {
        self.inner.close_shard(shard, epoch).await
    }

    fn drop_shard(&self, shard: Shard, epoch: Epoch) {
        self.inner.drop_shard(shard, epoch);
    }

    async fn raise_ceiling(
        &self,
        shard: Shard,
        epoch: Epoch,
        ceiling: Tick,
    ) -> Result<Tick, StoreError> {
        self.inner.raise_ceiling(shard, epoch, ceiling).await
    }

    fn append(&self, append: Append, done: Done) {
        self.inner.append(append, done);
    }

    fn claim(&self, append: Append, done: Done) {
        self.inner.claim(append, done);
    }

    fn claim_lag(&self) -> Duration {
        self.inner.claim_lag()
    }

    async fn write(&self, rows: Vec<RowWrite>) -> Result<Written, StoreError> {
        self.inner.write(rows).await
    }

    async fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.inner.row(key).await
    }

    async fn rows(
        &self,
        table: Table,
        partition: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StoreError> {
        let inner = &self.inner;
        inner.rows(table, partition, after, limit, reverse).await
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageRecord>, StoreError> {
        match self.owners.ask(id.giver(), ReadMessage(id)).await {
            Ok(Asked::There(found)) => found,
            Ok(Asked::Here(_)) | Err(_) => self.inner.message(id).await,
        }
    }

    async fn queued(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        let inner = &self.inner;
        inner
            .queued(instance, queue, after, max_messages, max_bytes)
            .await
    }

    async fn processing(&self, instance: InstanceId, queue: Queue) -> Result<u64, StoreError> {
        self.inner.processing(instance, queue).await
    }

    async fn expiries(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<(Vec<Expiring>, Option<MessageId>), StoreError> {
        self.inner.expiries(instance, queue, after, limit).await
    }

    async fn scheduled(
        &self,
        instance: InstanceId,
        until: Timestamp,
        limit: usize,
    ) -> Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError> {
        self.inner.scheduled(instance, until, limit).await
    }

    async fn work(&self) -> Result<Vec<Work>, StoreError> {
        self.inner.work().await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        self.list_of_all(request).await
    }

    async fn totals(&self, filter: TotalsFilter) -> Result<Totals, StoreError> {
        self.totals_of_all(filter).await
    }

    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<ChangePage, StoreError> {
        let question = ReadChanges {
            account,
            after,
            limit,
        };
        self.feed(&question).await
    }

    async fn recipients(
        &self,
        instance: InstanceId,
        batch: BatchId,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<(MessageId, Phone)>, StoreError> {
        let question = ReadRecipients {
            instance,
            batch,
            after,
            limit,
        };
        match self.owners.ask(instance.shard(), question).await {
            Ok(Asked::There(found)) => found,
            Ok(Asked::Here(_)) | Err(_) => {
                let inner = &self.inner;
                inner.recipients(instance, batch, after, limit).await
            }
        }
    }

    async fn retire(&self, now: Timestamp, retention: Duration) -> Result<u32, StoreError> {
        self.inner.retire(now, retention).await
    }

    async fn backup(&self, file: &Path) -> Result<(), StoreError> {
        self.inner.backup(file).await
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.clock().await
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
