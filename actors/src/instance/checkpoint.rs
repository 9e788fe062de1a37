//! What an instance keeps across its actors: its pace, and why its session ended. Where its
//! queues begin the store knows by itself.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zajil_model::id::InstanceId;
use zajil_model::instance::CloseReason;
use zajil_model::pace::PaceSaved;
use zajil_storage::{RowKey, RowWrite, StoreError, Table};

use crate::context::Context;
use crate::instance::InstanceState;

/// How often a busy instance is saved. Only the adaptive part of its pace is lost by a crash in
/// between, and that is found again by the channel's answers.
pub(super) const SAVE_EVERY: Duration = Duration::from_secs(5);

/// What is saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Its pace.
    #[serde(default)]
    pub(super) pace: PaceSaved,
    /// Why its session is closed, when a person has to act.
    #[serde(default)]
    pub(super) closed: Option<CloseReason>,
}

fn key(instance: InstanceId) -> RowKey {
    RowKey::new(Table::Checkpoints, instance.get().to_be_bytes(), Vec::new())
}

/// Reads what was saved; the default for an instance that never was.
pub(super) async fn read(
    context: &Arc<Context>,
    instance: InstanceId,
) -> Result<Saved, StoreError> {
    let Some(row) = context.store.row(&key(instance)).await? else {
        return Ok(Saved::default());
    };
    rmp_serde::from_slice(&row.value).map_err(|error| StoreError::Corrupt {
        what: "checkpoint",
        detail: error.to_string(),
    })
}

impl InstanceState {
    /// The row that saves this instance now.
    pub(super) fn checkpoint(&self) -> Option<RowWrite> {
        let saved = Saved {
            pace: self.outbox.saved(),
            closed: self.session.kept_closed(),
        };
        let value = rmp_serde::to_vec_named(&saved).ok()?;
        Some(RowWrite::put(key(self.me.id()), value))
    }
}
