//! How engine and simulator process talk: MessagePack with names, each message after its length.

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zajil_model::id::InstanceId;
use zajil_model::phone::Phone;
use zajil_model::refusal::Refusal;
use zajil_model::time::Timestamp;
use zajil_model::wa_id::WaId;

use super::fate::Frame;
use crate::{SessionEvent, TransportEvent};

/// The version of this protocol; both sides must speak the same.
pub(crate) const VERSION: u16 = 1;

/// The longest message in bytes: several times what [`FRAMES_A_MESSAGE`] frames or
/// [`EVENTS_A_MESSAGE`] events need.
pub(crate) const MESSAGE_LIMIT: usize = 1 << 20;

/// Frames in one message.
pub(crate) const FRAMES_A_MESSAGE: usize = 1_024;

/// Events in one message.
pub(crate) const EVENTS_A_MESSAGE: usize = 4_096;

/// A message that began must end within this: a peer that stalls in the middle is broken.
pub(crate) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the engine says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromEngine {
    /// The first message.
    Hello { version: u16 },
    /// An instance is opened; `line` names it on this connection.
    Open {
        line: u32,
        instance: InstanceId,
        phone: Phone,
    },
    /// Frames of an instance, in order.
    Submit { line: u32, frames: Vec<WireFrame> },
    /// An instance is closed.
    Close { line: u32 },
}

/// What the simulator says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromSimulator {
    /// The first message, when the versions agree.
    Welcome { version: u16, idempotent: bool },
    /// The first message, when they do not; the connection ends.
    TurnedAway { reason: String },
    /// What happened.
    Events { lines: Vec<(u32, Vec<WireEvent>)> },
}

/// A frame as it is sent. The simulator looks at no content, so none is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireFrame {
    id: WaId,
    to: Phone,
    attempt: u8,
    handed_over_at: Timestamp,
}

impl From<Frame> for WireFrame {
    fn from(frame: Frame) -> Self {
        let Frame {
            wa_id,
            recipient,
            attempt,
            handed_over_at,
        } = frame;
        Self {
            id: wa_id,
            to: recipient,
            attempt,
            handed_over_at,
        }
    }
}

impl From<WireFrame> for Frame {
    fn from(frame: WireFrame) -> Self {
        let WireFrame {
            id,
            to,
            attempt,
            handed_over_at,
        } = frame;
        Self {
            wa_id: id,
            recipient: to,
            attempt,
            handed_over_at,
        }
    }
}

/// An event as it is sent: without its time, which the receiving node stamps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireEvent {
    Acked(WaId),
    Refused {
        id: WaId,
        refusal: Refusal,
        code: u16,
    },
    Ambiguous(WaId),
    Received(WaId),
    Read(WaId),
    Online {
        phone: Option<Phone>,
    },
    Offline {
        reason: String,
    },
    Replaced,
    LoggedOut,
    Banned,
    Restricted {
        until: Timestamp,
    },
}

impl From<TransportEvent> for WireEvent {
    fn from(event: TransportEvent) -> Self {
        match event {
            TransportEvent::Acked { wa_id, .. } => Self::Acked(wa_id),
            TransportEvent::Refused {
                wa_id,
                refusal,
                code,
                ..
            } => Self::Refused {
                id: wa_id,
                refusal,
                code,
            },
            TransportEvent::Ambiguous { wa_id, .. } => Self::Ambiguous(wa_id),
            TransportEvent::Received { wa_id, .. } => Self::Received(wa_id),
            TransportEvent::Read { wa_id, .. } => Self::Read(wa_id),
            TransportEvent::Session(session) => match session {
                SessionEvent::Online { phone } => Self::Online { phone },
                SessionEvent::Offline { reason } => Self::Offline { reason },
                SessionEvent::Replaced => Self::Replaced,
                SessionEvent::LoggedOut => Self::LoggedOut,
                SessionEvent::Banned => Self::Banned,
                SessionEvent::Restricted { until } => Self::Restricted { until },
            },
        }
    }
}

impl WireEvent {
    /// The event, as it was heard at a time.
    pub(crate) fn heard(self, at: Timestamp) -> TransportEvent {
        let session = match self {
            Self::Acked(wa_id) => return TransportEvent::Acked { wa_id, at },
            Self::Refused { id, refusal, code } => {
                return TransportEvent::Refused {
                    wa_id: id,
                    refusal,
                    code,
                    at,
                };
            }
            Self::Ambiguous(wa_id) => return TransportEvent::Ambiguous { wa_id, at },
            Self::Received(wa_id) => return TransportEvent::Received { wa_id, at },
            Self::Read(wa_id) => return TransportEvent::Read { wa_id, at },
            Self::Online { phone } => SessionEvent::Online { phone },
            Self::Offline { reason } => SessionEvent::Offline { reason },
            Self::Replaced => SessionEvent::Replaced,
            Self::LoggedOut => SessionEvent::LoggedOut,
            Self::Banned => SessionEvent::Banned,
            Self::Restricted { until } => SessionEvent::Restricted { until },
        };
        TransportEvent::Session(session)
    }
}

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("a message of {0} bytes is longer than {MESSAGE_LIMIT}")]
    TooLong(usize),
    #[error("a message is no message of this protocol")]
    Garbage(#[from] rmp_serde::decode::Error),
    #[error("a message did not end within {MESSAGE_TIMEOUT:?}")]
    Stalled,
}

/// Reads one message; `None` when the peer closed the connection between two.
pub(crate) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, WireError> {
    let mut length = [0; 4];
    if from.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    let rest = async {
        from.read_exact(&mut length[1..]).await?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_LIMIT {
            return Err(WireError::TooLong(length));
        }
        let mut message = vec![0; length];
        from.read_exact(&mut message).await?;
        Ok(message)
    };
    let message = tokio::time::timeout(MESSAGE_TIMEOUT, rest)
        .await
        .map_err(|_| WireError::Stalled)??;
    Ok(Some(rmp_serde::from_slice(&message)?))
}

/// Appends a message to bytes that are to be written.
pub(crate) fn encode(message: &impl Serialize, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend([0; 4]);
    rmp_serde::encode::write_named(to, message).expect("writing to memory cannot fail");
    let length = to.len() - start - 4;
    let length = u32::try_from(length).expect("messages are bounded by their makers");
    to[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Writes bytes; a peer that takes none of them for too long is broken.
pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> Result<(), WireError> {
    let written = tokio::time::timeout(MESSAGE_TIMEOUT, to.write_all(bytes)).await;
    Ok(written.map_err(|_| WireError::Stalled)??)
}
