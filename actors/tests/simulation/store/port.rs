//! The port, as the rest of the process sees it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::{Clock as _, Timestamp};
use zajil_storage::cql::LogClock;
use zajil_storage::cql::feed::Question;
use zajil_storage::{
    Append, ChangePage, Cursor, Done, Expiring, Health, ListPage, ListRequest, MessageRecord,
    QueuedChunk, Row, RowKey, RowWrite, ShardOpened, Store, StoreError, Table, Totals,
    TotalsFilter, Work, Written,
};

use super::NodeStore;
use super::held::{self, Call, Held, replay};
use crate::database::Place;
use crate::wire::Lateness;
use crate::world::SHARDS;

/// How many shards share a partition of the rows that name their owners.
const SHARDS_TOGETHER: u16 = 16;

#[async_trait]
impl Store for NodeStore {
    async fn open_shard(
        &self,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<ShardOpened, StoreError> {
        let epoch = epoch.ok_or(StoreError::Invalid("a shard is opened under an epoch"))?;
        if let Ok(held) = self.held(shard) {
            if epoch <= held.epoch {
                return Err(StoreError::NotOpen(shard));
            }
            held.lose();
        }
        let taken = self.ask("take a shard", Lateness::Seldom, move |database| {
            database.take(shard, epoch)
        });
        let (ids, log_upto) = taken.await??;
        let log = self.ask("read a log", Lateness::Seldom, move |database| {
            database.read(shard)
        });
        let log = log.await?;
        let seen: Vec<Place> = log.iter().map(|(place, _)| *place).collect();
        let clock = LogClock::new(shard, log_upto, log_upto, Arc::clone(&self.0.told));
        let ceiling = clock.wanted(self.0.clock.now());
        let sealed = self.ask("seal a log", Lateness::Seldom, move |database| {
            database.seal(shard, epoch, (&seen, ceiling))
        });
        sealed.await??;
        clock.raise(ceiling);
        // Who wrote them may have died before it wrote the rows that they bring.
        for ((_, stamp), group) in &log {
            self.put_rows_once(*stamp, &held::rows(group)).await?;
        }
        let replayed = replay(shard, epoch, &log, self.0.budgets).await?;
        let held = Arc::new(Held::new(epoch, clock, replayed));
        self.0.shards.lock().insert(shard, held);
        Ok(ShardOpened {
            epoch,
            last: ids,
            ceiling: ids,
        })
    }

    async fn close_shard(&self, shard: Shard, epoch: Epoch) -> Result<(), StoreError> {
        let held = self.0.shards.lock().get(&shard).cloned();
        let Some(held) = held.filter(|held| held.epoch == epoch) else {
            return Ok(());
        };
        while held.is_alive() && held.is_writing() {
            sleep(Duration::from_millis(5)).await;
        }
        self.forget(shard, &held);
        let released = self.release(shard, &held).await;
        held.lose();
        released
    }

    fn drop_shard(&self, shard: Shard, epoch: Epoch) {
        let mut shards = self.0.shards.lock();
        if let Some(held) = shards.get(&shard).filter(|held| held.epoch == epoch) {
            held.lose();
            shards.remove(&shard);
        }
    }

    async fn raise_ceiling(
        &self,
        shard: Shard,
        epoch: Epoch,
        ceiling: Tick,
    ) -> Result<Tick, StoreError> {
        let raised = self.ask("raise a ceiling", Lateness::Seldom, move |database| {
            database.raise(shard, epoch, ceiling)
        });
        raised.await?
    }

    fn append(&self, append: Append, done: Done) {
        let Append {
            shard,
            epoch,
            entries,
        } = append;
        let held = match self.held(shard) {
            Ok(held) if held.epoch == epoch => held,
            Ok(held) => {
                let current = held.epoch;
                return done(Err(StoreError::Fenced {
                    shard,
                    ours: epoch,
                    current,
                }));
            }
            Err(error) => return done(Err(error)),
        };
        if held.push(Call { entries, done }) {
            let writes = self.clone().write_all(shard, held);
            tokio::runtime::Handle::current().spawn(writes);
        }
    }

    fn claim(&self, append: Append, done: Done) {
        let (shard, epoch) = (append.shard, append.epoch);
        let store = self.clone();
        let handle = tokio::runtime::Handle::current();
        let durable = move |result: Result<(), StoreError>| {
            handle.spawn(async move {
                let counts = match result {
                    Ok(()) => store.still_counts(shard, epoch).await,
                    Err(error) => Err(error),
                };
                done(counts);
            });
        };
        self.append(append, Box::new(durable));
    }

    async fn write(&self, rows: Vec<RowWrite>) -> Result<Written, StoreError> {
        let node = self.0.node;
        self.ask("write rows", Lateness::Seldom, move |database| {
            database.write(node, &rows)
        })
        .await
    }

    async fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let key = key.clone();
        self.ask("read a row", Lateness::Seldom, move |database| {
            database.row(&key)
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
        let beyond = (SHARDS.div_ceil(SHARDS_TOGETHER)).to_be_bytes();
        if table == Table::ShardOwners && partition >= beyond.as_slice() {
            // There are no such shards here: nobody need be asked.
            return Ok(Vec::new());
        }
        let (partition, after) = (partition.to_vec(), after.map(<[u8]>::to_vec));
        self.ask("read rows", Lateness::Seldom, move |database| {
            database.rows(table, &partition, after.as_deref(), limit, reverse)
        })
        .await
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageRecord>, StoreError> {
        self.projection(id.giver()).await?.message(id).await
    }

    async fn queued(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        self.cold().await?;
        let projection = Arc::clone(&self.held(instance.shard())?.projection);
        let read = projection.queued(instance, queue, after, max_messages, max_bytes);
        let read = read.await?;
        self.cold().await?;
        Ok(read)
    }

    async fn scheduled(
        &self,
        instance: InstanceId,
        until: Timestamp,
        limit: usize,
    ) -> Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError> {
        let projection = Arc::clone(&self.held(instance.shard())?.projection);
        let read = projection.scheduled(instance, until, limit).await?;
        self.cold().await?;
        Ok(read)
    }

    async fn processing(&self, instance: InstanceId, queue: Queue) -> Result<u64, StoreError> {
        let projection = Arc::clone(&self.held(instance.shard())?.projection);
        projection.processing(instance, queue).await
    }

    async fn expiries(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<(Vec<Expiring>, Option<MessageId>), StoreError> {
        let projection = Arc::clone(&self.held(instance.shard())?.projection);
        let read = projection.expiries(instance, queue, after, limit).await?;
        self.cold().await?;
        Ok(read)
    }

    async fn work(&self) -> Result<Vec<Work>, StoreError> {
        let shards = self.0.shards.lock();
        let work = shards.values().filter_map(|held| held.work());
        Ok(work.flatten().collect())
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let most = request.limit + request.skip as usize;
        let mut more = false;
        let mut messages = Vec::new();
        for (projection, instances) in self.by_shard(&request.filter.instances).await? {
            let mut part = request.clone();
            part.filter.instances = instances;
            (part.skip, part.limit) = (0, most);
            let part = projection.list(part).await?;
            more |= part.next.is_some();
            messages.extend(part.messages);
        }
        messages.sort_by_key(|record| std::cmp::Reverse(record.id()));
        messages.drain(..messages.len().min(request.skip as usize));
        more |= messages.len() > request.limit;
        messages.truncate(request.limit);
        let next = messages.last().map(MessageRecord::id).filter(|_| more);
        Ok(ListPage { messages, next })
    }

    async fn totals(&self, filter: TotalsFilter) -> Result<Totals, StoreError> {
        let mut all = Totals::default();
        for (projection, instances) in self.by_shard(&filter.instances).await? {
            let mut part = filter.clone();
            part.instances = instances;
            let part = projection.totals(part).await?;
            for (sum, count) in all.all.iter_mut().zip(part.all) {
                *sum += count;
            }
            all.by_instance.extend(part.by_instance);
        }
        Ok(all)
    }

    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<ChangePage, StoreError> {
        let question = Question {
            account,
            after,
            limit,
        };
        self.changes_of(question).await
    }

    async fn recipients(
        &self,
        instance: InstanceId,
        batch: BatchId,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<(MessageId, Phone)>, StoreError> {
        let projection = self.projection(instance.shard()).await?;
        projection.recipients(instance, batch, after, limit).await
    }

    async fn retire(&self, _now: Timestamp, _retention: Duration) -> Result<u32, StoreError> {
        Ok(0)
    }

    async fn backup(&self, _file: &Path) -> Result<(), StoreError> {
        Err(StoreError::Invalid("a simulated store has no backup"))
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        let wire = self.0.wire.clone();
        let told = self.ask("read the clock", Lateness::Never, move |_| {
            crate::clock::wall(wire.now())
        });
        told.await.map(Some)
    }

    fn health(&self) -> Health {
        Health::Ready
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
