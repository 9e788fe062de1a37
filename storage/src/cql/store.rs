//! The port, on the store that several nodes share.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use super::clock::hour;
use super::merge::{self, Ask, Merge};
use super::shard::{Open, ShardProjection, time_to_live};
use super::writer::{self, Answer, CALLS_WAITING, Call, Job};
use super::{CqlStore, GATES, Serving, Shared, intents, log, rows, view};
use crate::codec::{self, Record, encode_alone};
use crate::projection::key::QueueKey;
use crate::{
    Append, ChangePage, Cursor, Done, Health, ListPage, ListRequest, MessageRecord, QueuedChunk,
    Row, RowKey, RowWrite, ShardOpened, Store, StoreError, Table, Totals, TotalsFilter, Work,
    Written, metrics,
};

/// Bytes of appends that may wait in all shards together.
const BYTES_WAITING: usize = 64 << 20;

/// How long a question to a projection may take before its asker is told so.
const QUESTION: Duration = Duration::from_secs(10);

impl Shared {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(())
    }

    /// A shard that is served here.
    pub(super) fn serving(&self, shard: Shard) -> Result<Serving, StoreError> {
        self.check()?;
        let found = self.shards.read().get(&shard).cloned();
        found.ok_or(StoreError::NotOpen(shard))
    }

    /// The same, if it is under this epoch.
    fn under(&self, shard: Shard, ours: Epoch) -> Result<Serving, StoreError> {
        let serving = self.serving(shard)?;
        if serving.open.epoch != ours {
            let current = serving.open.epoch;
            return Err(StoreError::Fenced {
                shard,
                ours,
                current,
            });
        }
        serving.open.ground.alive.check()?;
        Ok(serving)
    }

    fn gate(&self, shard: Shard) -> &tokio::sync::Mutex<()> {
        &self.gates[usize::from(shard.number()) % GATES]
    }

    async fn open_shard(
        self: Arc<Self>,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<ShardOpened, StoreError> {
        self.check()?;
        let _one_at_a_time = self.gate(shard).lock().await;
        if let Ok(serving) = self.serving(shard) {
            let current = serving.open.epoch;
            let is_alive = serving.open.ground.alive.check().is_ok();
            match epoch {
                None if is_alive => return Ok(serving.open.opened()),
                Some(ours) if ours <= current => {
                    return Err(StoreError::Fenced {
                        shard,
                        ours,
                        current,
                    });
                }
                _ => serving.open.ground.alive.lose(StoreError::NotOpen(shard)),
            }
            self.shards.write().remove(&shard);
        }
        let (open, opened) = Open::take(&self.means, shard, epoch).await?;
        let (sender, jobs) = mpsc::channel(CALLS_WAITING);
        let open = Arc::new(open);
        let ttl = time_to_live(self.config.retention);
        let handle = self.means.handle.clone();
        handle.spawn(writer::run(Arc::clone(&open), ttl, jobs));
        let jobs = sender;
        self.shards.write().insert(shard, Serving { open, jobs });
        // Should the store have been closed meanwhile, nobody would close this shard.
        if let Err(error) = self.check() {
            self.shards.write().remove(&shard);
            return Err(error);
        }
        Ok(opened)
    }

    async fn close_shard(self: Arc<Self>, shard: Shard, epoch: Epoch) -> Result<(), StoreError> {
        let _one_at_a_time = self.gate(shard).lock().await;
        let serving = match self.shards.read().get(&shard) {
            Some(serving) if serving.open.epoch == epoch => serving.clone(),
            _ => return Ok(()),
        };
        self.shards.write().remove(&shard);
        self.end(serving).await
    }

    /// Finishes what waits for a shard, and lets it go.
    async fn end(&self, serving: Serving) -> Result<(), StoreError> {
        let Serving { open, jobs } = serving;
        let (told, ended) = oneshot::channel();
        if jobs.send(Job::End(told)).await.is_ok() {
            // A writer that lost the shard answers nothing.
            ended.await.ok();
        }
        let finished = async {
            open.ground.alive.check()?;
            writer::flush(Arc::clone(&open)).await;
            open.ground.alive.check()?;
            open.release().await
        };
        let finished = finished.await;
        let shard = open.ground.shard;
        open.ground.alive.lose(StoreError::NotOpen(shard));
        finished
    }

    async fn close(self: Arc<Self>) -> Result<(), StoreError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let shards: Vec<Serving> = self.shards.write().drain().map(|(_, one)| one).collect();
        let mut first = Ok(());
        let mut closing = tokio::task::JoinSet::new();
        for serving in shards {
            let shared = Arc::clone(&self);
            closing.spawn(async move { shared.end(serving).await });
        }
        while let Some(ended) = closing.join_next().await {
            first = first.and(ended.unwrap_or(Err(StoreError::Closed)));
        }
        first
    }

    /// The records of an append, on their way.
    fn take(&self, append: Append) -> Result<(Serving, Vec<codec::Encoded>), StoreError> {
        let serving = self.under(append.shard, append.epoch)?;
        if self.waiting.load(Ordering::Acquire) > BYTES_WAITING {
            return Err(StoreError::Overloaded);
        }
        Ok((serving, codec::encode(append.entries)?))
    }

    /// Asks a shard that is held here, or else a view of it.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        shard: Shard,
        question: impl FnOnce(&ShardProjection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let projection = match self.serving(shard) {
            Ok(serving) if serving.open.ground.alive.check().is_ok() => {
                Arc::clone(&serving.open.projection)
            }
            Err(StoreError::NotOpen(_)) | Ok(_) => view::view(self, shard).await?,
            Err(error) => return Err(error),
        };
        self.question(projection, question).await
    }

    /// Asks a shard that is held here.
    async fn own<T: Send + 'static>(
        &self,
        shard: Shard,
        question: impl FnOnce(&ShardProjection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let open = self.serving(shard)?.open;
        open.ground.alive.check()?;
        self.question(Arc::clone(&open.projection), question).await
    }

    /// Asks a projection, on a thread that may wait.
    pub(super) async fn question<T: Send + 'static>(
        &self,
        projection: Arc<ShardProjection>,
        question: impl FnOnce(&ShardProjection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let handle = &self.means.handle;
        let asked = handle.spawn_blocking(move || question(&projection));
        match tokio::time::timeout(QUESTION, asked).await {
            Ok(answer) => answer.unwrap_or(Err(StoreError::Closed)),
            Err(_) => Err(StoreError::Io {
                operation: "read a projection",
                reason: "the database does not answer".to_owned(),
            }),
        }
    }

    async fn totals(self: Arc<Self>, filter: TotalsFilter) -> Result<Totals, StoreError> {
        let mut parts = Vec::new();
        for (shard, instances) in merge::by_shard(&filter.instances) {
            let part = TotalsFilter {
                instances,
                ..filter.clone()
            };
            parts.push(self.read(shard, move |p| p.totals(&part)).await?);
        }
        Ok(merge::totals(&filter, parts))
    }

    async fn list(self: Arc<Self>, request: ListRequest) -> Result<ListPage, StoreError> {
        let shards = merge::by_shard(&request.filter.instances);
        if let (1, Some(shard)) = (shards.len(), shards.keys().next()) {
            return self.read(*shard, move |p| p.list(&request)).await;
        }
        let (mut merge, mut asks) = Merge::new(request);
        loop {
            for Ask { shard, request } in asks {
                let page = self.read(shard, move |p| p.list(&request)).await?;
                merge.answered(shard, page);
            }
            match merge.go_on() {
                Some(ask) => asks = vec![ask],
                None => return Ok(merge.page()),
            }
        }
    }

    async fn retire(
        self: Arc<Self>,
        now: Timestamp,
        retention: Duration,
    ) -> Result<u32, StoreError> {
        self.check()?;
        let shards: Vec<Serving> = self.shards.read().values().cloned().collect();
        let mut gone = BTreeSet::new();
        for serving in shards {
            gone.extend(self.retire_shard(&serving, now, retention).await?);
        }
        Ok(gone.len() as u32)
    }

    async fn retire_shard(
        &self,
        serving: &Serving,
        now: Timestamp,
        retention: Duration,
    ) -> Result<Vec<u32>, StoreError> {
        let open = &serving.open;
        let before = open.projection.period_numbers();
        let below = open.projection.retirable(now - retention);
        if before.first().is_some_and(|oldest| *oldest < below) {
            let (told, applied) = oneshot::channel();
            let record = vec![encode_alone(Record::Retire(below))];
            let begun = self.db.clock.mono();
            let call = Call::new(record, Answer::Own(told), begun, &self.waiting);
            let sent = serving.jobs.send(Job::Call(call)).await;
            sent.map_err(|_| StoreError::NotOpen(open.ground.shard))?;
            applied.await.map_err(|_| StoreError::Closed)??;
        }
        let own = Arc::clone(open);
        let trimmed = self.means.handle.spawn_blocking(move || {
            while own.projection.trim_feed(now)? {
                own.projection.flush()?;
            }
            if own.projection.is_behind() {
                own.projection.flush()?;
            }
            Ok::<_, StoreError>(own.projection.log_floor())
        });
        let floor = trimmed.await.unwrap_or(Err(StoreError::Closed))?;
        self.drop_log(open, hour(floor)).await?;
        let after = open.projection.period_numbers();
        Ok(before
            .into_iter()
            .filter(|period| !after.contains(period))
            .collect())
    }

    /// Drops the log before an hour.
    async fn drop_log(&self, open: &Open, below: u32) -> Result<(), StoreError> {
        let floor = open.held.now().await.floor;
        if floor >= below {
            return Ok(());
        }
        let at = self.db.stamp();
        for hour in floor..below {
            log::drop_hour(&open.ground, at, hour).await?;
        }
        let changed = open
            .held
            .change(&self.db, &open.ground.alive, None, |head| {
                head.floor = below
            });
        changed.await.map(drop)
    }
}

impl CqlStore {
    /// Runs something on the threads of the store, whoever asks from wherever.
    async fn run<T: Send + 'static>(
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
        let begun = self.shared.db.clock.mono();
        let (serving, records) = match self.shared.take(append) {
            Ok(taken) => taken,
            Err(error) => {
                metrics::failed("append", &error);
                return done(Err(error));
            }
        };
        let call = Call::new(records, Answer::Append(done), begun, &self.shared.waiting);
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
        self.run(async move { super::feed::changes(&shared, account, after, limit).await })
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

    fn health(&self) -> Health {
        match self.shared.check() {
            Ok(()) => Health::Ready,
            Err(_) => Health::Failed("closed".to_owned()),
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.run(Arc::clone(&self.shared).close()).await
    }
}
