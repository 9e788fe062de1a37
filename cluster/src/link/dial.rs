//! Connecting to a node: TCP, TLS where there are keys, and the hello.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_model::lease::NodeId;

use super::Lane;
use super::config::{Identity, Timing};
use super::hello::{Answer, Hello, Opening, Refusal, hear, say};
use super::status::{Journal, Who};
use super::tls::{Credentials, refusal};
use super::wire::{Reader, Writer};

/// Knows where nodes are: membership does.
pub trait Addresses: Send + Sync + fmt::Debug {
    /// Where a node listens for its peers; `None` when nobody told.
    fn address(&self, node: NodeId) -> Option<SocketAddr>;
}

/// Makes the connections of one node.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) me: Identity,
    pub(super) addresses: Arc<dyn Addresses>,
    pub(super) credentials: Option<Credentials>,
    pub(super) timing: Timing,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) journal: Arc<Journal>,
    pub(super) random: Mutex<SmallRng>,
}

/// A connection that said hello.
pub(super) struct Dialed {
    pub(super) halves: (Reader, Writer),
    pub(super) peer: Hello,
}

impl Dialer {
    /// Connects to a node.
    pub(super) async fn dial(&self, node: NodeId, lane: Lane) -> Result<Dialed, Refusal> {
        let dialed = timeout(self.timing.hello_within, self.connect(node, lane)).await;
        let dialed = dialed.unwrap_or(Err(Refusal::Late));
        match &dialed {
            Ok(_) => self.journal.connected(Who::To(node)),
            Err(refusal) => self.journal.refused(Who::To(node), refusal),
        }
        dialed
    }

    /// What to multiply a wait with, so that nodes do not all come at once.
    pub(super) fn jitter(&self) -> f64 {
        self.random.lock().random_range(0.5..1.0)
    }

    async fn connect(&self, node: NodeId, lane: Lane) -> Result<Dialed, Refusal> {
        let address = self.addresses.address(node).ok_or(Refusal::Nowhere)?;
        if self.credentials.is_none() && !address.ip().is_loopback() {
            return Err(Refusal::Unprotected(address));
        }
        let failed = |error: std::io::Error| refusal(&error);
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        match &self.credentials {
            None => self.greet(node, lane, stream).await,
            Some(credentials) => {
                let stream = credentials.connect(node, stream).await?;
                self.greet(node, lane, stream).await
            }
        }
    }

    async fn greet<S>(&self, node: NodeId, lane: Lane, mut stream: S) -> Result<Dialed, Refusal>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let opening = Opening {
            hello: Hello::of(&self.me),
            to: node.0,
            lane,
        };
        // When this fails, what the peer said before it closed tells more.
        let said = say(&mut stream, &opening).await;
        let answer: Answer = hear(&mut stream).await?;
        said.map_err(|error| refusal(&error))?;
        answer.check(&self.me, node)?;
        Ok(Dialed {
            halves: halves(stream),
            peer: answer.hello,
        })
    }
}

/// Both halves of a connection.
pub(super) fn halves<S>(stream: S) -> (Reader, Writer)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    (Box::new(reader), Box::new(writer))
}
