//! Frames: what goes over a connection after its hello.
//!
//! A frame is its length (four bytes, most significant first), a head and a body. The head is a
//! MessagePack map with named fields, so that a newer node may add some; the body is the rest.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::NodeId;

use super::{Incoming, Lane, Method, Reply};

/// Bytes of the length before a frame.
const LENGTH: usize = 4;

/// Room for the head of a frame, beside the longest body of its lane: today's are below 100 bytes.
pub(super) const HEAD_ROOM: usize = 1_024;

/// The longest text of a failure: enough to see what is wrong.
const FAILURE_LIMIT: usize = 1_024;

/// Bodies up to this long are copied out of the read buffer. A longer one keeps the buffer it came
/// in; a short one that did so would hold far more memory than its own.
const COPIED: usize = 8 << 10;

/// The longest that anybody waits for an answer; a longer deadline is cut to it.
pub(super) const LONGEST_DEADLINE: Duration = Duration::from_secs(3_600);

/// What one node says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A call that wants a reply.
    Request { id: u64, call: Incoming },
    /// A call that does not.
    Cast(Incoming),
    /// The reply to a request.
    Reply { id: u64, answer: Answer },
    /// Nobody waits for the reply to that request any more.
    Cancel { id: u64 },
    /// The sender is there.
    Ping,
    /// The sender stops soon: it answers what it was asked, and wants no new connection.
    Goaway,
    /// Something that a newer node says.
    Unknown { id: u64 },
}

/// What comes back for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What the serving node said.
    Reply(Reply),
    /// It said more than the lane takes.
    TooLarge { bytes: usize },
}

/// A frame that breaks the rules: its connection cannot be trusted to be in step any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// Longer than its lane allows.
    #[error("a frame of {0} bytes is longer than its lane allows")]
    TooLong(usize),
    /// Its head is not the map that it should be.
    #[error("the head of a frame cannot be read")]
    Head,
    /// A field is missing or out of its range.
    #[error("a frame has no good {0}")]
    Field(&'static str),
}

const REQUEST: u8 = 1;
const CAST: u8 = 2;
const REPLY: u8 = 3;
const CANCEL: u8 = 4;
const PING: u8 = 5;
const GOAWAY: u8 = 6;

const OK: u8 = 0;
const NOT_OWNER: u8 = 1;
const MOVING: u8 = 2;
const OVERLOADED: u8 = 3;
const UNSUPPORTED: u8 = 4;
const FAILED: u8 = 5;
const TOO_LARGE: u8 = 6;

