//! The life of one message: what is known of it, and how evidence merges.
//!
//! `scheduled → pending → processing → sent → delivered → read`, or `failed`, `expired`,
//! `cancelled`, `suppressed`, `unknown`. Everything from `sent` on is *settled*. Evidence comes
//! late, repeated and in any order; the channel's always merges to the same state, by rank:
//! read > delivered > failed by the channel > sent > unknown > failed by the engine, cancelled,
//! suppressed, expired.

use serde::{Deserialize, Serialize};

use crate::id::MessageId;
use crate::refusal::{Failure, Reason};
use crate::time::Timestamp;

/// What a client is told about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Status {
    /// Waits for its time (`send_at`, or a retry that is far off).
    Scheduled = 0,
    /// Waits for its turn.
    Pending = 1,
    /// An attempt is recorded and unanswered.
    Processing = 2,
    /// WhatsApp's server acknowledged it.
    Sent = 3,
    /// It reached the recipient's phone.
    Delivered = 4,
    /// The recipient opened it.
    Read = 5,
    /// It will not be sent; the error says why.
    Failed = 6,
    /// Its time to live ran out before it was sent.
    Expired = 7,
    /// The sender withdrew it before it was sent.
    Cancelled = 8,
    /// The recipient opted out.
    Suppressed = 9,
    /// An attempt's outcome cannot be known, and it is not repeated.
    Unknown = 10,
}

impl Status {
    /// How many there are.
    pub const COUNT: usize = 11;

    /// Each of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Scheduled,
        Self::Pending,
        Self::Processing,
        Self::Sent,
        Self::Delivered,
        Self::Read,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Suppressed,
        Self::Unknown,
    ];

    /// The word that clients see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Suppressed => "suppressed",
            Self::Unknown => "unknown",
        }
    }

    /// The status of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.label() == word)
    }

    /// The status of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether the engine is done with it: everything from `sent` on.
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Scheduled | Self::Pending | Self::Processing)
    }
}

/// Something that became known of a message; the record of the outcome log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which message.
    pub id: MessageId,
    /// When it became known, by the wall clock.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

/// What became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Attempt `n` (from 1) is recorded; its frame may leave.
    Attempt(u8),
    /// The attempt was refused and the message waits for another, not before `retry_at`.
    Refused {
        /// Why.
        failure: Failure,
        /// The earliest time of the next attempt.
        retry_at: Timestamp,
    },
    /// It waits in the schedule until this time, off its queue.
    Scheduled(Timestamp),
    /// It is ready: its time in the schedule came, or its attempt was recorded and is known never
    /// to have been handed over.
    Due,
    /// WhatsApp's server acknowledged it.
    Acked,
    /// A receipt: it reached the phone.
    Delivered,
    /// A receipt: it was opened.
    Read,
    /// The channel refused it for good.
    Rejected(Failure),
    /// The engine gave up.
    Failed(Failure),
    /// Its time to live ran out.
    Expired,
    /// The sender withdrew it.
    Cancelled,
    /// The recipient had opted out when its turn came.
    Suppressed,
    /// An attempt's outcome cannot be known.
    Unknown,
}

impl Event {
    /// This, said of a message of which an attempt may have succeeded: an end that says that it did
    /// not go is not known to be true.
    #[must_use]
    pub const fn in_doubt(self) -> Self {
        match self {
            Self::Failed(_) | Self::Expired | Self::Cancelled | Self::Suppressed => Self::Unknown,
            other => other,
        }
    }
}

/// What is known of one message. The default is a message that nothing happened to: `pending`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageState {
    /// What a client is told.
    pub status: Status,
    /// Attempts recorded.
    pub attempts: u8,
    /// How many of them say nothing against the message: refused for the sake of their instance, or
    /// recorded and never handed over.
    #[serde(default)]
    pub forgiven: u8,
    /// Whether an attempt was followed by another before it had an answer: it may have succeeded,
    /// whatever became of the later ones.
    #[serde(default)]
    pub doubtful: bool,
    /// Whether a `failed` is the channel's, which outranks `sent`.
    pub by_channel: bool,
    /// Why the last attempt was refused, or why it failed.
    pub failure: Option<Failure>,
    /// When the first attempt was recorded.
    pub first_attempt_at: Option<Timestamp>,
    /// The earliest next attempt: a retry, or the time in the schedule.
    pub next_at: Option<Timestamp>,
    /// When WhatsApp's server acknowledged it.
    pub sent_at: Option<Timestamp>,
    /// When it reached the phone.
    pub delivered_at: Option<Timestamp>,
    /// When it was opened.
    pub read_at: Option<Timestamp>,
    /// When it ended without being sent: failed, expired, cancelled, suppressed, unknown.
    pub ended_at: Option<Timestamp>,
}

impl Default for MessageState {
    fn default() -> Self {
        Self {
            status: Status::Pending,
            attempts: 0,
            forgiven: 0,
            doubtful: false,
            by_channel: false,
            failure: None,
            first_attempt_at: None,
            next_at: None,
            sent_at: None,
            delivered_at: None,
            read_at: None,
            ended_at: None,
        }
    }
}

