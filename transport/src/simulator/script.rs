//! What a simulator does: a script in JSON, described field by field in `docs/SIMULATOR.md`.
//!
//! What a script does not name is as in [`Script::default`]. Chances are decided by
//! [`Dice`](super::dice::Dice), so that a run replays by its seed.

use serde::{Deserialize, Serialize};
use zajil_model::refusal::{Reason, Refusal};

mod check;

/// A script that answers at once: no latency, no receipts. For measuring the engine alone.
pub const AT_ONCE: &str = r#"{"latency":{"min_ms":0,"max_ms":0},"receipts":null}"#;

/// What a simulator does. `{}` is the script of an instance that has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// From the opening of an instance until it is online.
    pub connect: Latency,
    /// From the hand-over of a frame until its ack or refusal.
    pub latency: Latency,
    /// Delivery and reading; `null` for none at all.
    pub receipts: Option<Receipts>,
    /// Whether an id that is sent again is shown once; `false` shows it each time.
    pub idempotent: bool,
    /// Frames that are refused; the first rule that matches decides.
    pub refusals: Vec<RefusalRule>,
    /// A ceiling on the pace.
    pub throttle: Option<Throttle>,
    /// Acks that come much later than the others.
    pub late_acks: Option<LateAcks>,
    /// Frames that are never answered.
    pub missing_acks: Option<MissingAcks>,
    /// Acks that come more than once.
    pub repeated_acks: Option<RepeatedAcks>,
    /// Acks for ids that nobody sent.
    pub unknown_acks: Option<UnknownAcks>,
    /// Failures that the channel reports after its ack.
    pub nacks_after_sent: Option<NackAfterSent>,
    /// Connections that drop and come back.
    pub disconnects: Vec<Disconnect>,
    /// Times in which the instance may not send.
    pub restrictions: Vec<Restriction>,
    /// Sessions that end.
    pub endings: Vec<Ending>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            connect: Latency::ZERO,
            latency: Latency {
                min_ms: 2,
                max_ms: 8,
            },
            receipts: Some(Receipts::default()),
            idempotent: true,
            refusals: Vec::new(),
            throttle: None,
            late_acks: None,
            missing_acks: None,
            repeated_acks: None,
            unknown_acks: None,
            nacks_after_sent: None,
            disconnects: Vec::new(),
            restrictions: Vec::new(),
            endings: Vec::new(),
        }
    }
}

/// A time that is drawn evenly between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// The shortest, in milliseconds.
    pub min_ms: u32,
    /// The longest, in milliseconds.
    pub max_ms: u32,
}

impl Latency {
    /// No time at all.
    pub const ZERO: Self = Self {
        min_ms: 0,
        max_ms: 0,
    };
}

/// Delivery and reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Receipts {
    /// The receipt that it reached the phone.
    pub received: Receipt,
    /// The receipt that it was opened.
    pub read: Receipt,
    /// Which may come first.
    pub order: Order,
    /// The share of receipts that come twice.
    pub repeated: f64,
}

impl Default for Receipts {
    fn default() -> Self {
        Self {
            received: Receipt {
                probability: 1.0,
                min_ms: 50,
                max_ms: 300,
            },
            read: Receipt {
                probability: 1.0,
                min_ms: 500,
                max_ms: 1_500,
            },
            order: Order::InOrder,
            repeated: 0.0,
        }
    }
}

/// A kind of receipt: how often, and how late.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The share of messages that get it.
    pub probability: f64,
    /// The shortest time until it comes, in milliseconds.
    pub min_ms: u32,
    /// The longest time until it comes, in milliseconds.
    pub max_ms: u32,
}

impl Receipt {
    /// How late it comes.
    pub const fn latency(&self) -> Latency {
        Latency {
            min_ms: self.min_ms,
            max_ms: self.max_ms,
        }
    }
}

/// In which order ack and receipts come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// `received` is counted from the ack, and `read` from `received`.
    InOrder,
    /// Both are counted from the hand-over, so that any may come first, before the ack too; a
    /// message may be read that was never received.
    Any,
}

