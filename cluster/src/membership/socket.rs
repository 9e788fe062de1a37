//! The sockets of the gossip: sealed on a network, plain only on loopback.
//!
//! Neither ever fails because of what comes in or cannot go out: that is dropped and counted. The
//! gossip library would otherwise end its loop, or complain of an unreachable peer in each round.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use parking_lot::Mutex;
use zajil_model::replay::{NotNew, Sender};
use zajil_model::time::Clock;

use super::seal::NotOpened;
use crate::metrics::gossip::{Dropped, GossipMetrics};

#[cfg(test)]
mod cost;
mod drops;
mod plain;
mod sealed;

pub(super) use drops::Drops;
pub(super) use plain::PlainSocket;
pub(super) use sealed::{SealedSocket, Sealing};

/// What both kinds of socket need.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// Where to listen.
    pub(super) listen: SocketAddr,
    /// The id of the cluster.
    pub(super) cluster: String,
    /// Who sends here.
    pub(super) sender: Sender,
    /// What counts.
    pub(super) metrics: GossipMetrics,
    /// What tells the time.
    pub(super) clock: Arc<dyn Clock>,
}

/// Hands over a socket that was opened before, since its port has to be known first.
pub(super) struct Opened(Mutex<Option<Box<dyn Socket>>>);

impl Opened {
    pub(super) fn new(socket: impl Socket) -> Self {
        Self(Mutex::new(Some(Box::new(socket))))
    }
}

#[async_trait]
impl Transport for Opened {
    async fn open(&self, listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.0.lock().take();
        socket.ok_or_else(|| anyhow::anyhow!("the gossip socket at {listen} was taken already"))
    }
}

impl From<NotOpened> for Dropped {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::Length => Self::Length,
            NotOpened::Format => Self::Format,
            NotOpened::Cluster => Self::Cluster,
            NotOpened::Key => Self::Key,
            NotOpened::Untimely => Self::Untimely,
            NotOpened::Forged => Self::Forged,
        }
    }
}

impl From<NotNew> for Dropped {
    fn from(why: NotNew) -> Self {
        match why {
            NotNew::Untimely => Self::Untimely,
            NotNew::Repeated => Self::Repeated,
            NotNew::Crowded => Self::Crowded,
        }
    }
}
