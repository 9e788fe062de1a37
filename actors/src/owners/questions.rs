//! What nodes ask each other, with the number of each question.
//!
//! Fields may be added with `#[serde(default)]`; a question that changes its meaning gets a new
//! number. Numbers below 100 are about something with an owner, those from 100 about a node.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zajil_cluster::HandOver;
use zajil_cluster::link::{Lane, Method};
use zajil_model::batch::Command;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, KeyId, MessageId};
use zajil_model::instance::Instance;
use zajil_model::lease::NodeId;
use zajil_model::message::Message;
use zajil_model::phone::Phone;
use zajil_model::time::Mono;
use zajil_storage::{
    ChangePage, Cursor, ListPage, ListRequest, MessageRecord, StoreError, Totals, TotalsFilter,
};

use super::{Question, Repeat};
use crate::batch::{BatchError, BatchView, Changed, NewRow, PartState, RowErrors, UploadProgress};
use crate::idempotency::Fate;
use crate::instance::handle::Shown;
use crate::key_bucket::{Quota, Unavailable};
use crate::send::{
    AcceptError, Barrier, CancelError, EngineError, InstanceView, Reserved, Submission, Waiting,
};

/// How long a read waits for the owner before it is answered from what is stored.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// How long a request waits for the window of its key; then it is answered 503.
const TAKE_WITHIN: Duration = Duration::from_secs(3);

/// Bytes of a body that may go through the lane for short questions.
const SHORT: usize = 256 << 10;

/// Accept messages.
#[derive(Debug, Serialize, Deserialize)]
pub struct SendMessages {
    /// The messages.
    pub submission: Submission,
    /// Whether they get a `batch_id`.
    pub bulk: bool,
}

impl Question for SendMessages {
    const METHOD: Method = Method(1);
    const REPEAT: Repeat = Repeat::SameOwner;
    type Answer = Result<Reserved, AcceptError>;

    fn lane(&self) -> Lane {
        lane_of(self.submission.bytes)
    }

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(AcceptError::Moved))
    }
}

/// Give ids to messages that are about to be accepted.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReserveIds {
    /// Whose messages.
    pub instance: InstanceId,
    /// How many.
    pub count: u32,
    /// Whether they get a `batch_id`.
    pub bulk: bool,
}

impl Question for ReserveIds {
    const METHOD: Method = Method(2);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Reserved, AcceptError>;

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(AcceptError::Moved))
    }
}

/// Accept messages under ids that were reserved.
#[derive(Debug, Serialize, Deserialize)]
pub struct AcceptReserved {
    /// The ids.
    pub reserved: Reserved,
    /// The messages.
    pub submission: Submission,
}

impl Question for AcceptReserved {
    const METHOD: Method = Method(3);
    const REPEAT: Repeat = Repeat::SameOwner;
    type Answer = Result<Reserved, AcceptError>;

    fn lane(&self) -> Lane {
        lane_of(self.submission.bytes)
    }

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(AcceptError::Moved))
    }
}

/// Tell whether messages that were promised are accepted, or ever will be.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AskPromise {
    /// The id of the first of them.
    pub first: MessageId,
    /// The epoch that gave it.
    pub epoch: Epoch,
    /// When, by the clock of the owner in that epoch.
    #[serde(default)]
    pub given_at: Mono,
}

impl AskPromise {
    /// What to ask of ids that were reserved.
    pub const fn of(reserved: &Reserved) -> Self {
        Self {
            first: reserved.first,
            epoch: reserved.epoch,
            given_at: reserved.given_at,
        }
    }
}

impl Question for AskPromise {
    const METHOD: Method = Method(12);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Fate, StoreError>;

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(StoreError::NotOpen(_)))
    }
}

/// Withdraw a message that is not being sent yet.
#[derive(Debug, Serialize, Deserialize)]
pub struct CancelMessage {
    /// Whose it has to be.
    pub account: AccountId,
    /// Which.
    pub id: MessageId,
}

impl Question for CancelMessage {
    const METHOD: Method = Method(4);
    const REPEAT: Repeat = Repeat::Never;
    type Answer = Result<MessageRecord, CancelError>;
}

/// Tell what everybody may see of an instance.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShowInstance(pub Arc<Instance>);

impl Question for ShowInstance {
    const METHOD: Method = Method(5);
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = READ_WITHIN;
    type Answer = Shown;
}

/// Tell what an instance is doing now.
#[derive(Debug, Serialize, Deserialize)]
pub struct ObserveInstance(pub Arc<Instance>);

impl Question for ObserveInstance {
    const METHOD: Method = Method(6);
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = READ_WITHIN;
    type Answer = InstanceView;
}

/// Put a changed instance in force.
#[derive(Debug, Serialize, Deserialize)]
pub struct ApplyInstance(pub Arc<Instance>);

impl Question for ApplyInstance {
    const METHOD: Method = Method(7);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Barrier, EngineError>;
}

/// Open the session of an instance again.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConnectInstance(pub Arc<Instance>);

