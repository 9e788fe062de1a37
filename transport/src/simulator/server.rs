//! The simulator as a process: `zajil simulator`.
//!
//! Any number of engines connect; each connection carries many instances. Every frame is in the
//! ledger before anything is told of it; a ledger that cannot be written ends the process.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_model::time::Clock;

use super::Script;
use super::hub::Hub;
use super::ledger::Ledger;
use super::shown::SHOWN_BY_SERVER;

mod peer;

/// Connections at a time: one an engine is needed, and a test has a handful of engines.
const MAX_PEERS: usize = 256;

/// What a simulator process is started with.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The ledger, made when it is not there and appended to when it is.
    pub ledger: PathBuf,
    /// What it does.
    pub script: Script,
    /// What its chances follow.
    pub seed: u64,
}

/// Why a simulator process stops.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The ledger cannot be opened or written; nothing is acked that it does not hold.
    #[error("cannot write the ledger {path}")]
    Ledger {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A simulator process that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    path: PathBuf,
    hub: Arc<Hub>,
    script: Arc<Script>,
    tasks: TaskTracker,
}

impl Server {
    /// Opens the ledger and listens.
    ///
    /// # Errors
    /// [`ServerError`] when either cannot be done.
    pub async fn bind(config: ServerConfig, clock: Arc<dyn Clock>) -> Result<Self, ServerError> {
        let ServerConfig {
            listen: address,
            ledger: path,
            script,
            seed,
        } = config;
        let ledger = Ledger::open(&path).map_err(|source| ServerError::Ledger {
            path: path.clone(),
            source,
        })?;
        let listen = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let tasks = TaskTracker::new();
        let hub = Hub::new(clock, tasks.clone(), seed, SHOWN_BY_SERVER, Some(ledger));
        Ok(Self {
            listener,
            address,
            path,
            hub,
            script: Arc::new(script),
            tasks,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// [`ServerError::Ledger`] when the ledger cannot be written.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServerError> {
        let peers = Arc::new(Semaphore::new(MAX_PEERS));
        // One place: the first failure ends the process.
        let (failed, mut failure) = mpsc::channel(1);
        let stop = shutdown.child_token();
        let ended = loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                Some(source) = failure.recv() => {
                    break Err(ServerError::Ledger { path: self.path.clone(), source });
                }
                accepted = self.listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = peers.clone().try_acquire_owned() else {
                tracing::warn!(%from, limit = MAX_PEERS, "too many connections, one is refused");
                continue;
            };
            let (hub, script) = (self.hub.clone(), self.script.clone());
            let (failed, stop) = (failed.clone(), stop.clone());
            self.tasks.spawn(async move {
                let _permit = permit;
                tokio::select! {
                    () = stop.cancelled() => {}
                    ended = peer::serve(stream, hub, script) => match ended {
                        Ok(()) => tracing::info!(%from, "engine disconnected"),
                        Err(peer::PeerError::Ledger(error)) => {
                            // When another failure is there already, that one is told.
                            let _told = failed.try_send(error).is_ok();
                        }
                        Err(error) => tracing::warn!(%from, %error, "engine dropped"),
                    },
                }
            });
        };
        stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        ended
    }
}

/// Runs a simulator process until `shutdown`.
///
/// # Errors
/// [`ServerError`] when it cannot listen, or cannot write its ledger.
pub async fn run(
    config: ServerConfig,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    Server::bind(config, clock).await?.serve(shutdown).await
}
