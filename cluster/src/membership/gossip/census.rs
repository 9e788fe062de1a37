//! How the nodes are that the gossip library has heard of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use chitchat::{Chitchat, NodeState};
use sha2::{Digest, Sha256};
use zajil_model::lease::{Incarnation, NodeId};

use crate::membership::facts::{self, NotAPeer};
use crate::membership::{Peer, View};
use crate::metrics::gossip::Members;

/// What is worth reporting of the library's state.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) members: Members,
    /// The longest silence that a live peer may keep.
    pub(super) detection: Duration,
    /// Seeds at whose address nobody is alive.
    pub(super) silent_seeds: BTreeSet<SocketAddr>,
    /// Somebody who is heard and cannot be read.
    pub(super) unreadable: Option<(SocketAddr, NotAPeer)>,
    /// Somebody who goes by the name of this node.
    pub(super) twin: Option<SocketAddr>,
}

/// The peer that a state of the library is about.
pub(super) fn read(state: &NodeState) -> Result<Peer, NotAPeer> {
    let id = state.chitchat_id();
    let incarnation = Incarnation(id.generation_id);
    facts::read(&id.node_id, incarnation, |key| state.get(key))
}

/// The peers in the library's list of live nodes, without the node itself.
pub(super) fn view<'a>(live: impl Iterator<Item = &'a NodeState>, own: NodeId) -> View {
    let peers = live.filter_map(|state| read(state).ok());
    peers.filter(|peer| peer.node != own).collect()
}

impl Census {
    pub(super) fn take(library: &Chitchat, own: NodeId) -> Self {
        let this = library.self_chitchat_id();
        let mut census = Self {
            silent_seeds: library.seed_nodes().into_iter().collect(),
            ..Self::default()
        };
        census.silent_seeds.remove(&this.gossip_advertise_addr);
        for id in library.live_nodes().filter(|id| *id != this) {
            census.silent_seeds.remove(&id.gossip_advertise_addr);
            let patience = library.failure_detection_timeout(id).unwrap_or_default();
            census.detection = census.detection.max(patience);
            if let Some(state) = library.node_state(id) {
                census.count(state, own);
            }
        }
        census.members.dead = library.dead_nodes().count();
        census
    }

    fn count(&mut self, state: &NodeState, own: NodeId) {
        let address = state.chitchat_id().gossip_advertise_addr;
        match read(state) {
            Ok(peer) if peer.node == own => self.twin = Some(address),
            Ok(_) => self.members.live += 1,
            Err(NotAPeer::Silent(_)) => self.members.joining += 1,
            Err(why) => {
                self.members.unreadable += 1;
                self.unreadable = Some((address, why));
            }
        }
    }
}

/// A number below 2^48 made from the nodes that are alive, the node itself included.
pub(super) fn fingerprint(view: &View, own: &Peer) -> u64 {
    let lives = view.iter().chain([own]);
    let lives: BTreeMap<_, _> = lives.map(|peer| (peer.node, peer.incarnation)).collect();
    let mut digest = Sha256::new();
    for (node, incarnation) in lives {
        digest.update(node.0.to_be_bytes());
        digest.update(incarnation.0.to_be_bytes());
    }
    let digest = digest.finalize();
    digest[..6]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::tests::peer;

    #[test]
    fn nodes_that_agree_show_the_same_number() {
        let [one, two, three] = [1, 2, 3].map(|node| peer(node, 1));
        let seen = |own: &Peer, others: [&Peer; 2]| {
            fingerprint(&others.into_iter().cloned().collect(), own)
        };

        assert_eq!(seen(&one, [&two, &three]), seen(&three, [&one, &two]));
        assert_ne!(seen(&one, [&two, &three]), seen(&one, [&two, &peer(3, 2)]));
        assert_ne!(seen(&one, [&two, &three]), seen(&one, [&two, &two]));
        assert!(seen(&one, [&two, &three]) < 1 << 48);
    }
}
