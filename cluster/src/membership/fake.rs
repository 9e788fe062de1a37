//! Membership for tests and simulation: nobody gossips, and each node believes what it is told.
//!
//! ```
//! use zajil_cluster::membership::fake::FakeGossip;
//! use zajil_cluster::membership::{Fact, Membership};
//! # use zajil_cluster::membership::{Peer, Protocols};
//! # use zajil_model::lease::{Incarnation, NodeId};
//! # let peer = |node| Peer {
//! #     node: NodeId(node), incarnation: Incarnation(1), link: ([127, 0, 0, 1], 7000).into(), api: None,
//! #     lease_sequence: 0, draining: false, shards_version: 0,
//! #     protocols: Protocols { oldest: 1, newest: 1 }, version: "0.1.0".to_owned(),
//! # };
//!
//! let gossip = FakeGossip::new();
//! let ann = gossip.join(peer(1));
//! let bob = gossip.join(peer(2));
//! gossip.spread();
//! bob.publish(Fact::LeaseSequence(7));
//!
//! // What bob said has not spread, and then only to ann.
//! assert_eq!(ann.peers().get(NodeId(2)).unwrap().lease_sequence, 0);
//! gossip.tell(NodeId(1), &[NodeId(2)]);
//! assert_eq!(ann.peers().get(NodeId(2)).unwrap().lease_sequence, 7);
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use zajil_model::lease::NodeId;

use super::{Fact, Membership, Peer, View};

/// The gossip of a simulated cluster, as the test directs it.
#[derive(Debug, Default)]
pub struct FakeGossip {
    nodes: Mutex<BTreeMap<NodeId, Known>>,
}

#[derive(Debug)]
struct Known {
    said: Peer,
    believes: watch::Sender<View>,
}

impl FakeGossip {
    /// No nodes.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A node begins, or begins its next life. It believes that it is alone, and nobody is told.
    pub fn join(self: &Arc<Self>, peer: Peer) -> Arc<FakeMembership> {
        let node = peer.node;
        let (believes, view) = watch::channel(View::default());
        let known = Known {
            said: peer,
            believes,
        };
        self.nodes.lock().insert(node, known);
        Arc::new(FakeMembership {
            node,
            gossip: Arc::clone(self),
            view,
        })
    }

    /// A node ends; who believes in it goes on to, until told otherwise.
    pub fn leave(&self, node: NodeId) {
        self.nodes.lock().remove(&node);
    }

    /// Every node hears the truth about every other.
    pub fn spread(&self) {
        let all: Vec<NodeId> = self.nodes.lock().keys().copied().collect();
        for node in &all {
            self.tell(*node, &all);
        }
    }

    /// One node hears the truth about some, and that all others are gone.
    pub fn tell(&self, node: NodeId, of: &[NodeId]) {
        let about: Vec<Peer> = of.iter().filter_map(|peer| self.said(*peer)).collect();
        self.lie(node, about);
    }

    /// One node is made to believe whatever the test says.
    pub fn lie(&self, node: NodeId, peers: impl IntoIterator<Item = Peer>) {
        let view = peers.into_iter().filter(|peer| peer.node != node).collect();
        if let Some(known) = self.nodes.lock().get(&node) {
            known.believes.send_replace(view);
        }
    }

    /// What a node said last of itself.
    pub fn said(&self, node: NodeId) -> Option<Peer> {
        self.nodes.lock().get(&node).map(|known| known.said.clone())
    }
}

/// Membership as one simulated node sees it.
#[derive(Debug)]
pub struct FakeMembership {
    node: NodeId,
    gossip: Arc<FakeGossip>,
    view: watch::Receiver<View>,
}

impl Membership for FakeMembership {
    fn peers(&self) -> View {
        self.view.borrow().clone()
    }

    fn changed(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    fn publish(&self, fact: Fact) {
        if let Some(known) = self.gossip.nodes.lock().get_mut(&self.node) {
            known.said.apply(fact);
        }
    }
}

#[cfg(test)]
mod tests {
    use zajil_model::lease::Incarnation;

    use super::super::tests::peer;
    use super::*;

    #[test]
    fn each_node_believes_what_it_was_told_and_lies_too() {
        let gossip = FakeGossip::new();
        let [one, two, three] = [1, 2, 3].map(|node| gossip.join(peer(node, 1)));

        gossip.spread();
        gossip.tell(NodeId(2), &[NodeId(1)]);
        gossip.lie(NodeId(3), [peer(9, 4)]);

        assert_eq!(one.peers().len(), 2);
        assert_eq!(two.peers(), View::from_iter([peer(1, 1)]));
        assert_eq!(three.peers(), View::from_iter([peer(9, 4)]));
    }

    #[test]
    fn a_dead_node_is_believed_in_until_somebody_tells() {
        let gossip = FakeGossip::new();
        let [one, _two] = [1, 2].map(|node| gossip.join(peer(node, 1)));
        gossip.spread();
        let mut changed = one.changed();
        changed.mark_unchanged();

        gossip.leave(NodeId(2));
        assert_eq!(one.peers().len(), 1);
        gossip.spread();

        assert!(changed.has_changed().unwrap());
        assert!(one.peers().is_empty());
    }

    #[test]
    fn the_next_life_of_a_node_says_its_own() {
        let gossip = FakeGossip::new();
        let before = gossip.join(peer(1, 1));
        before.publish(Fact::Draining(true));

        gossip.join(peer(1, 2));

        let said = gossip.said(NodeId(1)).unwrap();
        assert_eq!((said.incarnation, said.draining), (Incarnation(2), false));
    }
}
