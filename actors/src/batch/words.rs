//! The words of batches: what callers hand over, and what they are answered.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use tokio_util::task::TaskTracker;
use zajil_cluster::Place;
use zajil_model::batch::{NotDone, WrongState};
use zajil_model::id::{Epoch, InstanceId, Shard};
use zajil_model::instance::Instance;
use zajil_model::message::OnAmbiguous;
use zajil_model::time::{Clock, Timestamp};
use zajil_storage::{StatusCounts, Store, StoreError};

use super::port::InstancePort;
use super::record::{BatchRecord, BatchText, Duplicates, Progress};
use crate::directory::Directory;
use crate::ids::{Ids, ShardClocks};
use crate::owners::{OwnerError, Owners};
use crate::send::{Barrier, Words, elsewhere};

/// Why a batch did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum BatchError {
    /// There is no such batch in this account.
    #[error("there is no such batch")]
    NotFound,
    /// A field has a value that cannot be.
    #[error("{field}: {message}")]
    Field {
        /// Which field, by the name that clients use.
        #[serde(deserialize_with = "elsewhere")]
        field: Words,
        /// What is wrong with it, as a sentence for people.
        message: String,
    },
    /// The upload does not go on where the last one ended, or another one is running.
    #[error("the next row is {expected}")]
    RowGap {
        /// The row to go on with.
        expected: u64,
    },
    /// The batch is not in a state in which that can be done.
    #[error(transparent)]
    WrongState(#[from] WrongState),
    /// The batch changed since that was asked for.
    #[error("the batch was changed meanwhile")]
    Outdated,
    /// The batch takes no more rows: it is sealed, finished or cancelled.
    #[error("the batch takes no more rows")]
    TakesNoRows,
    /// Another node owns it, or is about to.
    #[error("the batch is moving to another node")]
    Moved,
    /// Too much is asked of this batch at once, or the node is stopping.
    #[error("{0}")]
    Unavailable(#[serde(deserialize_with = "elsewhere")] Words),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NotDone> for BatchError {
    fn from(error: NotDone) -> Self {
        match error {
            NotDone::WrongState(wrong) => wrong.into(),
            NotDone::Outdated => Self::Outdated,
        }
    }
}

impl From<OwnerError> for BatchError {
    fn from(error: OwnerError) -> Self {
        match error {
            OwnerError::Unreachable => {
                Self::Unavailable("the node that owns the batch cannot be reached")
            }
            // To repeat it does no harm.
            OwnerError::Unknown => Self::Store(StoreError::Closed),
        }
    }
}

/// A batch that is to be made.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// What people call it: 1 to 255 characters.
    pub name: String,
    /// Which numbers send it: 1 to 100, each once.
    pub instances: Vec<Arc<Instance>>,
    /// What rows say that bring no content of their own.
    pub text: BatchText,
    /// Seconds that a row may take from the start: 60 to 604,800; `None` is 7 days.
    pub ttl_seconds: Option<u32>,
    /// When it starts by itself: at most 30 days ahead.
    pub start_at: Option<Timestamp>,
    /// When it should be done; only warned about.
    pub deadline: Option<Timestamp>,
    /// What is done with a recipient that comes twice.
    pub duplicates: Duplicates,
    /// What becomes of its messages whose outcome cannot be known.
    pub on_ambiguous: OnAmbiguous,
}

/// How a batch is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchView {
    /// What is stored of it.
    pub record: Arc<BatchRecord>,
    /// How far its upload is.
    pub progress: Progress,
    /// Its messages by status.
    pub counts: StatusCounts,
    /// The same by instance, for those that have any.
    pub by_instance: Vec<(InstanceId, StatusCounts)>,
    /// Messages a second that were settled lately.
    pub rate: f64,
    /// When it is done at the pace of its instances; `None` when it does not run or could not
    /// start, or when an instance stands still.
    pub eta: Option<Timestamp>,
}

/// The answer to a change of state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// How the batch is now.
    pub view: BatchView,
    /// Whether every instance confirmed.
    pub barrier: Barrier,
}

/// What batches are given.
#[derive(Clone, Debug)]
pub struct BatchPorts {
    /// Where state is kept.
    pub store: Arc<dyn Store>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives the ids of messages.
    pub clocks: Arc<ShardClocks>,
    /// Gives the ids of batches.
    pub ids: Ids,
    /// Knows instances and opt-outs.
    pub directory: Directory,
    /// The instances that send the rows.
    pub instances: Arc<dyn InstancePort>,
    /// Finds the owners of batches and parts.
    pub owners: Owners,
    /// Holds what runs in the background.
    pub tracker: TaskTracker,
}

impl BatchPorts {
    /// The epoch under which this node serves a shard.
    pub(super) fn serves(&self, shard: Shard) -> Result<Epoch, BatchError> {
        match self.owners.ownership().place(shard) {
            Place::Here(epoch) => Ok(epoch),
            Place::There(..) | Place::Moving | Place::Nobody => Err(BatchError::Moved),
        }
    }

    /// Whether what was done for a shard under an epoch may be answered now: while the lease is good
    /// nobody else can have taken the shard before.
    pub(super) fn speaks_for(&self, shard: Shard, epoch: Epoch) -> bool {
        let ownership = self.owners.ownership();
        ownership.may_answer_for(shard, epoch, self.clock.mono())
    }
}
