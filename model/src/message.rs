//! What is sent: payloads, messages, and the chunks that they are kept in.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, BatchId, InstanceId, MessageId, RequestId};
use crate::phone::Phone;
use crate::time::Timestamp;

pub mod limits;

/// How urgent a message is among those of its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// One-time codes and the like: overtakes the others.
    High,
    /// What an application sends by itself.
    Normal,
    /// Rows of batches.
    Bulk,
}

impl Lane {
    /// The lanes, most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Bulk];

    /// The word that clients and metrics use.
    pub const fn label(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }
}

/// One ordered stretch of the acceptance log of an instance: a lane of single messages, or the
/// part of a batch (the bulk lane pulls from its parts in turn).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queue {
    /// The high lane.
    High,
    /// The normal lane.
    Normal,
    /// The rows that a batch has for this instance.
    Part(BatchId),
}

impl Queue {
    /// The lane that a queue belongs to.
    pub const fn lane(self) -> Lane {
        match self {
            Self::High => Lane::High,
            Self::Normal => Lane::Normal,
            Self::Part(_) => Lane::Bulk,
        }
    }
}

/// What to do with an attempt whose outcome cannot be known, on a transport that has no
/// idempotency by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAmbiguous {
    /// Settle as `unknown`; never repeat it.
    #[default]
    Unknown,
    /// Send it again: at least once.
    Resend,
}

impl OnAmbiguous {
    /// Whether it is the default, which is not stored.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a recipient gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// A text of 1 to 4,096 Unicode scalars.
    Text(Box<str>),
    /// A question with options.
    Poll(Box<Poll>),
    /// A menu of rows in sections.
    List(Box<List>),
    /// An emoji on an earlier message, or its removal.
    Reaction(Box<Reaction>),
}

impl Payload {
    /// The word that clients and metrics use.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Poll(_) => "poll",
            Self::List(_) => "list",
            Self::Reaction(_) => "reaction",
        }
    }

    /// What a list of messages shows of it: the text, the question, the title or the emoji.
    pub fn headline(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Poll(poll) => &poll.question,
            Self::List(list) => &list.title,
            Self::Reaction(reaction) => &reaction.emoji,
        }
    }
}

/// A question with options.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Poll {
    /// 1 to 255 scalars.
    pub question: String,
    /// 2 to 12 distinct texts of 1 to 100 scalars.
    pub options: Vec<String>,
    /// How many may be chosen; 0 is any number.
    pub selectable_count: u8,
}

/// A menu of rows in sections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct List {
    /// 1 to 255 scalars.
    pub title: String,
    /// 1 to 1,024 scalars.
    pub description: String,
    /// 1 to 20 scalars.
    pub button_text: String,
    /// At most 60 scalars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer_text: Option<String>,
    /// At least one.
    pub sections: Vec<Section>,
}

/// A titled group of rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Section {
    /// Shown above its rows.
    pub title: String,
    /// At least one.
    pub rows: Vec<ListRow>,
}

/// A row that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListRow {
    /// What is shown.
    pub title: String,
    /// Shown below the title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Comes back with the choice; unique in the list.
    #[serde(rename = "rowId")]
    pub row_id: String,
}

/// An emoji on an earlier message, or its removal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reaction {
    /// The message that is reacted to.
    pub key: MessageKey,
    /// One grapheme of at most 10 scalars; empty removes the reaction.
    pub emoji: String,
}

/// How WhatsApp names a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageKey {
    /// The chat: `DIGITS@s.whatsapp.net`.
    #[serde(rename = "remoteJid")]
    pub remote_jid: String,
    /// Whether our side sent it.
    #[serde(rename = "fromMe")]
    pub from_me: bool,
    /// WhatsApp's id of it.
    pub id: String,
}

/// How long a message may wait after it is due, when its sender does not say: a day.
pub const DEFAULT_TTL_SECONDS: u32 = 86_400;

/// A message as its sender gave it and the acceptance log keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who gets it.
    #[serde(rename = "to")]
    pub recipient: Phone,
    /// What they get.
    #[serde(rename = "p")]
    pub payload: Payload,
    /// Not before this time; `None` is at once.
    #[serde(rename = "at", default, skip_serializing_if = "Option::is_none")]
    pub send_at: Option<Timestamp>,
    /// Seconds from due until it expires. For a row of a batch they count from the start of the
    /// batch, time paused left out.
    #[serde(
        rename = "ttl",
        default = "default_ttl",
        skip_serializing_if = "is_default_ttl"
    )]
    pub ttl_seconds: u32,
    /// The sender's own name for it, echoed everywhere.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub client_ref: Option<Box<str>>,
    /// What to do when an attempt's outcome cannot be known.
    #[serde(
        rename = "amb",
        default,
        skip_serializing_if = "OnAmbiguous::is_default"
    )]
    pub on_ambiguous: OnAmbiguous,
}

