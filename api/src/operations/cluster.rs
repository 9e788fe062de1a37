//! What `/cluster` tells: the nodes, who owns how much, and what is wrong, as one node knows it.

use serde_json::{Value, json};
use zajil_actors::engine::{ClusterStatus, PeerStatus};
use zajil_model::id::SHARDS;
use zajil_model::lease::{NodeState, Standing};

use crate::stamp::Stamp;

/// A node that owns everything.
pub(super) fn alone(running: usize, drains: bool) -> Value {
    json!({
        "store": "embedded",
        "shards": SHARDS,
        "nodes": [{
            "node": "local",
            "here": true,
            "state": if drains { "draining" } else { "live" },
            "shards_owned": SHARDS,
            "instances_running": running,
            "version": env!("CARGO_PKG_VERSION"),
        }],
    })
}

/// The nodes that share the work.
pub(super) fn several(status: &ClusterStatus, running: usize, drains: bool) -> Value {
    let here = json!({
        "node": status.node,
        "here": true,
        "state": own_state(status, drains),
        "shards_owned": status.shards.here,
        "instances_running": running,
        "lease_age_ms": status.lease_age_ms,
        "link": status.link,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let mut nodes: Vec<Value> = status.peers.iter().map(peer).collect();
    let before = status.peers.iter().filter(|it| it.node < status.node);
    nodes.insert(before.count(), here);
    let troubles = status.troubles.iter();
    let troubles = troubles.map(|it| json!({ "at": Stamp(it.at), "what": it.what }));
    json!({
        "store": "cql",
        "shards": SHARDS,
        "nodes": nodes,
        "moving": status.shards.moving,
        "nobody": status.shards.nobody,
        "held_back": status.shards.held_back,
        "not_ready": status.not_ready,
        "troubles": troubles.collect::<Vec<_>>(),
        "status": status,
    })
}

fn own_state(status: &ClusterStatus, drains: bool) -> &'static str {
    match (status.incarnation, status.standing) {
        (None, _) => "joining",
        _ if drains || status.draining => "draining",
        (_, Standing::Active) => "live",
        (_, Standing::Suspended) => "suspended",
        (_, Standing::Fenced) => "fenced",
    }
}

fn peer(peer: &PeerStatus) -> Value {
    json!({
        "node": peer.node,
        "here": false,
        "state": peer_state(peer),
        "shards_owned": peer.shards,
        "link": peer.link,
        "version": peer.version,
    })
}

/// The lease row decides; gossip only tells a node that is silent from one that speaks.
fn peer_state(peer: &PeerStatus) -> &'static str {
    match peer.lease.map(|lease| lease.state) {
        Some(NodeState::Dead) => "dead",
        Some(NodeState::Draining) => "draining",
        Some(NodeState::Alive) if peer.heard => "live",
        Some(NodeState::Alive) => "silent",
        None => "joining",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use zajil_actors::engine::{ShardsStatus, Trouble};
    use zajil_model::lease::{Incarnation, NodeId, NodeRow};
    use zajil_model::time::Timestamp;

    use super::*;

    fn link(node: u64) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, node as u8], 7_947))
    }

    /// A node that holds its lease, in a cluster where nobody owns anything yet.
    pub(in super::super) fn status(node: u64) -> ClusterStatus {
        ClusterStatus {
            node: NodeId(node),
            link: link(node),
            incarnation: Some(Incarnation(1)),
            standing: Standing::Active,
            lease_age_ms: Some(700),
            draining: false,
            not_ready: Vec::new(),
            peers: Vec::new(),
            shards: ShardsStatus::default(),
            troubles: Vec::new(),
        }
    }

    /// Node 2 of three that share everything.
    pub(in super::super) fn second_of_three() -> ClusterStatus {
        let shares = [(1, 341), (2, 341), (3, 342)];
        let mut status = status(2);
        status.shards.here = 341;
        status.shards.by_node = shares.map(|(node, count)| (NodeId(node), count)).into();
        status.peers = vec![other(1, NodeState::Alive), other(3, NodeState::Alive)];
        status
    }

    fn other(node: u64, state: NodeState) -> PeerStatus {
        PeerStatus {
            node: NodeId(node),
            heard: true,
            lease: Some(NodeRow {
                incarnation: Incarnation(1),
                sequence: 9,
                state,
            }),
            link: Some(link(node)),
            version: Some("0.1.0".to_owned()),
            shards: 341,
        }
    }

    fn states(shown: &Value) -> Vec<(u64, String)> {
        let nodes = shown["nodes"].as_array().unwrap();
        let state = |it: &Value| it["state"].as_str().unwrap().to_owned();
        nodes
            .iter()
            .map(|it| (it["node"].as_u64().unwrap(), state(it)))
            .collect()
    }

    #[test]
    fn nodes_stand_in_order_each_with_its_share() {
        let shown = several(&second_of_three(), 7, false);

        let live = |node: u64| (node, "live".to_owned());
        assert_eq!(states(&shown), [live(1), live(2), live(3)]);
        let here = &shown["nodes"][1];
        assert_eq!(
            (&here["here"], &here["shards_owned"]),
            (&json!(true), &json!(341))
        );
        assert_eq!(here["lease_age_ms"], 700);
        assert_eq!(shown["nodes"][2]["link"], "10.0.0.3:7947");
        assert_eq!(
            (&shown["store"], &shown["shards"]),
            (&json!("cql"), &json!(1_024))
        );
    }

    #[test]
    fn a_node_that_is_silent_is_told_from_one_that_is_dead() {
        let mut status = second_of_three();
        status.peers[0].heard = false;
        status.peers[1] = other(3, NodeState::Dead);

        let shown = several(&status, 0, true);

        let said = [(1, "silent"), (2, "draining"), (3, "dead")];
        assert_eq!(
            states(&shown),
            said.map(|(node, state)| (node, state.to_owned()))
        );
    }

    #[test]
    fn what_went_wrong_is_told_with_its_time() {
        let mut status = second_of_three();
        status.troubles = vec![Trouble {
            at: Timestamp::from_seconds(1_800_000_000),
            what: "a take failed".to_owned(),
        }];

        let shown = several(&status, 0, false);

        let trouble = json!({"at": "2027-01-15T08:00:00.000000Z", "what": "a take failed"});
        assert_eq!(shown["troubles"], json!([trouble]));
    }
}