/// How strong the evidence of a settled status is; unsettled is 0.
const fn rank(status: Status, by_channel: bool) -> u8 {
    match status {
        Status::Scheduled | Status::Pending | Status::Processing => 0,
        Status::Expired | Status::Cancelled | Status::Suppressed => 1,
        Status::Failed if !by_channel => 1,
        Status::Unknown => 2,
        Status::Sent => 3,
        Status::Failed => 4,
        Status::Delivered => 5,
        Status::Read => 6,
    }
}

fn earliest(known: &mut Option<Timestamp>, at: Timestamp) {
    *known = Some(known.map_or(at, |before| before.min(at)));
}

impl MessageState {
    /// A message that waits for its time from the beginning.
    pub fn scheduled(due: Timestamp) -> Self {
        Self {
            status: Status::Scheduled,
            next_at: Some(due),
            ..Self::default()
        }
    }

    /// Merges what became known; answers the new status if it changed.
    pub fn apply(&mut self, event: Event, at: Timestamp) -> Option<Status> {
        let before = self.status;
        match event {
            Event::Attempt(n) => {
                self.doubtful |= self.skips_an_answer(n);
                self.attempts = self.attempts.max(n);
                earliest(&mut self.first_attempt_at, at);
                self.unsettled(Status::Processing, None);
            }
            Event::Refused { failure, retry_at } => {
                if !self.status.is_settled() {
                    self.failure = Some(failure);
                    self.forgiven += u8::from(self.forgives(failure));
                }
                self.unsettled(Status::Pending, Some(retry_at));
            }
            Event::Scheduled(due) => self.unsettled(Status::Scheduled, Some(due)),
            Event::Due => {
                let was_armed = self.status == Status::Processing && self.forgiven < self.attempts;
                self.forgiven += u8::from(was_armed);
                self.unsettled(Status::Pending, None);
            }
            Event::Acked => {
                earliest(&mut self.sent_at, at);
                self.settle(Status::Sent, false, None, at);
            }
            Event::Delivered => {
                earliest(&mut self.delivered_at, at);
                self.settle(Status::Delivered, false, None, at);
            }
            Event::Read => {
                earliest(&mut self.read_at, at);
                self.settle(Status::Read, false, None, at);
            }
            Event::Rejected(failure) => self.settle(Status::Failed, true, Some(failure), at),
            Event::Failed(failure) => self.settle(Status::Failed, false, Some(failure), at),
            // Said by who did not know that an attempt may have succeeded.
            Event::Expired | Event::Cancelled | Event::Suppressed if self.doubtful => {
                self.settle(Status::Unknown, false, None, at);
            }
            Event::Expired => self.settle(Status::Expired, false, None, at),
            Event::Cancelled => self.settle(Status::Cancelled, false, None, at),
            Event::Suppressed => self.settle(Status::Suppressed, false, None, at),
            Event::Unknown => self.settle(Status::Unknown, false, None, at),
        }
        (self.status != before).then_some(self.status)
    }

    /// Whether attempt `n` begins though one before it has no answer: the last is still open, or
    /// some between were claimed, repeated and never noted.
    fn skips_an_answer(&self, n: u8) -> bool {
        let open = self.status == Status::Processing && n > self.attempts;
        let skipped = n > self.attempts.saturating_add(1);
        !self.status.is_settled() && (open || skipped)
    }

    /// Whether a refusal was about the instance. No attempt is forgiven twice.
    const fn forgives(&self, failure: Failure) -> bool {
        matches!(failure.reason, Reason::Session) && self.forgiven < self.attempts
    }

    /// Attempts that count against the message.
    pub const fn counted(&self) -> u8 {
        self.attempts.saturating_sub(self.forgiven)
    }

    /// Whether an attempt may have succeeded that nobody heard of. Then the engine may not end the
    /// message as expired, cancelled or failed, which say that it did not go: it is `unknown`.
    pub const fn may_have_gone(&self) -> bool {
        self.doubtful || matches!(self.status, Status::Processing)
    }

    fn unsettled(&mut self, status: Status, next_at: Option<Timestamp>) {
        if !self.status.is_settled() {
            self.status = status;
            self.next_at = next_at;
        }
    }

    fn settle(
        &mut self,
        status: Status,
        by_channel: bool,
        failure: Option<Failure>,
        at: Timestamp,
    ) {
        let (old, new) = (rank(self.status, self.by_channel), rank(status, by_channel));
        let same_failure = old == new && status == Status::Failed && by_channel;
        if same_failure
            && self
                .ended_at
                .is_some_and(|ended| (at, failure) >= (ended, self.failure))
        {
            return;
        }
        if new < old || (new == old && !same_failure) {
            return;
        }
        self.status = status;
        self.by_channel = by_channel;
        self.next_at = None;
        self.failure = failure;
        let ended = matches!(
            status,
            Status::Failed
                | Status::Expired
                | Status::Cancelled
                | Status::Suppressed
                | Status::Unknown
        );
        self.ended_at = ended.then_some(at);
    }
}
