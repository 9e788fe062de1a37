//! The socket of nodes that are all on one machine: what it sends is neither sealed nor proven.

use std::net::SocketAddr;

use async_trait::async_trait;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, UdpSocket};
use chitchat::{ChitchatEnvelope, ChitchatMessage};

use super::{Common, Drops};
use crate::metrics::gossip::{Dropped, GossipMetrics};

/// The library's own socket, with what it would answer or complain of counted instead.
pub(in crate::membership) struct PlainSocket {
    library: UdpSocket,
    cluster: String,
    metrics: GossipMetrics,
    drops: Drops,
}

impl PlainSocket {
    pub(in crate::membership) async fn open(common: Common) -> anyhow::Result<Self> {
        Ok(Self {
            library: UdpSocket::open(common.listen).await?,
            cluster: common.cluster,
            metrics: common.metrics.clone(),
            drops: Drops::new(common.metrics, common.clock),
        })
    }
}

#[async_trait]
impl Socket for PlainSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.library.local_addr()
    }

    async fn send(
        &mut self,
        to: SocketAddr,
        message: ChitchatEnvelope,
    ) -> anyhow::Result<SendOutcome> {
        match self.library.send(to, message).await {
            Ok(outcome) => {
                self.metrics.sent();
                Ok(outcome)
            }
            Err(_) => {
                self.drops.note(Dropped::Unsent, to);
                Ok(SendOutcome { num_bytes_sent: 0 })
            }
        }
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            let received = self.library.recv().await?;
            if self.is_of_this_cluster(&received.envelope.message) {
                self.metrics.received();
                return Ok(received);
            }
            self.drops.note(Dropped::Cluster, received.from_addr);
        }
    }
}

impl PlainSocket {
    /// Only the first of the three messages of a round names its cluster; the others answer it.
    fn is_of_this_cluster(&self, message: &ChitchatMessage) -> bool {
        match message {
            ChitchatMessage::Syn { cluster_id, .. } => *cluster_id == self.cluster,
            ChitchatMessage::SynAck { .. }
            | ChitchatMessage::Ack { .. }
            | ChitchatMessage::BadCluster => true,
        }
    }
}
