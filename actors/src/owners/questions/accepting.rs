//! Accepting messages, and what becomes of those that were accepted or promised.

use serde::{Deserialize, Serialize};
use zajil_cluster::link::{Lane, Method};
use zajil_model::id::{AccountId, Epoch, InstanceId, MessageId};
use zajil_model::time::Mono;
use zajil_storage::{MessageRecord, StoreError};

use crate::idempotency::Fate;
use crate::owners::{Question, Repeat};
use crate::send::{AcceptError, CancelError, Reserved, Submission};

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

const fn lane_of(bytes: usize) -> Lane {
    if bytes > SHORT {
        Lane::Bulk
    } else {
        Lane::Control
    }
}
