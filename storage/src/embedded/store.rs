//! The port, on the embedded store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use super::item::{Answer, Call};
use super::keyspaces::Keyspaces;
use super::log::{LogState, Lsn, PushError};
use super::shared::LogChunks;
use super::space::Level;
use super::{EmbeddedStore, open, projector};
use crate::codec::{self, Encoded, Record, encode_alone};
use crate::kv::Direction;
use crate::projection::Projection;
use crate::projection::key::QueueKey;
use crate::{
    Append, ChangePage, Cursor, Done, Entry, Expiring, Health, ListPage, ListRequest,
    MessageRecord, QueuedChunk, Row, RowKey, RowWrite, ShardOpened, Store, StoreError, Table,
    Totals, TotalsFilter, Work, Written, metrics,
};

impl EmbeddedStore {
    /// Hands a call to the committer; it is answered in any case.
    pub(super) fn push(&self, call: Call) {
        let (call, error) = match self.committer.push(call) {
            Ok(()) => return,
            Err(PushError::Overloaded(call)) => (call, StoreError::Overloaded),
            Err(PushError::Closed(call)) => (call, StoreError::Closed),
        };
        metrics::failed(call.operation(), &error);
        call.answer(Err(error));
    }

    pub(super) fn call(&self, records: Vec<Encoded>, answer: Answer) -> Call {
        Call::new(records, answer, self.shared.clock.mono())
    }

    /// The records of an append, if it may be taken.
    fn admit(&self, append: Append) -> Result<Vec<Encoded>, StoreError> {
        self.shared.check()?;
        self.check_epoch(append.shard, append.epoch)?;
        let accepts = append
            .entries
            .iter()
            .any(|entry| matches!(entry, Entry::Accept(_)));
        let is_full =
            || self.shared.guard.level() > Level::Enough || self.log.state() == LogState::Full;
        if accepts && is_full() {
            return Err(StoreError::Full);
        }
        codec::encode(append.entries)
    }

    fn check_epoch(&self, shard: Shard, ours: Epoch) -> Result<(), StoreError> {
        if ours == self.epoch {
            return Ok(());
        }
        Err(StoreError::Fenced {
            shard,
            ours,
            current: self.epoch,
        })
    }

    /// Begins a write; its answer comes when it is durable and seen.
    fn begin_write(&self, rows: Vec<RowWrite>) -> oneshot::Receiver<Result<Written, StoreError>> {
        let record = encode_alone(Record::Rows(codec::changes(rows.clone())));
        let (reply, answer) = oneshot::channel();
        let write = Answer::Write {
            rows,
            written: Written::Applied,
            reply,
        };
        self.push(self.call(vec![record], write));
        answer
    }

