//! The connection to one simulator process: made, kept, and made again.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::Remote;
use crate::simulator::wire::{self, FromEngine, FromSimulator, MESSAGE_LIMIT, VERSION, WireError};

/// The first wait before a connection is tried again; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait: a simulator that comes back is found within a second.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long connecting and greeting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the reader looks whether a way out that is full has room again.
const FULL_POLL: Duration = Duration::from_millis(5);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no greeting in time")]
    Timeout,
    #[error("turned away: {0}")]
    TurnedAway(String),
    #[error("the simulator closed the connection")]
    Closed,
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Keeps the connection while any instance is open.
pub(super) async fn keep(remote: Arc<Remote>) {
    let mut wait = FIRST_WAIT;
    loop {
        {
            let mut state = remote.state.lock();
            if state.lines.is_empty() {
                state.linked = false;
                return;
            }
        }
        let error = match greet(&remote.address).await {
            Ok((reader, writer, idempotent)) => {
                wait = FIRST_WAIT;
                remote.connected(idempotent);
                match talk(&remote, reader, writer).await {
                    Ok(()) => {
                        remote.dropped("closed");
                        continue;
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        tracing::warn!(address = %remote.address, %error, "simulator is not reachable");
        remote.dropped(&format!("simulator {}: {error}", remote.address));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // Nobody may be left to connect for.
            () = remote.news.notified() => tokio::time::sleep(FIRST_WAIT).await,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

type Greeted = (BufReader<OwnedReadHalf>, OwnedWriteHalf, bool);

/// Connects and agrees on the version.
async fn greet(address: &str) -> Result<Greeted, LinkError> {
    let greeting = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(LinkError::Connect)?;
        stream.set_nodelay(true).map_err(LinkError::Connect)?;
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let mut hello = Vec::new();
        wire::encode(&FromEngine::Hello { version: VERSION }, &mut hello);
        wire::write(&mut writer, &hello).await?;
        match wire::read(&mut reader).await?.ok_or(LinkError::Closed)? {
            FromSimulator::Welcome { idempotent, .. } => Ok((reader, writer, idempotent)),
            FromSimulator::TurnedAway { reason } => Err(LinkError::TurnedAway(reason)),
            FromSimulator::Events { .. } => Err(LinkError::TurnedAway("no greeting".to_owned())),
        }
    };
    tokio::time::timeout(CONNECT_TIMEOUT, greeting)
        .await
        .map_err(|_| LinkError::Timeout)?
}

/// Carries both ways until the connection breaks, or no instance is open any more.
async fn talk(
    remote: &Arc<Remote>,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
) -> Result<(), LinkError> {
    tokio::select! {
        error = listen(remote, reader) => Err(error),
        ended = speak(remote, writer) => ended,
    }
}

/// Reads events until the connection breaks.
async fn listen(remote: &Arc<Remote>, mut reader: BufReader<OwnedReadHalf>) -> LinkError {
    loop {
        let lines = match wire::read(&mut reader).await {
            Ok(Some(FromSimulator::Events { lines })) => lines,
            Ok(Some(FromSimulator::Welcome { .. })) => continue,
            Ok(Some(FromSimulator::TurnedAway { reason })) => return LinkError::TurnedAway(reason),
            Ok(None) => return LinkError::Closed,
            Err(error) => return error.into(),
        };
        // What an instance cannot take waits in the socket, and with it all others: a simulator
        // that tells more than the engine bears is slowed down as a whole.
        for outlet in remote.hear(lines) {
            while outlet.is_full() {
                tokio::time::sleep(FULL_POLL).await;
            }
        }
    }
}

/// Writes what is queued until no instance is open any more.
async fn speak(remote: &Arc<Remote>, mut writer: OwnedWriteHalf) -> Result<(), LinkError> {
    let mut bytes = Vec::new();
    loop {
        let (queue, last) = {
            let mut state = remote.state.lock();
            state.queued_frames = 0;
            (mem::take(&mut state.queue), state.lines.is_empty())
        };
        let is_empty = queue.is_empty();
        for message in queue {
            wire::encode(&message, &mut bytes);
            if bytes.len() >= MESSAGE_LIMIT {
                wire::write(&mut writer, &bytes).await?;
                bytes.clear();
            }
        }
        wire::write(&mut writer, &bytes).await?;
        bytes.clear();
        if last {
            return Ok(());
        }
        if is_empty {
            remote.news.notified().await;
        }
    }
}
