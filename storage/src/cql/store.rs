//! The port, on the store that several nodes share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use super::shard::ShardProjection;
use super::writer::{Answer, Call, Job};
use super::{CqlStore, feed, intents, rows};
use crate::projection::key::QueueKey;
use crate::{
    Append, ChangePage, Cursor, Done, Expiring, Health, ListPage, ListRequest, MessageRecord,
    QueuedChunk, Row, RowKey, RowWrite, ShardOpened, Store, StoreError, Table, Totals,
    TotalsFilter, Work, Written,
};

/// What a claim takes longer than an append: the question whose the shard is, which costs a few
/// rounds between servers, on a busy day.
const CLAIM_LAG: Duration = Duration::from_millis(200);

/// A database that failed every request for this long is said to be gone.
const GONE_AFTER: Duration = Duration::from_secs(5);

impl CqlStore {
    /// Runs something on the threads of the store, whoever asks from wherever.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = self.handle.spawn(work).await;
        done.unwrap_or(Err(StoreError::Closed))
    }

    async fn read<T: Send + 'static>(
        &self,
        shard: Shard,
        question: impl FnOnce(&ShardProjection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { shared.read(shard, question).await })
            .await
    }

    /// Queues an append, or a claim.
    fn queue(&self, append: Append, answer: Answer) {
        let begun = self.shared.db.clock.mono();
        let (serving, records) = match self.shared.take(append) {
            Ok(taken) => taken,
            Err(error) => {
                let call = Call::new(Vec::new(), answer, begun, &self.shared.waiting);
                return call.answer(Err(error));
            }
        };
        let call = Call::new(records, answer, begun, &self.shared.waiting);
        let (job, error) = match serving.jobs.try_send(Job::Call(call)) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(job)) => (job, StoreError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(job)) => {
                let ended = serving.open.ground.alive.check().err();
                let shard = serving.open.ground.shard;
                (job, ended.unwrap_or(StoreError::NotOpen(shard)))
            }
        };
        if let Job::Call(call) = job {
            call.answer(Err(error));
        }
    }

    async fn own<T: Send + 'static>(
        &self,
        shard: Shard,
        question: impl FnOnce(&ShardProjection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { shared.own(shard, question).await })
            .await
    }
}

#[async_trait]
impl Store for CqlStore {
    async fn open_shard(
        &self,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<ShardOpened, StoreError> {
        self.run(Arc::clone(&self.shared).open_shard(shard, epoch))
            .await
    }

    async fn close_shard(&self, shard: Shard, epoch: Epoch) -> Result<(), StoreError> {
        self.run(Arc::clone(&self.shared).close_shard(shard, epoch))
            .await
    }

    fn drop_shard(&self, shard: Shard, epoch: Epoch) {
        self.shared.drop_shard(shard, epoch);
    }

    async fn raise_ceiling(
        &self,
        shard: Shard,
        epoch: Epoch,
        ceiling: Tick,
    ) -> Result<Tick, StoreError> {
        let open = self.shared.under(shard, epoch)?.open;
        self.run(async move { open.raise_ids(ceiling).await }).await
    }

    fn append(&self, append: Append, done: Done) {
        self.queue(append, Answer::Append(done));
    }

    fn claim(&self, append: Append, done: Done) {
        self.queue(append, Answer::Claim(done));
    }

    fn claim_lag(&self) -> Duration {
        CLAIM_LAG
    }

    async fn write(&self, rows: Vec<RowWrite>) -> Result<Written, StoreError> {
        self.shared.check()?;
        if rows.is_empty() {
            return Ok(Written::Applied);
        }
        let db = Arc::clone(&self.shared.db);
        self.run(async move { intents::write(&db, rows).await })
            .await
    }

    async fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.shared.check()?;
        let (db, key) = (Arc::clone(&self.shared.db), key.clone());
        self.run(async move {
            let value = rows::row(&db, &key).await?;
            Ok(value.map(|value| Row { key, value }))
        })
        .await
    }

    async fn rows(
        &self,
        table: Table,
        partition: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StoreError> {
        self.shared.check()?;
        let db = Arc::clone(&self.shared.db);
        let (partition, after) = (partition.to_vec(), after.map(<[u8]>::to_vec));
        self.run(async move {
            rows::rows(&db, table, &partition, after.as_deref(), limit, reverse).await
        })
        .await
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageRecord>, StoreError> {
        self.read(id.giver(), move |projection| projection.message(id))
            .await
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
        self.own(instance.shard(), move |projection| {
            projection.queued(queue, after, max_messages, max_bytes)
        })
        .await
    }

    async fn processing(&self, instance: InstanceId, queue: Queue) -> Result<u64, StoreError> {
        let queue = QueueKey { instance, queue };
        self.own(instance.shard(), move |projection| {
            Ok(projection.processing(queue))
        })
        .await
    }

    async fn expiries(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<(Vec<Expiring>, Option<MessageId>), StoreError> {
        let queue = QueueKey { instance, queue };
        self.own(instance.shard(), move |projection| {
            projection.expiries(queue, after, limit)
        })
        .await
    }

    async fn scheduled(
        &self,
        instance: InstanceId,
        until: Timestamp,
        limit: usize,
    ) -> Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError> {
        self.own(instance.shard(), move |projection| {
            projection.scheduled(instance, until, limit)
        })
        .await
    }

    async fn work(&self) -> Result<Vec<Work>, StoreError> {
        self.shared.check()?;
        let shards = self.shared.shards.read();
        let mut work: Vec<Work> = shards
            .values()
            .flat_map(|serving| serving.open.projection.work())
            .collect();
        work.sort_unstable_by_key(|work| (work.instance, work.queue));
        Ok(work)
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        self.run(Arc::clone(&self.shared).list(request)).await
    }

    async fn totals(&self, filter: TotalsFilter) -> Result<Totals, StoreError> {
        self.run(Arc::clone(&self.shared).totals(filter)).await
    }

    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<ChangePage, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { feed::changes(&shared, account, after, limit).await })
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
        self.read(instance.shard(), move |projection| {
            projection.recipients(queue, after, limit)
        })
        .await
    }

    async fn retire(&self, now: Timestamp, retention: Duration) -> Result<u32, StoreError> {
        self.run(Arc::clone(&self.shared).retire(now, retention))
            .await
    }

    async fn backup(&self, _file: &Path) -> Result<(), StoreError> {
        Err(StoreError::Invalid(
            "a store in a database is backed up with the database's own tools",
        ))
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        self.shared.check()?;
        let db = Arc::clone(&self.shared.db);
        self.run(async move {
            let millis = db.first::<(i64,)>(&db.statements.time, ()).await;
            let millis = millis.map_err(|failed| failed.of("read the clock of the database"))?;
            Ok(millis.map(|(millis,)| Timestamp::from_millis(millis)))
        })
        .await
    }

    fn health(&self) -> Health {
        if self.shared.check().is_err() {
            return Health::Failed("closed".to_owned());
        }
        match self.shared.db.silent_for() {
            Some(silent) if silent >= GONE_AFTER => Health::ReadOnly(format!(
                "the database has not answered for {} s",
                silent.as_secs()
            )),
            _ => Health::Ready,
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.run(Arc::clone(&self.shared).close()).await
    }
}