impl Question for ConnectInstance {
    const METHOD: Method = Method(8);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = ();
}

/// Cancel everything of an instance that is not being sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct PurgeInstance(pub Arc<Instance>);

impl Question for PurgeInstance {
    const METHOD: Method = Method(9);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Barrier, EngineError>;
}

/// Stop an instance that was deleted.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemoveInstance(pub Arc<Instance>);

impl Question for RemoveInstance {
    const METHOD: Method = Method(10);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Barrier, EngineError>;
}

/// Tell what an unsettled message waits for.
#[derive(Debug, Serialize, Deserialize)]
pub struct WaitingFor(pub MessageRecord);

impl Question for WaitingFor {
    const METHOD: Method = Method(11);
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = READ_WITHIN;
    type Answer = Option<Waiting>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }
}

/// Take one from the window of a key, or tell what would be answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct AskWindow {
    /// Whose window.
    pub key: KeyId,
    /// What the key allows in an hour now.
    pub limit: u64,
    /// Whether a request is counted.
    pub count: bool,
}

impl Question for AskWindow {
    const METHOD: Method = Method(20);
    /// A request that was counted and not answered is counted again: never too few.
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = TAKE_WITHIN;
    type Answer = Result<Quota, Unavailable>;

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(Unavailable::Moved))
    }
}

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
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeBatch {
    /// Whose it has to be.
    pub account: AccountId,
    /// Which.
    pub id: BatchId,
    /// What is asked of it.
    pub command: Command,
}

impl Question for ChangeBatch {
    const METHOD: Method = Method(31);
    /// To repeat a command is no error.
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

/// Read a message.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadMessage(pub MessageId);

impl Question for ReadMessage {
    const METHOD: Method = Method(40);
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = READ_WITHIN;
    type Answer = Result<Option<MessageRecord>, StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(StoreError::NotOpen(_)))
    }
}

/// Read the recipients of a part.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadRecipients {
    /// The instance that sends the part.
    pub instance: InstanceId,
    /// The batch.
    pub batch: BatchId,
    /// Only what comes after this message.
    pub after: Option<MessageId>,
    /// At most so many.
    pub limit: usize,
}

impl Question for ReadRecipients {
    const METHOD: Method = Method(41);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Vec<(MessageId, Phone)>, StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(StoreError::NotOpen(_)))
    }
}

/// Read a page of messages of instances that the asked node owns.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadList(pub ListRequest);

impl Question for ReadList {
    const METHOD: Method = Method(100);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<ListPage, StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }
}

/// Count messages of instances that the asked node owns.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadTotals(pub TotalsFilter);

impl Question for ReadTotals {
    const METHOD: Method = Method(101);
    const REPEAT: Repeat = Repeat::Freely;
    type Answer = Result<Totals, StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }
}

/// Read status changes of an account, as far as the asked node owns what changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadChanges {
    /// Whose.
    pub account: AccountId,
    /// From here on.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
}

impl Question for ReadChanges {
    const METHOD: Method = Method(102);
    const REPEAT: Repeat = Repeat::Freely;
    /// The changes, and the shards that they are of: those that the node owned all the while.
    type Answer = Result<(ChangePage, Vec<u16>), StoreError>;

    fn lane(&self) -> Lane {
        Lane::Bulk
    }
}

/// A recipient opted out, or in again; the row is durable.
#[derive(Debug, Serialize, Deserialize)]
pub struct OptedOut {
    /// For whom.
    pub account: AccountId,
    /// Who.
    pub phone: Phone,
}

impl Question for OptedOut {
    const METHOD: Method = Method(110);
    const REPEAT: Repeat = Repeat::Freely;
    /// Who has not confirmed that nothing cleared before is outstanding: instances by id.
    type Answer = Vec<String>;
}

/// A shard was given up for the asked node: it should take it now.
#[derive(Debug, Serialize, Deserialize)]
pub struct TakeShard {
    /// The shard.
    pub shard: u16,
    /// What its former owner hands over.
    pub hand_over: Handed,
}

/// [`HandOver`] as it crosses the link.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handed {
    /// Who gave it up.
    pub from: NodeId,
    /// The epoch of the row that it left.
    pub released: Epoch,
    /// What its next owner should know.
    #[serde(default)]
    pub state: Vec<u8>,
}

impl From<HandOver> for Handed {
    fn from(hand_over: HandOver) -> Self {
        Self {
            from: hand_over.from,
            released: hand_over.released,
            state: hand_over.state.to_vec(),
        }
    }
}

impl From<Handed> for HandOver {
    fn from(handed: Handed) -> Self {
        Self {
            from: handed.from,
            released: handed.released,
            state: handed.state.into(),
        }
    }
}

impl Question for TakeShard {
    const METHOD: Method = Method(111);
    const REPEAT: Repeat = Repeat::Freely;
    /// The epoch under which it was opened; none when it was not.
    type Answer = Option<Epoch>;
}

const fn lane_of(bytes: usize) -> Lane {
    if bytes > SHORT {
        Lane::Bulk
    } else {
        Lane::Control
    }
}
