//! Reading from a connection, and knowing that its other end is there.
//!
//! Both ends send a ping each second. What counts as a sign of life is every byte, so that a long
//! frame on a slow way is none the worse for the pings that wait behind it. Silence is counted in
//! own ticks: a process that was frozen does not blame its peers for the time that it slept.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Lane;
use super::config::Timing;
use super::frame::{Frame, Malformed};

/// How much is read at once.
const READ_BUFFER: usize = 64 << 10;

/// The half of a connection that is read.
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// The half of a connection that is written.
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// What comes from a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// The peer said something.
    Frame(Frame),
    /// It is time to say that this side is there.
    Tick,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// The peer closed it.
    #[error("it closed the connection")]
    Closed,
    /// Nothing was heard for too long.
    #[error("nothing was heard from it")]
    Silent,
    /// The network failed.
    #[error("the connection failed: {0}")]
    Failed(String),
    /// What it sent cannot be read.
    #[error("it broke the protocol: {0}")]
    Malformed(#[from] Malformed),
    /// It does not read what it is sent.
    #[error("it does not read what it is sent")]
    Deaf,
    /// Nobody needs it any more.
    #[error("the connection was not used")]
    Idle,
    /// This node stops.
    #[error("this node is stopping")]
    Stopping,
}

impl Ended {
    /// Whether the peer did what no node does.
    pub(super) const fn breaks_rules(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::Deaf)
    }

    /// Its name in metrics.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Failed(_) => "failed",
            Self::Malformed(_) => "malformed",
            Self::Deaf => "deaf",
            Self::Idle => "idle",
            Self::Stopping => "stopping",
        }
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // TLS that ends without a word ends as TCP does.
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// The reading side of a connection.
pub(super) struct Inbound {
    reader: Reader,
    buffer: BytesMut,
    lane: Lane,
    ticks: Interval,
    /// Ticks since something was heard.
    silent: u32,
    most_silent: u32,
}

impl Inbound {
    pub(super) fn new(reader: Reader, lane: Lane, timing: &Timing) -> Self {
        let mut ticks = interval(timing.ping_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            reader,
            buffer: BytesMut::with_capacity(READ_BUFFER),
            lane,
            ticks,
            silent: 0,
            most_silent: ticks_in(timing.dead_after, timing),
        }
    }

    /// What comes next. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Event, Ended> {
        loop {
            if let Some(frame) = Frame::take(&mut self.buffer, self.lane)? {
                return Ok(Event::Frame(frame));
            }
            self.buffer.reserve(1);
            tokio::select! {
                read = self.reader.read_buf(&mut self.buffer) => {
                    let read = read?;
                    if read == 0 {
                        return Err(Ended::Closed);
                    }
                    crate::metrics::link::received(read);
                    self.silent = 0;
                }
                _ = self.ticks.tick() => {
                    self.silent += 1;
                    if self.silent > self.most_silent {
                        return Err(Ended::Silent);
                    }
                    return Ok(Event::Tick);
                }
            }
        }
    }
}

/// How many ticks make a time; at least one.
pub(super) fn ticks_in(time: std::time::Duration, timing: &Timing) -> u32 {
    let ticks = time.as_millis() / timing.ping_every.as_millis().max(1);
    u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}
