//! Questions to the projections, and their answers.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use zajil_model::id::{AccountId, BatchId, InstanceId, MessageId};
use zajil_model::lifecycle::{MessageState, Status};
use zajil_model::message::{Chunk, Message};
use zajil_model::phone::Phone;
use zajil_model::time::{Day, Timestamp};

use crate::StatusCounts;

/// A message with its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MessageRecord {
    /// The chunk that holds it.
    pub chunk: Arc<Chunk>,
    /// Its place in the chunk.
    pub index: u32,
    /// What is known of it; a mass cancel is already seen in it.
    pub state: MessageState,
}

impl MessageRecord {
    /// Its id.
    pub fn id(&self) -> MessageId {
        self.chunk.first.plus(u64::from(self.index))
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.chunk.messages[self.index as usize]
    }
}

/// Which messages of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFilter {
    /// Of these instances (an account's list names them all when the client names none).
    pub instances: Vec<InstanceId>,
    /// With this status now.
    pub status: Option<Status>,
    /// Of this campaign or bulk request.
    pub batch: Option<BatchId>,
    /// Created at this time or later.
    pub from: Option<Timestamp>,
    /// Created before this time.
    pub to: Option<Timestamp>,
    /// To this recipient.
    pub recipient: Option<Phone>,
    /// With this `client_ref`.
    pub client_ref: Option<String>,
}

/// A page that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRequest {
    /// Which messages.
    pub filter: ListFilter,
    /// Only ids below this one (a cursor); `None` begins with the newest.
    pub before: Option<MessageId>,
    /// How many matches to pass over first (page numbers).
    pub skip: u64,
    /// How many to answer.
    pub limit: usize,
}

/// A page, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ListPage {
    /// The messages.
    pub messages: Vec<MessageRecord>,
    /// Where to go on with `before`; `None` at the end.
    pub next: Option<MessageId>,
}

/// Which messages are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalsFilter {
    /// Of these instances.
    pub instances: Vec<InstanceId>,
    /// Of this campaign (a bulk's reference has no totals: it is counted by listing it).
    pub batch: Option<BatchId>,
    /// Created on this UTC day or later.
    pub from: Option<Day>,
    /// Created before this UTC day.
    pub to: Option<Day>,
}

/// Exact counts by status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The sum of all that matches.
    pub all: StatusCounts,
    /// The same by instance, for those that have any.
    pub by_instance: Vec<(InstanceId, StatusCounts)>,
}

impl Totals {
    /// How many messages have this status.
    pub const fn of(&self, status: Status) -> u64 {
        self.all[status as usize]
    }

    /// How many messages there are.
    pub fn sum(&self) -> u64 {
        self.all.iter().sum()
    }
}

/// A place in the change feed of an account; later ones are larger.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Cursor {
    /// The record of the log.
    pub record: u64,
    /// How many changes of that record come before it.
    pub within: u32,
}

/// A change of what a client is told of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusChange {
    /// The message.
    pub id: MessageId,
    /// Its new status.
    pub status: Status,
    /// When it became known.
    pub at: Timestamp,
}

/// Some changes, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangePage {
    /// The changes, each with its place.
    pub changes: Vec<(Cursor, StatusChange)>,
    /// Where to go on; `None` when the account never had a change.
    pub next: Option<Cursor>,
    /// No change that is not known yet will come before this place. What several nodes answer can
    /// be put in order as far as all of them know it.
    pub upto: Cursor,
}

/// The account of a message, as its chunk says.
pub fn account_of(record: &MessageRecord) -> AccountId {
    record.chunk.account
}
