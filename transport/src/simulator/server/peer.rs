//! One engine that is connected to a simulator process.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::simulator::Script;
use crate::simulator::fate::Frame;
use crate::simulator::hub::{Hub, Opening};
use crate::simulator::wire::{
    self, EVENTS_A_MESSAGE, FRAMES_A_MESSAGE, FromEngine, FromSimulator, MESSAGE_LIMIT,
    MESSAGE_TIMEOUT, VERSION, WireError, WireEvent,
};
use crate::simulator::world::Arrival;
use crate::{Delivered, EventSink};

/// Instances on one connection: ten times what one node is built for.
const MAX_LINES: usize = 100_000;

/// Why an engine is dropped.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("it did not greet in time")]
    Silent,
    #[error("it speaks version {0}, not {VERSION}")]
    Version(u16),
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("it does not read what it is told")]
    Slow,
    #[error("the ledger cannot be written")]
    Ledger(std::io::Error),
}

/// What is to be told to an engine. Each line's sink bounds its batches, and each batch keeps
/// its permit until it was written.
#[derive(Debug)]
struct Out {
    /// `None` when the connection ended: what still comes is dropped, and its permit with it.
    batches: Mutex<Option<Vec<(u32, Delivered)>>>,
    news: Notify,
}

impl Out {
    fn push(&self, line: u32, delivered: Delivered) {
        if let Some(batches) = &mut *self.batches.lock() {
            batches.push((line, delivered));
            self.news.notify_one();
        }
    }

    fn take(&self) -> Vec<(u32, Delivered)> {
        self.batches
            .lock()
            .as_mut()
            .map(mem::take)
            .unwrap_or_default()
    }
}

/// Serves one connection until it ends.
pub(super) async fn serve(
    stream: TcpStream,
    hub: Arc<Hub>,
    script: Arc<Script>,
) -> Result<(), PeerError> {
    stream.set_nodelay(true).map_err(WireError::from)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let hello = tokio::time::timeout(MESSAGE_TIMEOUT, wire::read(&mut reader)).await;
    match hello.map_err(|_| PeerError::Silent)?? {
        None => return Ok(()),
        Some(FromEngine::Hello { version: VERSION }) => {}
        Some(FromEngine::Hello { version }) => {
            let reason = format!("this simulator speaks version {VERSION}, not {version}");
            say(&mut writer, &FromSimulator::TurnedAway { reason }).await?;
            return Err(PeerError::Version(version));
        }
        Some(_) => return Err(PeerError::Protocol("the first message is no greeting")),
    }
    let welcome = FromSimulator::Welcome {
        version: VERSION,
        idempotent: script.idempotent,
    };
    say(&mut writer, &welcome).await?;
    let out = Arc::new(Out {
        batches: Mutex::new(Some(Vec::new())),
        news: Notify::new(),
    });
    let closing = Closing(out.clone());
    let ended = tokio::select! {
        ended = listen(reader, hub, script, out.clone()) => ended,
        ended = tell(writer, &out) => ended,
    };
    drop(closing);
    ended
}

/// Drops what is to be told when the connection ends, however it ends.
struct Closing(Arc<Out>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.batches.lock().take();
    }
}

async fn say(writer: &mut OwnedWriteHalf, message: &FromSimulator) -> Result<(), PeerError> {
    let mut bytes = Vec::new();
    wire::encode(message, &mut bytes);
    Ok(wire::write(writer, &bytes).await?)
}

/// Takes what the engine says until it hangs up.
async fn listen(
    mut reader: BufReader<OwnedReadHalf>,
    hub: Arc<Hub>,
    script: Arc<Script>,
    out: Arc<Out>,
) -> Result<(), PeerError> {
    let mut lines: FxHashMap<u32, Opening> = FxHashMap::default();
    while let Some(message) = wire::read(&mut reader).await? {
        match message {
            FromEngine::Hello { .. } => return Err(PeerError::Protocol("a second greeting")),
            FromEngine::Open {
                line,
                instance,
                phone,
            } => {
                if lines.len() >= MAX_LINES {
                    return Err(PeerError::Protocol("too many instances"));
                }
                let out = out.clone();
                let sink = EventSink::new(move |delivered| out.push(line, delivered));
                lines.insert(line, hub.open(instance, phone, script.clone(), sink));
            }
            FromEngine::Submit { line, frames } => {
                if frames.len() > FRAMES_A_MESSAGE {
                    return Err(PeerError::Protocol("too many frames in a message"));
                }
                let opening = lines
                    .get(&line)
                    .ok_or(PeerError::Protocol("a line that is not open"))?;
                if opening.is_behind() {
                    return Err(PeerError::Slow);
                }
                let frames: Vec<_> = frames.into_iter().map(Frame::from).collect();
                opening
                    .submit(&frames, Arrival::Remote)
                    .map_err(PeerError::Ledger)?;
            }
            FromEngine::Close { line } => drop(lines.remove(&line)),
        }
    }
    Ok(())
}

/// Writes what happened, many instances in one message.
async fn tell(mut writer: OwnedWriteHalf, out: &Out) -> Result<(), PeerError> {
    let mut bytes = Vec::new();
    loop {
        let batches = out.take();
        if batches.is_empty() {
            out.news.notified().await;
            continue;
        }
        let (mut lines, mut count) = (Vec::new(), 0);
        for (line, Delivered { events, permit }) in batches {
            let mut events = events.into_iter().map(WireEvent::from).peekable();
            while events.peek().is_some() {
                let part: Vec<_> = events.by_ref().take(EVENTS_A_MESSAGE - count).collect();
                count += part.len();
                lines.push((line, part));
                if count >= EVENTS_A_MESSAGE {
                    wire::encode(
                        &FromSimulator::Events {
                            lines: mem::take(&mut lines),
                        },
                        &mut bytes,
                    );
                    count = 0;
                }
            }
            drop(permit);
            if bytes.len() >= MESSAGE_LIMIT {
                wire::write(&mut writer, &bytes).await?;
                bytes.clear();
            }
        }
        if !lines.is_empty() {
            wire::encode(&FromSimulator::Events { lines }, &mut bytes);
        }
        wire::write(&mut writer, &bytes).await?;
        bytes.clear();
    }
}
