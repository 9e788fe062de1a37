//! What has work is woken; what was restored or imported is held until an operator releases it.

use std::sync::atomic::Ordering;

use rustc_hash::FxHashMap;
use zajil_cluster::Place;
use zajil_model::id::{BatchId, InstanceId, Shard};
use zajil_model::lifecycle::Event;
use zajil_model::message::Queue;
use zajil_model::time::Timestamp;
use zajil_storage::transfer::{held_row, unfinished_row};
use zajil_storage::{RowWrite, Store, StoreError};

use crate::engine::Engine;
use crate::instance::InstanceMsg;
use crate::send::EngineError;

/// What is said when a node is to settle what others own.
const NOT_ALL: &str = "other nodes own some shards: stop them until this is done, or use --resend";

/// When the store was restored, while that is not released.
async fn restored_at(store: &dyn Store) -> Result<Option<Timestamp>, StoreError> {
    let Some(row) = store.row(&held_row()).await? else {
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

/// Whether an import into the store did not come to its end.
pub(super) async fn is_unfinished(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(store.row(&unfinished_row()).await?.is_some())
}

/// Whether sending is held after a restore or an import.
pub(super) async fn is_restored(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(store.row(&held_row()).await?.is_some())
}

impl Engine {
    /// Wakes every instance of these shards that has unsettled messages, each with the parts of
    /// batches that have work for it. While sending is held nothing is woken.
    ///
    /// # Errors
    /// The last of those that failed; the others are woken all the same.
    pub(super) async fn wake_all(&self, of: impl Fn(Shard) -> bool) -> Result<(), EngineError> {
        if self.is_held() {
            return Ok(());
        }
        let mut parts: FxHashMap<InstanceId, Vec<BatchId>> = FxHashMap::default();
        for work in self.store().work().await? {
            if of(work.instance.shard()) {
                let parts = parts.entry(work.instance).or_default();
                if let Queue::Part(batch) = work.queue {
                    parts.push(batch);
                }
            }
        }
        let count = parts.len();
        let mut woken = Ok(());
        for (id, parts) in parts {
            if let Err(error) = self.wake_one(id, parts).await {
                tracing::warn!(instance = %id, %error, "an instance that has work is not woken yet");
                woken = Err(error);
            }
        }
        if count > 0 && woken.is_ok() {
            tracing::info!(instances = count, "woke the instances that have work");
        }
        woken
    }

    async fn wake_one(&self, id: InstanceId, parts: Vec<BatchId>) -> Result<(), EngineError> {
        let Some(instance) = self.instance(id).await? else {
            self.settle_orphans(id).await?;
            return Ok(());
        };
        let (_, started) = self.0.router.wake(&instance, parts.clone());
        if !started {
            // Somebody woke it before, who did not know of its parts.
            parts
                .into_iter()
                .for_each(|batch| self.0.instances.part_grew_here(instance.id, batch));
        }
        Ok(())
    }

    /// Ends the hold after a restore or an import: what was unsettled settles as `unknown`, or is
    /// sent with `resend`. Answers how many messages were settled.
    ///
    /// # Errors
    /// When the store fails, or messages are to be settled and other nodes own some; the hold stays,
    /// and the call can be repeated.
    pub async fn release(&self, resend: bool) -> Result<u64, EngineError> {
        if !self.is_held() {
            return Ok(0);
        }
        if !resend && !self.owns_every_shard() {
            return Err(EngineError::Unavailable(NOT_ALL));
        }
        let settled = match restored_at(self.store().as_ref()).await? {
            // What came after it cannot have been sent by whoever went on from the original.
            Some(restored) if !resend => {
                self.settle_all(None, restored, |_| Event::Unknown).await?
            }
            _ => 0,
        };
        // A shard that left meanwhile may hold what was settled here and does not count.
        if !resend && !Shard::all().all(|shard| self.speaks_for(shard)) {
            return Err(EngineError::Unavailable(NOT_ALL));
        }
        self.store()
            .write(vec![RowWrite::delete(held_row())])
            .await?;
        self.go_on().await?;
        Ok(settled)
    }

    /// Whether this node owns every shard now.
    fn owns_every_shard(&self) -> bool {
        let ownership = self.ownership();
        let here = |shard| matches!(ownership.place(shard), Place::Here(_));
        ownership.is_alone() || Shard::all().all(here)
    }

    /// Sends again.
    async fn go_on(&self) -> Result<(), EngineError> {
        self.0.context.held.store(false, Ordering::Release);
        for handle in self.0.router.all() {
            handle.tell(InstanceMsg::ReadAgain);
        }
        self.wake_all(|_| true).await
    }

    /// Sends again, if the hold was ended at another node.
    pub(super) async fn look_at_hold(&self) {
        if !self.is_held() {
            return;
        }
        let went_on = match is_restored(self.store().as_ref()).await {
            Ok(true) => return,
            Ok(false) => self.go_on().await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = went_on {
            tracing::warn!(%error, "cannot go on after the release of what was held back");
        }
    }
}
