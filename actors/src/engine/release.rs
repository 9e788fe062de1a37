//! What has work is woken; what was restored is held until an operator releases it.

use std::sync::atomic::Ordering;

use rustc_hash::FxHashMap;
use zajil_model::id::{BatchId, InstanceId, MessageId};
use zajil_model::lifecycle::{Event, Outcome, Status};
use zajil_model::message::Queue;
use zajil_model::time::Timestamp;
use zajil_storage::{Append, Entry, MessageRecord, RowKey, RowWrite, Store, StoreError, Table};

use crate::batch::InstancePort;
use crate::engine::Engine;
use crate::instance::InstanceMsg;
use crate::send::EngineError;

/// Messages that are settled in one append.
const SETTLE_AT_ONCE: usize = 1_000;

/// Bytes that are read at once to settle them.
const SETTLE_BYTES: usize = 1 << 20;

/// A time after every due time.
const FOR_EVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// The row that says that the store was restored from a backup and not released yet.
fn restored_key() -> RowKey {
    RowKey::new(Table::Meta, "restored", Vec::new())
}

/// When the store was restored, while that is not released.
async fn restored_at(store: &dyn Store) -> Result<Option<Timestamp>, StoreError> {
    let Some(row) = store.row(&restored_key()).await? else {
        return Ok(None);
    };
    let micros = std::str::from_utf8(&row.value)
        .ok()
        .and_then(|text| text.parse().ok());
    let corrupt = || StoreError::Corrupt {
        what: "time of the restore",
        detail: String::from_utf8_lossy(&row.value).into_owned(),
    };
    Ok(Some(Timestamp::from_micros(micros.ok_or_else(corrupt)?)))
}

/// Whether sending is held after a restore.
pub(super) async fn is_restored(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(store.row(&restored_key()).await?.is_some())
}

impl Engine {
    /// Wakes every instance that has unsettled messages. While sending is held nothing is woken.
    pub(super) async fn wake_all(&self) -> Result<(), EngineError> {
        if self.is_held() {
            tracing::warn!("restored from a backup: nothing is sent before it is released");
            return Ok(());
        }
        let mut parts: FxHashMap<InstanceId, Vec<BatchId>> = FxHashMap::default();
        for work in self.store().work().await? {
            let parts = parts.entry(work.instance).or_default();
            if let Queue::Part(batch) = work.queue {
                parts.push(batch);
            }
        }
        let count = parts.len();
        for (instance, parts) in parts {
            let Some(instance) = self.instance(instance).await? else {
                continue;
            };
            let runs = self.0.router.running(instance.id).is_some();
            self.0.router.wake(&instance, parts.clone());
            if runs {
                // Somebody woke it before, who did not know of its parts.
                parts
                    .into_iter()
                    .for_each(|batch| self.0.instances.part_grew(instance.id, batch));
            }
        }
        if count > 0 {
            tracing::info!(instances = count, "woke the instances that have work");
        }
        Ok(())
    }

    /// Ends the hold after a restore: what was unsettled settles as `unknown`, or is sent with
    /// `resend`. Answers how many messages were settled.
    ///
    /// # Errors
    /// When the store fails; the hold stays, and the call can be repeated.
    pub async fn release(&self, resend: bool) -> Result<u64, EngineError> {
        if !self.is_held() {
            return Ok(0);
        }
        let settled = match restored_at(self.store().as_ref()).await? {
            Some(restored) if !resend => self.settle_before(restored).await?,
            _ => 0,
        };
        self.store()
            .write(vec![RowWrite::delete(restored_key())])
            .await?;
        self.0.context.held.store(false, Ordering::Release);
        for handle in self.0.router.all() {
            handle.tell(InstanceMsg::ReadAgain);
        }
        self.wake_all().await?;
        Ok(settled)
    }

    /// Settles what was accepted before a time. What came after it cannot have been sent by
    /// whoever went on from the original.
    async fn settle_before(&self, restored: Timestamp) -> Result<u64, EngineError> {
        let mut settled = 0;
        for work in self.store().work().await? {
            let mut after = None;
            loop {
                let read = self
                    .store()
                    .queued(
                        work.instance,
                        work.queue,
                        after,
                        SETTLE_AT_ONCE,
                        SETTLE_BYTES,
                    )
                    .await?;
                let old = read
                    .0
                    .iter()
                    .filter(|read| read.chunk.created_at < restored);
                let ids = old.flat_map(|read| {
                    let unsettled =
                        |(_, state): &(usize, &zajil_model::lifecycle::MessageState)| {
                            matches!(state.status, Status::Pending | Status::Processing)
                        };
                    let states = read.states.iter().enumerate().filter(unsettled);
                    states.map(|(index, _)| read.chunk.id(index))
                });
                settled += self.settle(work.instance, ids.collect()).await?;
                after = read.1;
                if after.is_none() {
                    break;
                }
            }
            settled += self.settle_schedule(work.instance, restored).await?;
        }
        Ok(settled)
    }

    async fn settle_schedule(
        &self,
        instance: InstanceId,
        restored: Timestamp,
    ) -> Result<u64, EngineError> {
        let (mut settled, mut limit) = (0, SETTLE_AT_ONCE);
        loop {
            let (due, _) = self.store().scheduled(instance, FOR_EVER, limit).await?;
            let old = due
                .iter()
                .filter(|record| record.chunk.created_at < restored);
            let ids: Vec<MessageId> = old.map(MessageRecord::id).collect();
            if ids.is_empty() {
                if due.len() < limit {
                    return Ok(settled);
                }
                // Newer ones fill the page and stay: look behind them.
                limit *= 2;
            }
            settled += self.settle(instance, ids).await?;
        }
    }

    /// Settles messages as `unknown`; answers how many.
    async fn settle(&self, instance: InstanceId, ids: Vec<MessageId>) -> Result<u64, EngineError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let (shard, at) = (instance.shard(), self.clock().now());
        let epoch = self.0.context.clocks.ensure(shard, 1).await?;
        let settled = ids.len() as u64;
        let outcomes = ids.into_iter().map(|id| Outcome {
            id,
            at,
            event: Event::Unknown,
        });
        let entries = vec![Entry::Outcomes(outcomes.collect())];
        let (reply, answer) = tokio::sync::oneshot::channel();
        let append = Append {
            shard,
            epoch,
            entries,
        };
        // Who asked for the release may have gone; what it settled stays settled.
        self.store()
            .append(append, Box::new(move |result| drop(reply.send(result))));
        answer.await.map_err(|_| StoreError::Closed)??;
        Ok(settled)
    }
}