/// Frames that are refused. Of its conditions all that are given must hold, and one must be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusalRule {
    /// What the refusal means.
    pub class: RefusalClass,
    /// The channel's own code.
    #[serde(default)]
    pub code: u16,
    /// How long a throttled instance is asked to wait, in milliseconds.
    #[serde(default)]
    pub wait_ms: u32,
    /// The share of frames.
    #[serde(default)]
    pub probability: Option<f64>,
    /// Every n-th frame of an instance.
    #[serde(default)]
    pub every: Option<u64>,
    /// Recipients whose digits end so.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// Attempts up to this one; later ones pass.
    #[serde(default)]
    pub first_attempts: Option<u8>,
}

impl RefusalRule {
    /// The refusal that it makes.
    pub const fn refusal(&self) -> Refusal {
        self.class.refusal(self.wait_ms)
    }
}

/// The classes of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalClass {
    /// Slower.
    Throttled,
    /// Another attempt may pass.
    Temporary,
    /// Never: the recipient is not on WhatsApp.
    NoSuchRecipient,
    /// Never: the content is not taken.
    InvalidContent,
    /// Never: the number may not write to this recipient.
    NotAllowed,
    /// The instance cannot send now.
    HoldInstance,
}

impl RefusalClass {
    /// The refusal of this class; only a throttled one has a wait.
    pub const fn refusal(self, wait_ms: u32) -> Refusal {
        match self {
            Self::Throttled => Refusal::Throttled { wait_ms },
            Self::Temporary => Refusal::Temporary,
            Self::NoSuchRecipient => Refusal::Permanent(Reason::NoSuchRecipient),
            Self::InvalidContent => Refusal::Permanent(Reason::InvalidContent),
            Self::NotAllowed => Refusal::Permanent(Reason::NotAllowed),
            Self::HoldInstance => Refusal::HoldInstance,
        }
    }
}

/// A ceiling on the pace of each instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// Frames that pass in a second; the others of that second are refused as throttled.
    pub per_second: u32,
    /// How long the instance is asked to wait, in milliseconds.
    #[serde(default)]
    pub wait_ms: u32,
    /// The channel's own code.
    #[serde(default)]
    pub code: u16,
}

/// Acks that come much later than the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateAcks {
    /// The share of frames.
    pub probability: f64,
    /// The shortest time, in milliseconds.
    pub min_ms: u32,
    /// The longest time, in milliseconds.
    pub max_ms: u32,
}

/// Frames that are never answered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MissingAcks {
    /// The share of frames.
    pub probability: f64,
    /// The share of these that the recipient was never shown; of the others only the ack was lost.
    #[serde(default)]
    pub lost: f64,
}

/// Acks that come more than once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepeatedAcks {
    /// The share of acks.
    pub probability: f64,
    /// How often such an ack comes again.
    #[serde(default = "once")]
    pub times: u8,
}

const fn once() -> u8 {
    1
}

/// Acks for ids that nobody sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnknownAcks {
    /// The share of frames that bring such an ack beside their own.
    pub probability: f64,
}

/// Failures that the channel reports after its ack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NackAfterSent {
    /// The share of acked frames.
    pub probability: f64,
    /// The shortest time after the ack, in milliseconds.
    pub min_ms: u32,
    /// The longest time after the ack, in milliseconds.
    pub max_ms: u32,
    /// What it means.
    pub class: RefusalClass,
    /// The channel's own code.
    #[serde(default)]
    pub code: u16,
}

/// A connection that drops and comes back. One of the three conditions must be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disconnect {
    /// By the n-th frame of an instance, once.
    #[serde(default)]
    pub after_frames: Option<u64>,
    /// By every n-th frame of an instance.
    #[serde(default)]
    pub every_frames: Option<u64>,
    /// This long after the instance was first opened, in milliseconds.
    #[serde(default)]
    pub at_ms: Option<u64>,
    /// How long the instance is offline, in milliseconds.
    pub for_ms: u32,
    /// The share of frames caught on the way that the recipient is shown all the same.
    #[serde(default = "half")]
    pub shown: f64,
}

