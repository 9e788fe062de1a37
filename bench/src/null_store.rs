//! A store that forgets what it accepts: behind it the server is all front.
//!
//! Rows are kept in memory, so that keys and instances work; appends are answered at once. What
//! is measured with it is the way of a request through parser, checks and answer, which no
//! storage can make faster.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;
use zajil_storage::{
    Append, ChangePage, Cursor, Done, Expiring, Health, ListPage, ListRequest, MemoryStore,
    MessageRecord, QueuedChunk, Row, RowKey, RowWrite, ShardOpened, Store, StoreError, Table,
    Totals, TotalsFilter, Work, Written,
};

/// A store that forgets what it accepts.
#[derive(Debug, Default)]
pub(crate) struct NullStore {
    rows: MemoryStore,
}

#[async_trait]
impl Store for NullStore {
    async fn open_shard(
        &self,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<ShardOpened, StoreError> {
        self.rows.open_shard(shard, epoch).await
    }

    async fn close_shard(&self, shard: Shard, epoch: Epoch) -> Result<(), StoreError> {
        self.rows.close_shard(shard, epoch).await
    }

    fn drop_shard(&self, shard: Shard, epoch: Epoch) {
        self.rows.drop_shard(shard, epoch);
    }

    async fn raise_ceiling(
        &self,
        shard: Shard,
        epoch: Epoch,
        ceiling: Tick,
    ) -> Result<Tick, StoreError> {
        self.rows.raise_ceiling(shard, epoch, ceiling).await
    }

    fn append(&self, _: Append, done: Done) {
        done(Ok(()));
    }

    async fn write(&self, rows: Vec<RowWrite>) -> Result<Written, StoreError> {
        self.rows.write(rows).await
    }

    async fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.rows.row(key).await
    }

    async fn rows(
        &self,
        table: Table,
        partition: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StoreError> {
        self.rows
            .rows(table, partition, after, limit, reverse)
            .await
    }

    async fn message(&self, _: MessageId) -> Result<Option<MessageRecord>, StoreError> {
        Ok(None)
    }

    async fn queued(
        &self,
        _: InstanceId,
        _: Queue,
        _: Option<MessageId>,
        _: usize,
        _: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        Ok((Vec::new(), None))
    }

    async fn processing(&self, _instance: InstanceId, _queue: Queue) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn expiries(
        &self,
        _: InstanceId,
        _: Queue,
        _: Option<MessageId>,
        _: usize,
    ) -> Result<(Vec<Expiring>, Option<MessageId>), StoreError> {
        Ok((Vec::new(), None))
    }

    async fn scheduled(
        &self,
        _: InstanceId,
        _: Timestamp,
        _: usize,
    ) -> Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError> {
        Ok((Vec::new(), None))
    }

    async fn work(&self) -> Result<Vec<Work>, StoreError> {
        Ok(Vec::new())
    }

    async fn list(&self, _: ListRequest) -> Result<ListPage, StoreError> {
        Ok(ListPage::default())
    }

    async fn totals(&self, _: TotalsFilter) -> Result<Totals, StoreError> {
        Ok(Totals::default())
    }

    async fn changes(
        &self,
        _: AccountId,
        _: Option<Cursor>,
        _: usize,
    ) -> Result<ChangePage, StoreError> {
        Ok(ChangePage::default())
    }

    async fn recipients(
        &self,
        _: InstanceId,
        _: BatchId,
        _: Option<MessageId>,
        _: usize,
    ) -> Result<Vec<(MessageId, Phone)>, StoreError> {
        Ok(Vec::new())
    }

    async fn retire(&self, _: Timestamp, _: Duration) -> Result<u32, StoreError> {
        Ok(0)
    }

    async fn backup(&self, _: &Path) -> Result<(), StoreError> {
        Err(StoreError::Invalid("there is nothing to back up"))
    }

    fn health(&self) -> Health {
        Health::Ready
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