    /// Writes a record of the store's own; the answer comes when it is applied.
    async fn write_own(&self, record: Record) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let own = Answer::Own(Some(reply));
        self.push(self.call(vec![encode_alone(record)], own));
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Asks the projection on a thread that may wait for the disk.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Projection<Keyspaces, LogChunks>) -> Result<T, StoreError>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        self.shared.check()?;
        let shared = Arc::clone(&self.shared);
        let answer = tokio::task::spawn_blocking(move || question(&shared.projection)).await;
        let answer = answer.unwrap_or(Err(StoreError::Closed));
        answer.inspect_err(|error| metrics::failed(metrics::READ, error))
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn open_shard(
        &self,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<ShardOpened, StoreError> {
        self.shared.check()?;
        if epoch.is_some() {
            return Err(StoreError::Invalid(
                "an embedded store is not shared: its epoch is its own",
            ));
        }
        let ceilings = self.ceilings.lock();
        let last = ceilings
            .raised
            .get(&shard)
            .copied()
            .unwrap_or(ceilings.before);
        Ok(ShardOpened {
            epoch: self.epoch,
            last,
            ceiling: last,
        })
    }

    async fn close_shard(&self, _shard: Shard, _epoch: Epoch) -> Result<(), StoreError> {
        Ok(())
    }

    /// Nobody else can have taken it: the folder is locked.
    fn drop_shard(&self, _shard: Shard, _epoch: Epoch) {}

    async fn raise_ceiling(
        &self,
        shard: Shard,
        epoch: Epoch,
        ceiling: Tick,
    ) -> Result<Tick, StoreError> {
        self.check_epoch(shard, epoch)?;
        let written = {
            let mut ceilings = self.ceilings.lock();
            ceilings.written = ceilings.written.max(ceiling);
            // Pushed under the lock, so that a lower one never overwrites a higher one.
            self.begin_write(vec![open::ceiling_row(ceilings.written)])
        };
        written.await.map_err(|_| StoreError::Closed)??;
        let mut ceilings = self.ceilings.lock();
        let before = ceilings.before;
        let raised = ceilings.raised.entry(shard).or_insert(before);
        *raised = (*raised).max(ceiling);
        Ok(*raised)
    }

    fn append(&self, append: Append, done: Done) {
        match self.admit(append) {
            Ok(records) => self.push(self.call(records, Answer::Append(done))),
            Err(error) => {
                metrics::failed("append", &error);
                done(Err(error));
            }
        }
    }

    async fn write(&self, rows: Vec<RowWrite>) -> Result<Written, StoreError> {
        self.shared.check()?;
        self.begin_write(rows)
            .await
            .map_err(|_| StoreError::Closed)?
    }

    async fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.shared.check()?;
        // One key: from memory, or from fjall's cache most of the time.
        self.shared.projection.row(key)
    }

    async fn rows(
        &self,
        table: Table,
        partition: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StoreError> {
        let (partition, after) = (partition.to_vec(), after.map(<[u8]>::to_vec));
        let direction = Direction::of(reverse);
        self.ask(move |p| p.rows(table, &partition, after.as_deref(), limit, direction))
            .await
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageRecord>, StoreError> {
        self.ask(move |projection| projection.message(id)).await
    }

    async fn queued(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        let queue = QueueKey { instance, queue };
        self.ask(move |projection| projection.queued(queue, after, max_messages, max_bytes))
            .await
    }

    async fn processing(&self, instance: InstanceId, queue: Queue) -> Result<u64, StoreError> {
        self.shared.check()?;
        Ok(self
            .shared
            .projection
            .processing(QueueKey { instance, queue }))
    }

    async fn expiries(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<(Vec<Expiring>, Option<MessageId>), StoreError> {
        let queue = QueueKey { instance, queue };
        self.ask(move |projection| projection.expiries(queue, after, limit))
            .await
    }

    async fn scheduled(
        &self,
        instance: InstanceId,
        until: Timestamp,
        limit: usize,
    ) -> Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError> {
        self.ask(move |projection| projection.scheduled(instance, until, limit))
            .await
    }

    async fn work(&self) -> Result<Vec<Work>, StoreError> {
        self.shared.check()?;
        Ok(self.shared.projection.work())
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        self.ask(move |projection| projection.list(&request)).await
    }

    async fn totals(&self, filter: TotalsFilter) -> Result<Totals, StoreError> {
        self.ask(move |projection| projection.totals(&filter)).await
    }

    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<ChangePage, StoreError> {
        self.ask(move |projection| projection.changes(account, after, limit))
            .await
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
        self.ask(move |projection| projection.recipients(queue, after, limit))
            .await
    }

    async fn retire(&self, now: Timestamp, retention: Duration) -> Result<u32, StoreError> {
        let below = self.shared.projection.retirable(now - retention);
        let before = self.shared.projection.kept_periods();
        self.write_own(Record::Retire(below)).await?;
        let dropped = before.saturating_sub(self.shared.projection.kept_periods());
        let (shared, keeping) = (Arc::clone(&self.shared), Arc::clone(&self.keeping));
        let flushed = tokio::task::spawn_blocking(move || {
            let _no_backup = keeping.lock();
            // What is left when there is no room for a flush goes the next time.
            while shared.projection.trim_feed(now)? && projector::flush_if_room(&shared)? {}
            projector::flush_if_room(&shared)?;
            let floor = Lsn(shared.projection.log_floor());
            shared
                .log()?
                .retire(floor)
                .map_err(|error| StoreError::from(&error))
        });
        flushed.await.unwrap_or(Err(StoreError::Closed))?;
        Ok(dropped)
    }

    async fn backup(&self, file: &Path) -> Result<(), StoreError> {
        self.shared.check()?;
        let (shared, keeping) = (Arc::clone(&self.shared), Arc::clone(&self.keeping));
        let file = file.to_owned();
        let copied = tokio::task::spawn_blocking(move || {
            let _nothing_is_retired = keeping.lock();
            super::backup::write(&shared, &file)
        });
        copied.await.unwrap_or(Err(StoreError::Closed))
    }

    fn health(&self) -> Health {
        if let Some(reason) = self.shared.failure() {
            return Health::Failed(reason.to_owned());
        }
        if self.shared.check().is_err() {
            return Health::Failed("closed".to_owned());
        }
        match self.log.state() {
            LogState::Failed => Health::Failed("the log failed".to_owned()),
            _ if self.shared.guard.level() > Level::Enough => {
                Health::ReadOnly(self.shared.guard.reason())
            }
            LogState::Full => Health::ReadOnly("the disk is full".to_owned()),
            LogState::Ready => Health::Ready,
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        // It takes as long as the last group and flush; nothing else runs by then.
        self.stop();
        let flushed = projector::flush_if_room(&self.shared);
        self.shared.close();
        match self.shared.failure() {
            Some(reason) => Err(StoreError::Io {
                operation: "close the store in good order",
                reason: reason.to_owned(),
            }),
            None => flushed.map(drop),
        }
    }
}