impl Message {
    /// About how many bytes it takes, in memory or encoded.
    pub fn weight(&self) -> usize {
        /// The fields beside the payload, and the bookkeeping of any message.
        const OVERHEAD: usize = 128;
        /// An option of a poll or a row of a list at most, with what belongs to it.
        const PART: usize = 1_536;
        let payload = match &self.payload {
            Payload::Text(text) => text.len(),
            Payload::Poll(poll) => poll.question.len() + poll.options.len() * PART / 4,
            Payload::List(list) => {
                let rows: usize = list.sections.iter().map(|section| section.rows.len()).sum();
                list.title.len() + list.description.len() + rows * PART
            }
            Payload::Reaction(_) => PART,
        };
        OVERHEAD + payload
    }

    /// When it may first go, if it was accepted at `created_at`.
    pub fn due(&self, created_at: Timestamp) -> Timestamp {
        self.send_at.unwrap_or(created_at).max(created_at)
    }

    /// When it is not sent any more, if it was accepted at `created_at` and waits in no batch: there
    /// the time begins with the batch.
    pub fn expires_at(&self, created_at: Timestamp) -> Timestamp {
        self.due(created_at) + Duration::from_secs(u64::from(self.ttl_seconds))
    }
}

const fn default_ttl() -> u32 {
    DEFAULT_TTL_SECONDS
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_default_ttl(ttl: &u32) -> bool {
    *ttl == DEFAULT_TTL_SECONDS
}

/// Messages of one instance and queue that were accepted together: the record of the acceptance
/// log. The `i`-th message has the id `first.plus(i)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Whose they are.
    pub account: AccountId,
    /// The number that sends them.
    pub instance: InstanceId,
    /// Where they wait.
    pub queue: Queue,
    /// The id of the first message.
    pub first: MessageId,
    /// When they were accepted, by the wall clock.
    pub created_at: Timestamp,
    /// The `batch_id` that a bulk request was answered with: a reference, no row of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<BatchId>,
    /// The request that brought them.
    pub request: RequestId,
    /// 1 or more messages.
    pub messages: Vec<Message>,
}

impl Chunk {
    /// The id of the message at an index.
    pub const fn id(&self, index: usize) -> MessageId {
        self.first.plus(index as u64)
    }

    /// How many messages it holds.
    pub fn len(&self) -> u32 {
        u32::try_from(self.messages.len()).unwrap_or(u32::MAX)
    }

    /// Whether it holds none (no stored chunk does).
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The id of the last message.
    pub fn last(&self) -> MessageId {
        self.first.plus(u64::from(self.len().saturating_sub(1)))
    }

    /// When the first of its messages expires, as [`Message::expires_at`] says.
    pub fn earliest_expiry(&self) -> Option<Timestamp> {
        let all = self.messages.iter();
        all.map(|message| message.expires_at(self.created_at)).min()
    }

    /// The index of a message of this chunk; `None` for an id that is not in it.
    pub fn index_of(&self, id: MessageId) -> Option<usize> {
        if id.giver() != self.first.giver() || id < self.first {
            return None;
        }
        let index = usize::try_from(id.tick().0 - self.first.tick().0).ok()?;
        (index < self.messages.len()).then_some(index)
    }

    /// The batch that a client may filter by: the campaign, or the bulk request.
    pub const fn batch(&self) -> Option<BatchId> {
        match self.queue {
            Queue::Part(batch) => Some(batch),
            Queue::High | Queue::Normal => self.bulk,
        }
    }
}

/// A message in its chunk, shared and not copied.
#[derive(Clone, Debug)]
pub struct MessageRef {
    chunk: Arc<Chunk>,
    index: u32,
}

impl MessageRef {
    /// The message at an index of a chunk; `None` past its end.
    pub fn new(chunk: Arc<Chunk>, index: u32) -> Option<Self> {
        (index < chunk.len()).then_some(Self { chunk, index })
    }

    /// Its id.
    pub fn id(&self) -> MessageId {
        self.chunk.first.plus(u64::from(self.index))
    }

    /// The message itself.
    pub fn message(&self) -> &Message {
        &self.chunk.messages[self.index as usize]
    }

    /// The chunk that holds it.
    pub fn chunk(&self) -> &Arc<Chunk> {
        &self.chunk
    }

    /// Its place in the chunk.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Whether it waits in the schedule from the beginning.
    pub fn starts_scheduled(&self) -> bool {
        limits::is_scheduled(self.message().send_at, self.chunk.created_at)
    }

    /// About how many bytes of memory it holds.
    pub fn weight(&self) -> u32 {
        u32::try_from(self.message().weight()).unwrap_or(u32::MAX)
    }

    /// When it may first go.
    pub fn due(&self) -> Timestamp {
        self.message().due(self.chunk.created_at)
    }
}
