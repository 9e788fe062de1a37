//! The troubled store as the engine sees it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;
use zajil_storage::{
    Append, ChangePage, Cursor, Done, Entry, Expiring, Health, ListPage, ListRequest,
    MessageRecord, QueuedChunk, Row, RowKey, RowWrite, ShardOpened, Store, StoreError, Table,
    Totals, TotalsFilter, Work, Written,
};

use super::TroubledStore;

/// Far longer than an accept that nobody holds up.
const OVERTAKING: Duration = Duration::from_millis(500);

fn away(operation: &'static str) -> StoreError {
    StoreError::Io {
        operation,
        reason: "the database is away".to_owned(),
    }
}

#[async_trait]
impl Store for TroubledStore {
    fn append(&self, mut append: Append, done: Done) {
        let accepts = |entry: &Entry| matches!(entry, Entry::Accept(_));
        if self.voids.load(Ordering::Relaxed) {
            append.entries.retain(|entry| !accepts(entry));
        }
        if append.entries.iter().any(accepts) && self.holds_up.swap(false, Ordering::Relaxed) {
            std::thread::sleep(OVERTAKING);
        }
        self.note_attempts(&append);
        if *self.hangs.lock() == Some(append.shard) {
            self.unanswered.lock().0.push((append, done));
            return;
        }
        if let Some(waiting) = &mut *self.waiting.lock() {
            waiting.0.push((append, done));
            return;
        }
        if self.refuses(&append) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            done(Err(StoreError::Overloaded));
        } else {
            self.inner.append(append, done);
        }
    }

    fn claim(&self, append: Append, done: Done) {
        self.claims.fetch_add(1, Ordering::Relaxed);
        let one_less = |n: usize| n.checked_sub(1);
        let order = Ordering::Relaxed;
        let doubted = self.claims_to_doubt.fetch_update(order, order, one_less);
        let time = Duration::from_millis(self.claim_ms.load(order));
        let late: Done = Box::new(move |result| {
            let result = match doubted {
                Ok(_) => Err(StoreError::Closed),
                Err(_) => result,
            };
            if time.is_zero() {
                return done(result);
            }
            tokio::task::spawn(async move {
                tokio::time::sleep(time).await;
                done(result);
            });
        });
        self.append(append, late);
    }

    fn claim_lag(&self) -> Duration {
        Duration::from_millis(self.claim_ms.load(Ordering::Relaxed))
    }

    async fn queued(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        if self.damaged.load(Ordering::Relaxed) {
            return Err(StoreError::Corrupt {
                what: "log",
                detail: "no chunk there".to_owned(),
            });
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(self.turn_ms.load(Ordering::Relaxed))).await;
        let read = self
            .inner
            .queued(instance, queue, after, max_messages, max_bytes)
            .await;
        if let Ok((chunks, _)) = &read {
            let count = chunks.iter().map(|read| read.states.len()).sum();
            self.messages_read.fetch_add(count, Ordering::Relaxed);
        }
        self.slowly(read).await
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
        let read = self.inner.scheduled(instance, until, limit).await;
        self.slowly(read).await
    }

    async fn open_shard(&self, s: Shard, e: Option<Epoch>) -> Result<ShardOpened, StoreError> {
        self.answers(s).await;
        self.inner.open_shard(s, e).await
    }

    /// What waits is finished first.
    async fn close_shard(&self, shard: Shard, epoch: Epoch) -> Result<(), StoreError> {
        self.answers(shard).await;
        self.inner.close_shard(shard, epoch).await
    }

    fn drop_shard(&self, shard: Shard, epoch: Epoch) {
        self.inner.drop_shard(shard, epoch);
    }

    async fn raise_ceiling(&self, s: Shard, e: Epoch, ceiling: Tick) -> Result<Tick, StoreError> {
        self.answers(s).await;
        self.inner.raise_ceiling(s, e, ceiling).await
    }

    async fn write(&self, rows: Vec<RowWrite>) -> Result<Written, StoreError> {
        let reserves = rows.iter().any(|row| row.key.table == Table::DayCaps);
        if reserves && self.holds_reservation.swap(false, Ordering::Relaxed) {
            self.reservation_goes_on.notified().await;
        }
        let leases = rows.iter().any(|row| row.key.table == Table::Leases);
        if leases && self.leases_away.load(Ordering::Relaxed) {
            return Err(away("write a lease"));
        }
        self.inner.write(rows).await
    }

    async fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let is_of = |id: &AtomicU64| key.partition == id.load(Ordering::Relaxed).to_be_bytes();
        let kills = key.table == Table::Checkpoints && is_of(&self.deadly);
        assert!(!kills, "a bug in the start of this actor");
        if key.table == Table::BatchOwners {
            let time = self.batches_ms.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(time)).await;
        }
        let is_away = match key.table {
            Table::Checkpoints => self.checkpoints_away.load(Ordering::Relaxed),
            Table::InstanceOwners => is_of(&self.instance_away),
            _ => false,
        };
        if is_away {
            return Err(away("read a row"));
        }
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
        self.inner
            .rows(table, partition, after, limit, reverse)
            .await
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageRecord>, StoreError> {
        self.inner.message(id).await
    }

    async fn work(&self) -> Result<Vec<Work>, StoreError> {
        tokio::time::sleep(Duration::from_millis(self.work_ms.load(Ordering::Relaxed))).await;
        self.inner.work().await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        self.inner.list(request).await
    }

    async fn totals(&self, filter: TotalsFilter) -> Result<Totals, StoreError> {
        self.inner.totals(filter).await
    }

    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<ChangePage, StoreError> {
        self.inner.changes(account, after, limit).await
    }

    async fn recipients(
        &self,
        instance: InstanceId,
        batch: BatchId,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<(MessageId, Phone)>, StoreError> {
        tokio::time::sleep(Duration::from_millis(self.turn_ms.load(Ordering::Relaxed))).await;
        self.inner.recipients(instance, batch, after, limit).await
    }

    async fn retire(&self, now: Timestamp, retention: Duration) -> Result<u32, StoreError> {
        self.inner.retire(now, retention).await
    }

    async fn backup(&self, file: &Path) -> Result<(), StoreError> {
        self.inner.backup(file).await
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
