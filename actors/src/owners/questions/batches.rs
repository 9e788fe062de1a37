//! Batches and their parts.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zajil_cluster::link::{Lane, Method};
use zajil_model::batch::Command;
use zajil_model::id::{AccountId, BatchId, InstanceId};
use zajil_model::message::Message;
use zajil_storage::StoreError;

use crate::batch::{BatchError, BatchView, Changed, NewRow, PartState, RowErrors, UploadProgress};
use crate::owners::{Question, Repeat};

/// Tell how a batch is.
#[derive(Debug, Serialize, Deserialize)]
pub struct ViewBatch {
    /// Whose it has to be.
    pub account: AccountId,
    /// Which.
    pub id: BatchId,
}

impl Question for ViewBatch {
    const METHOD: Method = Method(30);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<BatchView, BatchError>;

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(BatchError::Moved))
    }
}

/// Change the state of a batch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ChangeBatch {
    /// Whose it has to be.
    pub account: AccountId,
    /// Which.
    pub id: BatchId,
    /// What is asked of it.
    pub command: Command,
    /// How many commands it had heard when that was asked for.
    pub after: u64,
}

impl Question for ChangeBatch {
    const METHOD: Method = Method(31);
    /// A copy that comes after another change does nothing.
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = Duration::from_secs(25);
    type Answer = Result<Changed, BatchError>;

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(BatchError::Moved))
    }
}

/// Add rows to a batch.
#[derive(Debug, Serialize, Deserialize)]
pub struct AddRows {
    /// Whose it has to be.
    pub account: AccountId,
    /// Which.
    pub id: BatchId,
    /// The number of the first row.
    pub from: u64,
    /// The rows, or what is wrong with them; none asks how far the upload is.
    pub rows: Vec<Result<NewRow, RowErrors>>,
}

impl Question for AddRows {
    const METHOD: Method = Method(32);
    /// Rows that are there are passed over.
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<UploadProgress, BatchError>;

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(BatchError::Moved))
    }

    fn lane(&self) -> Lane {
        Lane::Bulk
    }
}

/// A part of a batch has new rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct PartGrew {
    /// The instance that sends them.
    pub instance: InstanceId,
    /// The batch.
    pub batch: BatchId,
}

impl Question for PartGrew {
    const METHOD: Method = Method(33);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = ();
}

/// Put the state of a part in force.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetPart {
    /// Whose batch.
    pub account: AccountId,
    /// The instance.
    pub instance: InstanceId,
    /// The batch.
    pub batch: BatchId,
    /// Whether its rows may go.
    pub state: PartState,
}

impl Question for SetPart {
    const METHOD: Method = Method(34);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = bool;
}

/// Append rows of a batch to the part of an instance.
#[derive(Debug, Serialize, Deserialize)]
pub struct AppendPart {
    /// Whose batch.
    pub account: AccountId,
    /// The batch.
    pub batch: BatchId,
    /// The instance that sends them.
    pub instance: InstanceId,
    /// The block ends before this row; what the part has of it already is passed over.
    pub upto: u64,
    /// Rows before this one are counted.
    pub from: u64,
    /// The messages, each with the number of its row, in order.
    pub rows: Vec<(u64, Message)>,
}

impl Question for AppendPart {
    const METHOD: Method = Method(35);
    /// The part knows up to which row it has been filled.
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<(), StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(
            answer,
            Err(StoreError::NotOpen(_) | StoreError::Fenced { .. })
        )
    }
}
