//! Who is probably alive: the port through which the rest of a node hears of its peers.
//!
//! It is a hint and never grants a right. Who may send, and who owns which shard, is decided by
//! rows in the store; gossip only says where to look first, whom to ask, and that a lease was
//! renewed, so that it need not be read. A view may be old, empty, or wrong, and differ from node
//! to node.
//!
//! - [`gossip`] is the real one, over UDP; on a network its datagrams are sealed by [`seal`].
//! - [`fake`] is for tests and simulation: each node is told what the test wants it to believe.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use zajil_model::lease::{Incarnation, NodeId};

mod codec;
pub mod facts;
pub mod fake;
pub mod gossip;
pub mod keys;
pub mod seal;
mod seeds;
mod socket;

/// Membership of a cluster, as one node sees it.
pub trait Membership: Send + Sync + fmt::Debug {
    /// The peers that are probably alive now, without this node itself.
    fn peers(&self) -> View;

    /// The same, each time that it changes.
    fn changed(&self) -> watch::Receiver<View>;

    /// Tells the peers something new of this node. Never waits.
    fn publish(&self, fact: Fact);
}

/// Something about itself that a node tells while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Its lease was renewed under this number.
    LeaseSequence(u64),
    /// Whether it gives its shards away.
    Draining(bool),
    /// Counts up each time that it took or gave shards: time to read the rows.
    ShardsVersion(u64),
}

/// A peer that is probably alive, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: NodeId,
    /// Which of its lives.
    pub incarnation: Incarnation,
    /// Where its link listens.
    pub link: SocketAddr,
    /// Where its API listens, where it says so.
    pub api: Option<SocketAddr>,
    /// The number of its last renewal.
    pub lease_sequence: u64,
    /// Whether it gives its shards away.
    pub draining: bool,
    /// Counts its takes and releases of shards.
    pub shards_version: u64,
    /// The versions of the link that it speaks.
    pub protocols: Protocols,
    /// The version of the program.
    pub version: String,
}

impl Peer {
    /// Takes over what it says anew.
    pub const fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::LeaseSequence(sequence) => self.lease_sequence = sequence,
            Fact::Draining(draining) => self.draining = draining,
            Fact::ShardsVersion(version) => self.shards_version = version,
        }
    }
}

/// A range of versions of the protocol between nodes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// The oldest that is understood.
    pub oldest: u16,
    /// The newest that is spoken.
    pub newest: u16,
}

/// What one node believes of its peers at one time: each node once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    peers: Arc<BTreeMap<NodeId, Peer>>,
}

impl View {
    /// One peer.
    pub fn get(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    /// All peers, by their names.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether the node believes that it is alone.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

impl FromIterator<Peer> for View {
    /// Of two lives of a node, the later one counts.
    fn from_iter<T: IntoIterator<Item = Peer>>(peers: T) -> Self {
        let mut latest = BTreeMap::<NodeId, Peer>::new();
        for peer in peers {
            let known = latest.get(&peer.node).map(|known| known.incarnation);
            if known < Some(peer.incarnation) {
                latest.insert(peer.node, peer);
            }
        }
        Self {
            peers: Arc::new(latest),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn peer(node: u64, incarnation: u64) -> Peer {
        Peer {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
            link: SocketAddr::from(([127, 0, 0, 1], 7_000)),
            api: None,
            lease_sequence: 0,
            draining: false,
            shards_version: 0,
            protocols: Protocols {
                oldest: 1,
                newest: 1,
            },
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn of_two_lives_of_a_node_the_later_one_counts() {
        let view = View::from_iter([peer(1, 2), peer(1, 3), peer(1, 1), peer(2, 1)]);

        assert_eq!(view.len(), 2);
        assert_eq!(view.get(NodeId(1)), Some(&peer(1, 3)));
    }
}
