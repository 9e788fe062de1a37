//! Why an attempt or a message failed, in a closed set of reasons.

use serde::{Deserialize, Serialize};

/// Why an attempt or a message failed: a reason, and the channel's own code (0 when it gave none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// The channel's own code; 0 when there is none.
    pub code: u16,
}

/// The reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Reason {
    /// The channel asks for a slower pace.
    Throttled = 0,
    /// The channel had trouble of its own; another attempt may pass.
    Temporary = 1,
    /// The recipient is not on WhatsApp.
    NoSuchRecipient = 2,
    /// The channel does not take this content.
    InvalidContent = 3,
    /// The number may not write to this recipient (policy, restriction).
    NotAllowed = 4,
    /// The session of the instance is not usable.
    Session = 5,
    /// All attempts were used.
    AttemptsExhausted = 6,
    /// The message was being sent in two crashes and is kept from a third.
    Poison = 7,
}

impl Reason {
    /// Each of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Throttled,
        Self::Temporary,
        Self::NoSuchRecipient,
        Self::InvalidContent,
        Self::NotAllowed,
        Self::Session,
        Self::AttemptsExhausted,
        Self::Poison,
    ];

    /// The stable word of clients and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Temporary => "temporary",
            Self::NoSuchRecipient => "no_such_recipient",
            Self::InvalidContent => "invalid_content",
            Self::NotAllowed => "not_allowed",
            Self::Session => "session",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::Poison => "poison",
        }
    }

    /// The reason of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// What a person is told.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Throttled => "WhatsApp asked for a slower pace.",
            Self::Temporary => "WhatsApp had a temporary fault.",
            Self::NoSuchRecipient => "The recipient is not on WhatsApp.",
            Self::InvalidContent => "WhatsApp does not accept this content.",
            Self::NotAllowed => "This number may not write to the recipient now.",
            Self::Session => "The session of the instance is not usable.",
            Self::AttemptsExhausted => "Every attempt was refused.",
            Self::Poison => "Sending this message stopped the engine twice; it is not tried again.",
        }
    }
}

/// What a transport's refusal means for the message and its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Slower: wait this long before anything more of this instance, and lower the rate.
    Throttled {
        /// How long the channel asked to wait; zero when it did not say.
        wait_ms: u32,
    },
    /// Another attempt may pass.
    Temporary,
    /// This message never passes.
    Permanent(Reason),
    /// The instance cannot send now: hold its queue, the message included.
    HoldInstance,
}
