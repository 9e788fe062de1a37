//! The way to WhatsApp: the port [`Transport`] and its kinds.
//!
//! A transport is opened on the owning node for one instance. It takes frames without waiting,
//! and tells what became of them, and of the session, through an [`EventSink`]. *Submitted is
//! not sent*: only [`TransportEvent::Acked`] says that the server has it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use zajil_model::id::{Epoch, InstanceId};
use zajil_model::instance::{TransportKind, TransportSettings};
use zajil_model::message::MessageRef;
use zajil_model::phone::Phone;
use zajil_model::refusal::Refusal;
use zajil_model::suppression::Cleared;
use zajil_model::time::Timestamp;
use zajil_model::wa_id::WaId;

pub mod metrics;
pub mod simulator;
pub mod sink;

pub use simulator::SimulatorFactory;
pub use sink::{Delivered, EventSink, NotPushed, SinkClosed};

/// A message that was cleared to go, with the WhatsApp id that every attempt of it carries.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// WhatsApp's id of it, fixed by the message id.
    pub wa_id: WaId,
    /// The attempt, from 1.
    pub attempt: u8,
    /// The message; only a cleared one can be handed over.
    pub message: Cleared<MessageRef>,
}

/// What a transport can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether the channel shows a repeated WhatsApp id once; `None` where that is known no sooner
    /// than an instance is online.
    pub idempotent_by_id: Option<bool>,
    /// Whether it tells of delivery and reading.
    pub receipts: bool,
    /// Whether an instance has to be paired with a phone.
    pub pairing: bool,
    /// Whether polls can be sent.
    pub polls: bool,
    /// Whether lists can be sent.
    pub lists: bool,
    /// Whether reactions can be sent.
    pub reactions: bool,
}

/// What an instance's transport is opened with.
#[derive(Clone, Debug)]
pub struct TransportSpec {
    /// The instance.
    pub instance: InstanceId,
    /// Under which ownership of its shard.
    pub epoch: Epoch,
    /// The kind.
    pub kind: TransportKind,
    /// Its settings, checked at the door.
    pub settings: TransportSettings,
    /// The instance's own number, where it is known.
    pub phone: Option<Phone>,
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Take no more; answers of what is in flight still come until the transport is dropped.
    Drain,
    /// At once.
    Abort,
}

/// Why a transport cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// This build or node has no such transport.
    #[error("transport {0:?} is not available")]
    Unsupported(TransportKind),
    /// The settings cannot work.
    #[error("transport settings are not usable: {0}")]
    Settings(String),
}

/// What happened on a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// The server has it. Nothing else means *sent*.
    Acked {
        /// Which message.
        wa_id: WaId,
        /// When, by this node's wall clock.
        at: Timestamp,
    },
    /// The server, or the transport itself, refused it; provably not delivered.
    Refused {
        /// Which message.
        wa_id: WaId,
        /// What it means.
        refusal: Refusal,
        /// The channel's own code, 0 when there is none.
        code: u16,
        /// When.
        at: Timestamp,
    },
    /// The frame may or may not have reached the server, and no answer will come.
    Ambiguous {
        /// Which message.
        wa_id: WaId,
        /// When.
        at: Timestamp,
    },
    /// A receipt: it reached the phone.
    Received {
        /// Which message.
        wa_id: WaId,
        /// When.
        at: Timestamp,
    },
    /// A receipt: it was opened.
    Read {
        /// Which message.
        wa_id: WaId,
        /// When.
        at: Timestamp,
    },
    /// The session changed.
    Session(SessionEvent),
}

/// What became of the session of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It can send.
    Online {
        /// The number that it speaks for, when the channel says.
        phone: Option<Phone>,
    },
    /// It cannot send now; the transport tries to come back by itself.
    Offline {
        /// Why, for people.
        reason: String,
    },
    /// Another client took the session over: stop, do not fight for it.
    Replaced,
    /// The phone ended the session: it has to be paired again.
    LoggedOut,
    /// WhatsApp banned the number.
    Banned,
    /// WhatsApp restricts sending until this time.
    Restricted {
        /// The end of it.
        until: Timestamp,
    },
}

/// An open way to WhatsApp for one instance.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Hands frames over, in order, without waiting. Every frame that is taken gets exactly one of
    /// acked, refused or ambiguous, unless the process or the transport dies first. Answers those
    /// that it did not take (its own bounded queue is full, or it is not online): these never
    /// left.
    fn submit(&self, frames: Vec<Outbound>) -> Vec<Outbound>;

    /// Stops.
    async fn stop(&self, mode: StopMode);
}

/// Opens transports of one kind.
#[async_trait]
pub trait TransportFactory: Send + Sync + fmt::Debug {
    /// The kind.
    fn kind(&self) -> TransportKind;

    /// What its transports can do, given an instance's settings.
    fn capabilities(&self, settings: &TransportSettings) -> Capabilities;

    /// Whether an instance could be opened with these settings, as far as they tell by themselves.
    ///
    /// # Errors
    /// [`OpenError::Settings`] that says what is wrong.
    fn check(&self, settings: &TransportSettings) -> Result<(), OpenError>;

    /// Opens the transport of an instance; session events come through the sink, the first of them
    /// perhaps before this answers.
    async fn open(
        &self,
        spec: TransportSpec,
        events: EventSink,
    ) -> Result<Arc<dyn Transport>, OpenError>;
}
