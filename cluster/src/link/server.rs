//! Taking connections of other nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_model::lease::NodeId;

use super::Serve;
use super::dial::{Dialer, halves};
use super::hello::{Answer, Hello, Opening, Refusal, hear, say};
use super::serving::Serving;
use super::status::Who;

/// Connections at once, at most: two of each of some hundred nodes, with room for strangers that
/// never say hello.
const CONNECTIONS: usize = 1_024;

/// The pause after the system refused to give a connection, as when it is out of files.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_secs(1);

/// How much of what a refused peer still sends is read away: a hello. Closing over unread bytes
/// would reset the connection and lose the reason.
const LINGER_BYTES: u64 = 8 << 10;

/// The answering side of one node.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// What this side has in common with the asking one.
    pub(super) shared: Arc<Dialer>,
    pub(super) serve: Arc<dyn Serve>,
    /// The node stops: peers are told.
    pub(super) stopping: CancellationToken,
    /// A task for each connection, so that a stop can wait for the peers to leave.
    pub(super) connections: TaskTracker,
}

impl Server {
    /// Takes connections until the node stops.
    pub(super) async fn run(self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = self.stopping.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => self.take(stream, from, &room),
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection of a node");
                    sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, from: SocketAddr, room: &Arc<Semaphore>) {
        let Ok(permit) = room.clone().try_acquire_owned() else {
            let who = Who::From(from.ip(), None);
            return self.shared.journal.refused(who, &Refusal::Full);
        };
        self.connections
            .spawn(self.clone().talk(stream, from, permit));
    }

    async fn talk(self, stream: TcpStream, from: SocketAddr, permit: OwnedSemaphorePermit) {
        let mut who = Who::From(from.ip(), None);
        let within = self.shared.timing.hello_within + LINGER;
        let greeted = tokio::select! {
            () = self.shared.stop.cancelled() => return,
            greeted = timeout(within, self.greet(stream, &mut who)) => greeted,
        };
        match greeted.unwrap_or(Err(Refusal::Late)) {
            Ok(greeted) => {
                self.shared.journal.connected(who);
                self.serve(greeted).await;
            }
            Err(refusal) => self.shared.journal.refused(who, &refusal),
        }
        drop(permit);
    }

    async fn serve(self, greeted: Greeted) {
        let Greeted { halves, opening } = greeted;
        let from = NodeId(opening.hello.node);
        let tasks = self.shared.tasks.clone();
        let serving = Serving::new(from, opening.lane, self.serve, tasks);
        let (timing, stop) = (&self.shared.timing, &self.shared.stop);
        let ended = serving.run(halves, timing, &self.stopping, stop).await;
        let (node, lane) = (from.0, opening.lane.label());
        tracing::debug!(node, lane, %ended, "a connection of a node ended");
        if ended.breaks_rules() {
            tracing::warn!(node, lane, %ended, "closed a connection of a node");
            crate::metrics::link::lost(ended.label());
        }
    }

    async fn greet(&self, stream: TcpStream, who: &mut Who) -> Result<Greeted, Refusal> {
        stream
            .set_nodelay(true)
            .map_err(|error| super::tls::refusal(&error))?;
        let Some(credentials) = &self.shared.credentials else {
            return self.hear_opening(stream, who, |_, _| Ok(())).await;
        };
        let within = self.shared.timing.hello_within;
        let secured = timeout(within, credentials.accept(stream)).await;
        match secured.map_err(|_| Refusal::Late)? {
            Ok(stream) => {
                self.hear_opening(stream, who, |stream, node| credentials.proves(stream, node))
                    .await
            }
            Err((refusal, stream)) => {
                linger(stream).await;
                Err(refusal)
            }
        }
    }

    async fn hear_opening<S>(
        &self,
        mut stream: S,
        who: &mut Who,
        proves: impl Fn(&S, NodeId) -> Result<(), Refusal> + Send,
    ) -> Result<Greeted, Refusal>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let heard = timeout(self.shared.timing.hello_within, hear(&mut stream)).await;
        let opening: Opening = heard.unwrap_or(Err(Refusal::Late))?;
        let node = NodeId(opening.hello.node);
        if let Who::From(_, claimed) = who {
            *claimed = Some(node);
        }
        let checked = self.check(&opening).and_then(|()| proves(&stream, node));
        let answer = Answer {
            hello: Hello::of(&self.shared.me),
            refused: checked.as_ref().err().map(|it| it.label().to_owned()),
        };
        let said = say(&mut stream, &answer).await;
        if let Err(refusal) = checked {
            linger(stream).await;
            return Err(refusal);
        }
        said.map_err(|error| super::tls::refusal(&error))?;
        Ok(Greeted {
            halves: halves(stream),
            opening,
        })
    }

    fn check(&self, opening: &Opening) -> Result<(), Refusal> {
        let me = &self.shared.me;
        opening.hello.check(me)?;
        if opening.to != me.node.0 {
            let node = NodeId(opening.to);
            return Err(Refusal::MeantOther { node });
        }
        if self.stopping.is_cancelled() {
            return Err(Refusal::Stopping);
        }
        Ok(())
    }
}

/// A peer that said hello.
struct Greeted {
    halves: (super::wire::Reader, super::wire::Writer),
    opening: Opening,
}

/// Lets a refused peer read why before the connection is closed.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut rest = stream.take(LINGER_BYTES);
    // It may close, reset or stay silent: all of it ends here.
    drop(timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await);
}
