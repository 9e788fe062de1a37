//! The words of sending: what the edge hands over, and what it is answered.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use tokio::time::Duration;
use zajil_model::id::{BatchId, Epoch, InstanceId, MessageId, RequestId};
use zajil_model::instance::{CloseReason, Instance, Session};
use zajil_model::lifecycle::Status;
use zajil_model::message::{Lane, Message};
use zajil_model::phone::Phone;
use zajil_model::time::{Mono, Timestamp};
use zajil_storage::StoreError;

use crate::owners::OwnerError;

/// Messages of one request for one instance, checked and ready to be accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submission {
    /// The number that sends them.
    pub instance: Arc<Instance>,
    /// `high` or `normal`; rows of batches come another way.
    pub lane: Lane,
    /// One or more messages.
    pub messages: Vec<Message>,
    /// The request, so that it can be repeated after a lost answer.
    pub request: RequestId,
    /// Bytes of the request's body, for admission.
    pub bytes: usize,
}

/// Ids that were given to a submission before it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// The id of the first message.
    pub first: MessageId,
    /// How many.
    pub count: u32,
    /// The `batch_id` of a bulk: the id directly before the first message.
    pub batch: Option<BatchId>,
    /// When it was accepted, by the wall clock.
    pub created_at: Timestamp,
    /// The epoch that gave the ids. What is not accepted in it never is: the next owner seals it.
    pub epoch: Epoch,
    /// When, by the clock of the owner in that epoch.
    #[serde(default)]
    pub given_at: Mono,
}

impl Reserved {
    /// The ids of the messages, in order.
    pub fn ids(&self) -> impl Iterator<Item = MessageId> + use<> {
        let first = self.first;
        (0..u64::from(self.count)).map(move |n| first.plus(n))
    }
}

/// Why messages were not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum AcceptError {
    /// The instance is logged out or banned, and does not queue meanwhile.
    #[error("the instance is {}", .0.label())]
    InstanceUnavailable(CloseReason),
    /// The account has too much in flight.
    #[error("too many requests of this account are being accepted")]
    AccountOverloaded,
    /// The node has too much in flight, is draining, or cannot reach the owner.
    #[error("{0}")]
    Unavailable(#[serde(deserialize_with = "elsewhere")] Words),
    /// The shard of the instance left this node before anything was accepted.
    #[error("the instance is moving to another node")]
    Moved,
    /// The ids were given by an earlier owner of the shard, or too long ago. Nothing was accepted
    /// under them, and never will be: others are to be asked for.
    #[error("the ids may not be used any more")]
    Sealed,
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// It may have been accepted: the store failed between the two.
    #[error("it is not known whether the messages were accepted")]
    OutcomeUnknown,
}

impl AcceptError {
    /// Whether it is certain that nothing was accepted.
    pub fn is_certain(&self) -> bool {
        *self != Self::OutcomeUnknown
    }
}

/// Words that are part of the program; a name of its own keeps serde from borrowing them.
pub(crate) type Words = &'static str;

/// The words of an error that another node told of: that node has the details in its log.
pub(crate) fn elsewhere<'de, D: serde::Deserializer<'de>>(
    words: D,
) -> Result<&'static str, D::Error> {
    String::deserialize(words).map(|_| "the node that owns it cannot do that now")
}

impl From<StoreError> for AcceptError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            StoreError::Overloaded => Self::Unavailable("too much waits to be written"),
            StoreError::Fenced { .. } | StoreError::NotOpen(_) => Self::Moved,
            StoreError::Closed
            | StoreError::Io { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Invalid(_) => Self::OutcomeUnknown,
        }
    }
}

/// Whether everybody who could send confirmed that something is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// Who has not confirmed (instances by name); empty when all have.
    pub missing: Vec<String>,
}

impl Barrier {
    /// Everybody confirmed.
    pub const fn confirmed() -> Self {
        Self {
            missing: Vec::new(),
        }
    }

    /// Whether everybody confirmed.
    pub const fn is_confirmed(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Why a request about an instance could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum EngineError {
    /// The node is draining, or the owner did not answer in time.
    #[error("{0}")]
    Unavailable(#[serde(deserialize_with = "elsewhere")] Words),
    /// The node that owns it did not say whether it did it.
    #[error("it is not known whether it was done")]
    OutcomeUnknown,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// What is said while nobody can be asked.
const NOBODY: &str = "the node that owns it cannot be reached";

impl From<OwnerError> for AcceptError {
    fn from(error: OwnerError) -> Self {
        match error {
            OwnerError::Unreachable => Self::Unavailable(NOBODY),
            OwnerError::Unknown => Self::OutcomeUnknown,
        }
    }
}

impl From<OwnerError> for EngineError {
    fn from(error: OwnerError) -> Self {
        match error {
            OwnerError::Unreachable => Self::Unavailable(NOBODY),
            OwnerError::Unknown => Self::OutcomeUnknown,
        }
    }
}

/// Why a message was not cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CancelError {
    /// No such message of this account.
    #[error("no such message")]
    NotFound,
    /// It is being sent, or settled already.
    #[error("the message is {}", .0.label())]
    TooLate(Status),
    /// The node is draining, or the store failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What an instance is doing now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its session.
    pub session: Session,
    /// Since when.
    pub since: Timestamp,
    /// Until when WhatsApp restricts it.
    pub restricted_until: Option<Timestamp>,
    /// Its number, once known.
    pub phone: Option<Phone>,
    /// Messages that are not settled, by lane: high, normal, bulk.
    pub depth: [u64; 3],
    /// Messages handed over and unanswered.
    pub in_flight: u32,
    /// Messages a second that it may send now (lowered by throttling).
    pub rate: f64,
}

/// Why an unsettled message has not been sent yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitReason {
    /// Its instance's pace.
    Pace,
    /// An earlier message to the same recipient.
    Order,
    /// Its instance has no session.
    Offline,
    /// Its instance's daily cap.
    Cap,
    /// Its time has not come.
    Schedule,
    /// Its instance or batch is paused, or held after a restore.
    Paused,
}

impl WaitReason {
    /// The word that clients see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pace => "pace",
            Self::Order => "order",
            Self::Offline => "offline",
            Self::Cap => "cap",
            Self::Schedule => "schedule",
            Self::Paused => "paused",
        }
    }
}

/// What an unsettled message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Why.
    pub reason: WaitReason,
    /// The earliest next attempt, when it is known.
    pub next_attempt_at: Option<Timestamp>,
}

/// One line of the per-instance figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstanceFigures {
    /// The instance.
    pub instance: InstanceId,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub view: InstanceView,
    /// Messages that WhatsApp acknowledged since the actor began.
    pub sent: u64,
    /// Messages that failed, expired, or ended unknown since the actor began.
    pub failed: u64,
}

/// What a drain did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Instances that were stopped in good order.
    pub stopped: usize,
    /// Instances that had not stopped at the deadline.
    pub cut: usize,
}

/// How long the edge waits for an accept to be durable before it answers that it does not know.
/// The store's worst commit is far below; a stuck disk must not hold connections for ever.
pub const ACCEPT_DEADLINE: Duration = Duration::from_secs(10);
