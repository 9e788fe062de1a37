//! What batches need of the instances that send their rows.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zajil_model::id::{AccountId, BatchId, InstanceId};
use zajil_model::time::Timestamp;

/// Whether the rows of a part may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartPhase {
    /// The batch has not started: nothing goes, and no time to live runs.
    Held,
    /// Rows go.
    Running,
    /// Nothing goes, and no time to live runs.
    Paused,
    /// Nothing goes any more; what is unsettled is cancelled.
    Cancelled,
}

/// What an instance has to know of a batch to send its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartState {
    /// Whether rows may go.
    pub phase: PartPhase,
    /// When the batch was started: the time to live of a row counts from then.
    pub started_at: Option<Timestamp>,
    /// How long it was paused since, up to the last change of phase.
    pub paused_total: Duration,
    /// Which change of the batch that is: of two that are told the higher is the newer.
    #[serde(default)]
    pub revision: u64,
}

impl PartState {
    /// When a row of that time to live expires; `None` while no time runs.
    pub fn expires_at(&self, ttl_seconds: u32) -> Option<Timestamp> {
        let started = self
            .started_at
            .filter(|_| self.phase == PartPhase::Running)?;
        Some(started + self.paused_total + Duration::from_secs(u64::from(ttl_seconds)))
    }
}

/// The instances, as batches see them.
#[async_trait]
pub trait InstancePort: Send + Sync + fmt::Debug {
    /// Tells an instance that one of its parts has new rows; called after they are durable. Does
    /// not wait, and is cheap when the instance is awake and knows.
    fn part_grew(&self, instance: InstanceId, batch: BatchId);

    /// Puts the state of a part in force and answers whether that is confirmed: from then on nothing
    /// is handed over against it, or against a newer one that was told before. Repeating it changes nothing. On [`PartPhase::Cancelled`] the owner of
    /// the part makes it durable (`Entry::CancelAll` of the part, up to the last id it has) before it
    /// confirms. An instance that is not awake and has nothing of the part confirms at once.
    async fn part_state(
        &self,
        account: AccountId,
        instance: InstanceId,
        batch: BatchId,
        state: PartState,
    ) -> bool;
}
