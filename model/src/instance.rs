//! What an instance is: one WhatsApp number or session, as its account set it up.

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, InstanceId};
use crate::pace::PaceSpec;
use crate::phone::Phone;
use crate::time::Timestamp;

/// The kinds of transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportKind {
    /// A WhatsApp that is made up, in this process or in one of its own.
    Simulator,
}

impl TransportKind {
    /// The word that clients see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Simulator => "simulator",
        }
    }
}

/// The settings of a transport, as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportSettings {
    /// Where the simulator process listens (`host:port`); `None` is the one in this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The script that the simulator in this process follows, as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
}

/// Whether the instance should have a session: what its people asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Connected, and reconnected when it drops.
    #[default]
    Connected,
    /// Disconnected by a person; the session is kept.
    Disconnected,
    /// Logged out by a person; it has to be paired again.
    LoggedOut,
}

/// An instance, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Whose it is.
    pub account: AccountId,
    /// Unique in its account; has at least one character that is no digit.
    pub name: String,
    /// How it reaches WhatsApp.
    pub transport: TransportKind,
    /// The settings of that.
    #[serde(default)]
    pub settings: TransportSettings,
    /// How fast it may send.
    pub pace: PaceSpec,
    /// Whether messages are taken while it is logged out or banned.
    #[serde(default)]
    pub queue_while_disconnected: bool,
    /// Whether sending is paused.
    #[serde(default)]
    pub paused: bool,
    /// Whether it is held after a restore, until an operator releases it.
    #[serde(default)]
    pub held: bool,
    /// What its people asked for.
    #[serde(default)]
    pub wanted: Wanted,
    /// The number that it speaks for, once known.
    #[serde(default)]
    pub phone: Option<Phone>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How the session of an instance is: what is observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Session {
    /// Opening, or between attempts to.
    Connecting,
    /// It can send.
    Open,
    /// It cannot send; `reason` says why.
    Closed {
        /// The reason.
        reason: CloseReason,
    },
}

impl Session {
    /// The word that clients see: `open`, `connecting` or `close`.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Open => "open",
            Self::Closed { .. } => "close",
        }
    }
}

/// Why a session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// A person disconnected it.
    Disconnected,
    /// The connection dropped; it is being opened again.
    Offline,
    /// Another client took the session over.
    Replaced,
    /// The session ended; it has to be paired again.
    LoggedOut,
    /// WhatsApp banned the number.
    Banned,
    /// Its actor failed again and again and is kept still.
    Quarantined,
}

impl CloseReason {
    /// The word that clients see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Offline => "offline",
            Self::Replaced => "replaced",
            Self::LoggedOut => "logged_out",
            Self::Banned => "banned",
            Self::Quarantined => "quarantined",
        }
    }

    /// Whether it needs a person: accepts are refused unless the instance queues meanwhile.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::LoggedOut | Self::Banned)
    }
}