/// The head of every kind of frame: each kind uses some of it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Head {
    kind: u8,
    #[serde(skip_serializing_if = "is_zero")]
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<u16>,
    #[serde(skip_serializing_if = "is_zero")]
    epoch: u64,
    /// How long the caller still waits.
    #[serde(skip_serializing_if = "is_zero")]
    left_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    retry_after_ms: u64,
    /// The length of a reply that is too large to send.
    #[serde(skip_serializing_if = "is_zero")]
    bytes: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Frame {
    /// How much room it takes in a queue: its body, and about what its head will be.
    pub(super) fn weight(&self) -> usize {
        const HEAD: usize = 64;
        let body = match self {
            Self::Request { call, .. } | Self::Cast(call) => call.body.len(),
            Self::Reply {
                answer: Answer::Reply(Reply::Ok(body)),
                ..
            } => body.len(),
            Self::Reply { .. }
            | Self::Cancel { .. }
            | Self::Ping
            | Self::Goaway
            | Self::Unknown { .. } => 0,
        };
        HEAD + body
    }

    /// Writes length and head to the end of a buffer, and answers the body, which comes next.
    pub(super) fn encode(self, into: &mut Vec<u8>) -> Bytes {
        let (head, body) = self.into_parts();
        let start = into.len();
        into.extend([0; LENGTH]);
        rmp_serde::encode::write_named(into, &head).expect("a flat map goes into memory");
        let length = into.len() - start - LENGTH + body.len();
        let length = u32::try_from(length).expect("a frame is far below 4 GiB");
        into[start..start + LENGTH].copy_from_slice(&length.to_be_bytes());
        body
    }

    fn into_parts(self) -> (Head, Bytes) {
        let kind = |kind, id| Head {
            kind,
            id,
            ..Head::default()
        };
        match self {
            Self::Request { id, call } => call_parts(kind(REQUEST, id), call),
            Self::Cast(call) => call_parts(kind(CAST, 0), call),
            Self::Reply { id, answer } => answer_parts(kind(REPLY, id), answer),
            Self::Cancel { id } => (kind(CANCEL, id), Bytes::new()),
            Self::Ping => (kind(PING, 0), Bytes::new()),
            Self::Goaway => (kind(GOAWAY, 0), Bytes::new()),
            Self::Unknown { id } => (kind(0, id), Bytes::new()),
        }
    }

    /// Takes the next whole frame off a buffer; `None` when more has to be read first.
    pub(super) fn take(buffer: &mut BytesMut, lane: Lane) -> Result<Option<Self>, Malformed> {
        let Some(length) = buffer.first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > lane.limit() + HEAD_ROOM {
            return Err(Malformed::TooLong(length));
        }
        if buffer.len() < LENGTH + length {
            buffer.reserve(LENGTH + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(LENGTH);
        Self::decode(buffer, length).map(Some)
    }

    fn decode(buffer: &mut BytesMut, length: usize) -> Result<Self, Malformed> {
        let mut reader = rmp_serde::Deserializer::new(std::io::Cursor::new(&buffer[..length]));
        let head = Head::deserialize(&mut reader).map_err(|_| Malformed::Head)?;
        let body_at = usize::try_from(reader.position()).map_err(|_| Malformed::Head)?;
        let body = if length - body_at <= COPIED {
            let body = Bytes::copy_from_slice(&buffer[body_at..length]);
            buffer.advance(length);
            body
        } else {
            let mut frame = buffer.split_to(length).freeze();
            frame.split_off(body_at)
        };
        head.into_frame(body)
    }
}

fn call_parts(head: Head, call: Incoming) -> (Head, Bytes) {
    let left = call.deadline.min(LONGEST_DEADLINE);
    let head = Head {
        method: Some(call.method.0),
        shard: call.shard.map(Shard::number),
        epoch: call.epoch.0,
        left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        ..head
    };
    (head, call.body)
}

fn answer_parts(mut head: Head, answer: Answer) -> (Head, Bytes) {
    let mut body = Bytes::new();
    let outcome = match answer {
        Answer::Reply(Reply::Ok(answer)) => {
            body = answer;
            OK
        }
        Answer::Reply(Reply::NotOwner { owner, epoch }) => {
            head.owner = owner.map(|it| it.0);
            head.epoch = epoch.0;
            NOT_OWNER
        }
        Answer::Reply(Reply::Moving { retry_after }) => {
            head.retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
            MOVING
        }
        Answer::Reply(Reply::Overloaded) => OVERLOADED,
        Answer::Reply(Reply::Unsupported) => UNSUPPORTED,
        Answer::Reply(Reply::Failed(why)) => {
            body = Bytes::from(shortened(why));
            FAILED
        }
        Answer::TooLarge { bytes } => {
            head.bytes = bytes as u64;
            TOO_LARGE
        }
    };
    head.outcome = Some(outcome);
    (head, body)
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(FAILURE_LIMIT));
    text
}

impl Head {
    fn into_frame(self, body: Bytes) -> Result<Frame, Malformed> {
        let id = self.id;
        Ok(match self.kind {
            REQUEST if id == 0 => return Err(Malformed::Field("id")),
            REQUEST => Frame::Request {
                id,
                call: self.into_call(body)?,
            },
            CAST => Frame::Cast(self.into_call(body)?),
            REPLY => Frame::Reply {
                id,
                answer: self.into_answer(body)?,
            },
            CANCEL => Frame::Cancel { id },
            PING => Frame::Ping,
            GOAWAY => Frame::Goaway,
            _ => Frame::Unknown { id },
        })
    }

    fn into_call(self, body: Bytes) -> Result<Incoming, Malformed> {
        let shard = match self.shard {
            Some(number) => Some(Shard::new(number).ok_or(Malformed::Field("shard"))?),
            None => None,
        };
        Ok(Incoming {
            shard,
            epoch: Epoch(self.epoch),
            method: Method(self.method.ok_or(Malformed::Field("method"))?),
            body,
            deadline: Duration::from_millis(self.left_ms).min(LONGEST_DEADLINE),
        })
    }

    fn into_answer(self, body: Bytes) -> Result<Answer, Malformed> {
        Ok(Answer::Reply(match self.outcome {
            Some(OK) => Reply::Ok(body),
            Some(NOT_OWNER) => Reply::NotOwner {
                owner: self.owner.map(NodeId),
                epoch: Epoch(self.epoch),
            },
            Some(MOVING) => Reply::Moving {
                retry_after: Duration::from_millis(self.retry_after_ms).min(LONGEST_DEADLINE),
            },
            Some(OVERLOADED) => Reply::Overloaded,
            Some(UNSUPPORTED) => Reply::Unsupported,
            Some(FAILED) => Reply::Failed(shortened(String::from_utf8_lossy(&body).into_owned())),
            Some(TOO_LARGE) => {
                let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
                return Ok(Answer::TooLarge { bytes });
            }
            Some(_) => Reply::Failed("it gave an answer of an unknown kind".to_owned()),
            None => return Err(Malformed::Field("outcome")),
        }))
    }
}

#[cfg(test)]
mod tests;