const fn half() -> f64 {
    0.5
}

/// A time in which the instance may not send: it stays online, its frames are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restriction {
    /// By the n-th frame of an instance, which is refused too.
    #[serde(default)]
    pub after_frames: Option<u64>,
    /// This long after the instance was first opened, in milliseconds.
    #[serde(default)]
    pub at_ms: Option<u64>,
    /// How long, in milliseconds.
    pub for_ms: u32,
}

/// A session that ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// How.
    pub session: SessionEnd,
    /// By the n-th frame of an instance, which is caught on the way and not shown.
    #[serde(default)]
    pub after_frames: Option<u64>,
    /// This long after the instance was first opened, in milliseconds.
    #[serde(default)]
    pub at_ms: Option<u64>,
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// Another client took it over; opening it again works.
    Replaced,
    /// The phone ended it; opening it again works, as if it had been paired again.
    LoggedOut,
    /// The number is banned, and stays so while the simulator runs.
    Banned,
}

/// Why a script cannot be followed; names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(String);

impl Script {
    /// Reads a script from JSON text.
    ///
    /// # Errors
    /// [`ScriptError`] names the field that is unknown, missing or out of its range.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let script: Self =
            serde_json::from_str(text).map_err(|error| ScriptError(error.to_string()))?;
        check::check(&script).map_err(ScriptError)?;
        Ok(script)
    }

    /// Whether every frame is acked at once and nothing else ever happens.
    pub fn is_at_once(&self) -> bool {
        let at_once = Self {
            latency: Latency::ZERO,
            receipts: None,
            idempotent: true,
            ..Self::default()
        };
        let like_this = Self {
            connect: Latency::ZERO,
            idempotent: true,
            ..self.clone()
        };
        like_this == at_once
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Script::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_script_is_the_default_one() {
        assert_eq!(Script::parse("{}"), Ok(Script::default()));
    }

    #[test]
    fn the_script_that_answers_at_once_is_known_as_such() {
        assert!(Script::parse(AT_ONCE).unwrap().is_at_once());
        assert!(!Script::default().is_at_once());
    }

    #[test]
    fn an_unknown_field_is_named() {
        assert!(refused(r#"{"latensy": 3}"#).contains("`latensy`"));
        assert!(
            refused(r#"{"throttle": {"per_second": 3, "per_minute": 2}}"#).contains("`per_minute`")
        );
    }

    #[test]
    fn a_value_out_of_its_range_is_named_with_its_place() {
        let refused_probability = refused(
            r#"{"refusals": [{"class": "temporary", "every": 2}, {"class": "temporary", "probability": 1.5}]}"#,
        );
        assert_eq!(
            refused_probability,
            "refusals[1].probability must be between 0 and 1"
        );
        assert_eq!(
            refused(r#"{"latency": {"min_ms": 9, "max_ms": 3}}"#),
            "latency.max_ms must not be below latency.min_ms"
        );
    }

    #[test]
    fn a_rule_without_a_condition_is_refused() {
        assert_eq!(
            refused(r#"{"refusals": [{"class": "temporary"}]}"#),
            "refusals[0] needs one of probability, every, recipients and first_attempts"
        );
        assert_eq!(
            refused(r#"{"endings": [{"session": "banned"}]}"#),
            "endings[0] needs one of after_frames and at_ms"
        );
        assert_eq!(
            refused(r#"{"disconnects": [{"for_ms": 10, "at_ms": 1, "every_frames": 2}]}"#),
            "disconnects[0] needs one of after_frames, every_frames and at_ms"
        );
    }

    #[test]
    fn a_script_survives_being_written_and_read() {
        let script = Script {
            throttle: Some(Throttle {
                per_second: 10,
                wait_ms: 5,
                code: 429,
            }),
            ..Script::default()
        };

        let text = serde_json::to_string(&script).unwrap();

        assert_eq!(Script::parse(&text), Ok(script));
    }
}
