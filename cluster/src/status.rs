//! How this node's part in the cluster is, for people and for `/readyz`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use serde::Serialize;
use zajil_model::lease::holder::Holder;
use zajil_model::lease::{Incarnation, Lease, NodeId, NodeRow, Standing};
use zajil_model::time::Timestamp;

use crate::ownership::Place;
use crate::shared::Shared;

/// What one node knows of the cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Where its link is reached.
    pub link: SocketAddr,
    /// Which of its lives; `None` while it joins.
    pub incarnation: Option<Incarnation>,
    /// What it may do by its lease.
    pub standing: Standing,
    /// How long ago the lease that it has was asked for.
    pub lease_age_ms: Option<u64>,
    /// Whether it gives its shards away to end.
    pub draining: bool,
    /// Why it is not ready to serve, each in a sentence; empty when it is.
    pub not_ready: Vec<String>,
    /// The other nodes.
    pub peers: Vec<PeerStatus>,
    /// Who owns what.
    pub shards: ShardsStatus,
    /// What went wrong last.
    pub troubles: Vec<Trouble>,
}

/// Another node, as this one knows it.
#[derive(Clone, Debug, Serialize)]
pub struct PeerStatus {
    /// Its name.
    pub node: NodeId,
    /// Whether gossip hears it.
    pub heard: bool,
    /// Its lease row, as last read.
    pub lease: Option<NodeRow>,
    /// Where its link is reached, as gossip says.
    pub link: Option<SocketAddr>,
    /// The version of its program, as gossip says.
    pub version: Option<String>,
    /// Shards that it owns.
    pub shards: u16,
}

/// Who owns how many shards.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShardsStatus {
    /// Served here.
    pub here: u16,
    /// By node, this one included.
    pub by_node: BTreeMap<NodeId, u16>,
    /// On their way.
    pub moving: u16,
    /// Of nobody.
    pub nobody: u16,
    /// Being taken or given by this node.
    pub busy: usize,
    /// Peers that look dead and are given one more lease, because most do.
    pub held_back: usize,
}

/// Something that went wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Trouble {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

impl Status {
    pub(crate) fn of(shared: &Shared) -> Self {
        let holder = *shared.holder.borrow();
        let now = shared.mono();
        let lease = holder.as_ref().map(Holder::lease);
        let standing = lease.map_or(Standing::Fenced, |lease| lease.standing(now));
        let shards = shards(shared);
        Self {
            node: shared.me(),
            link: shared.config.link,
            incarnation: holder.map(|holder| holder.incarnation()),
            standing,
            lease_age_ms: lease
                .and_then(Lease::asked_at)
                .map(|at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX)),
            draining: shared.is_leaving(),
            not_ready: not_ready(shared, holder.is_some(), standing),
            peers: peers(shared, &shards),
            shards,
            troubles: shared.troubles(),
        }
    }
}

fn not_ready(shared: &Shared, joined: bool, standing: Standing) -> Vec<String> {
    let mut why = Vec::new();
    if let Some(Err(ended)) = shared.ended.borrow().as_ref() {
        why.push(ended.to_string());
    } else if !joined {
        why.push("the node joins the cluster".to_owned());
    } else if standing != Standing::Active {
        why.push("the node could not renew its lease in time".to_owned());
    }
    if shared.clock_off.load(Ordering::Acquire) {
        why.push("the clock is more than 5 minutes off the store's".to_owned());
    }
    if shared.is_leaving() {
        why.push("the node gives its shards away".to_owned());
    }
    why
}

fn shards(shared: &Shared) -> ShardsStatus {
    let mut status = ShardsStatus {
        busy: shared.busy(),
        held_back: shared.held_back(),
        ..ShardsStatus::default()
    };
    for place in shared.ports.ownership.places(shared.config.shards) {
        match place {
            Place::Here(_) => {
                status.here += 1;
                *status.by_node.entry(shared.me()).or_default() += 1;
            }
            Place::There(node, _) => *status.by_node.entry(node).or_default() += 1,
            Place::Moving => status.moving += 1,
            Place::Nobody => status.nobody += 1,
        }
    }
    status
}

fn peers(shared: &Shared, shards: &ShardsStatus) -> Vec<PeerStatus> {
    let (rows, view) = (
        shared.peers.borrow().clone().unwrap_or_default(),
        shared.ports.membership.peers(),
    );
    let heard = view.iter().map(|peer| peer.node);
    let all: BTreeSet<NodeId> = rows.keys().copied().chain(heard).collect();
    let me = shared.me();
    let status = |node: NodeId| {
        let says = view.get(node);
        PeerStatus {
            node,
            heard: says.is_some(),
            lease: rows.get(&node).copied(),
            link: says.map(|peer| peer.link),
            version: says.map(|peer| peer.version.clone()),
            shards: shards.by_node.get(&node).copied().unwrap_or(0),
        }
    };
    all.into_iter()
        .filter(|node| *node != me)
        .map(status)
        .collect()
}
