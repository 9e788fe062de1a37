//! Watches the lease rows of the other nodes, and declares dead who stopped renewing.
//!
//! Every node does it for every other one, and the store lets one of them win. What gossip says
//! only decides when a row is read: each second where a peer is silent; by a few nodes at once when
//! a peer tells that it renewed, so that what they saw last is what it did last; else every five.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use zajil_model::lease::{
    Incarnation, NodeId, NodeRow, NodeState, RENEW_EVERY, RENEWAL_TIMEOUT, Watch, expired,
    watches_closely,
};
use zajil_model::time::Mono;

use crate::membership::View;
use crate::rows::Cas;
use crate::shared::Shared;

/// How often the row of a peer is read that gossip hears.
const READ_EVERY: Duration = Duration::from_secs(5);

/// How often the row of a peer is read that may be dead.
const READ_SUSPECT_EVERY: Duration = Duration::from_secs(1);

/// How often the row of a dead node is read that gossip does not hear: there may be many of them.
const READ_DEAD_EVERY: Duration = Duration::from_secs(30);

/// A peer that is heard and does not say that it renewed for so long is suspect: it missed one.
const SILENT_AFTER: Duration = RENEW_EVERY.saturating_add(Duration::from_secs(1));

/// How many rows are read at once: a node among a hundred reads them in two rounds.
pub(crate) const READS_AT_ONCE: usize = 64;

/// The shortest time between two looks, whatever gossip does.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// Watches until this life is over.
pub(crate) async fn watch(shared: &Shared, over: &CancellationToken) {
    let mut challenger = Challenger::new(shared);
    let mut changed = shared.ports.membership.changed();
    loop {
        let wait = tokio::select! {
            biased;
            () = over.cancelled() => return,
            wait = challenger.look() => wait,
        };
        tokio::select! {
            biased;
            () = over.cancelled() => return,
            () = sleep(wait) => {}
            heard = async {
                sleep(LEAST_PAUSE).await;
                changed.changed().await
            } => if heard.is_err() {
                // Nobody gossips any more: what is left is to read.
                sleep(wait).await;
            },
        }
    }
}

struct Challenger<'a> {
    shared: &'a Shared,
    peers: BTreeMap<NodeId, Peer>,
    members_read: Option<Mono>,
}

/// What is known of one peer.
#[derive(Debug, Default)]
struct Peer {
    watch: Watch,
    /// Its row as last read, kept through a time in which the store does not answer.
    row: Option<NodeRow>,
    read: Option<Mono>,
    /// The renewal that it told of last by gossip, and when that was new.
    said: Option<(Incarnation, u64)>,
    heard_at: Option<Mono>,
    /// Whether this node is one of the few that watch it closely.
    closely: bool,
}

impl<'a> Challenger<'a> {
    const fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            peers: BTreeMap::new(),
            members_read: None,
        }
    }

    /// Reads what is due and challenges who is dead; answers how long to wait.
    async fn look(&mut self) -> Duration {
        let view = self.shared.ports.membership.peers();
        self.meet(&view).await;
        self.hear(&view);
        self.read_due().await;
        self.publish();
        self.challenge().await;
        self.wait()
    }

    /// Learns of new nodes, from the store and at once when gossip names one.
    async fn meet(&mut self, view: &View) {
        let now = self.shared.mono();
        let is_new = view.iter().any(|peer| !self.peers.contains_key(&peer.node));
        let every = if is_new {
            READ_SUSPECT_EVERY
        } else {
            READ_EVERY
        };
        if self
            .members_read
            .is_some_and(|read| now.since(read) < every)
        {
            return;
        }
        if let Ok(Ok(members)) = timeout(RENEWAL_TIMEOUT, self.shared.ports.rows.members()).await {
            let me = self.shared.me();
            for member in members.iter().filter(|member| member.node != me) {
                self.peers.entry(member.node).or_default();
            }
            self.members_read = Some(now);
        }
    }

    fn hear(&mut self, view: &View) {
        let now = self.shared.mono();
        for (node, peer) in &mut self.peers {
            let says = view
                .get(*node)
                .map(|peer| (peer.incarnation, peer.lease_sequence));
            if says != peer.said {
                peer.said = says;
                peer.heard_at = says.map(|_| now);
            }
        }
        self.divide();
    }

    /// Finds out which peers this node watches closely.
    fn divide(&mut self) {
        let me = self.shared.me();
        let lives = |peer: &Peer| peer.row.is_none_or(|row| row.state != NodeState::Dead);
        let living = self.peers.iter().filter(|(_, peer)| lives(peer));
        let mut living: BTreeSet<NodeId> = living.map(|(node, _)| *node).collect();
        living.insert(me);
        for (node, peer) in &mut self.peers {
            peer.closely = watches_closely(me, *node, &living);
        }
    }

    async fn read_due(&mut self) {
        let now = self.shared.mono();
        let due = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.next_read(now) <= now);
        let rows = &self.shared.ports.rows;
        let read = |node: NodeId| async move {
            let answer = timeout(RENEWAL_TIMEOUT, rows.read_lease(node)).await;
            (node, answer)
        };
        let due: Vec<NodeId> = due.map(|(node, _)| *node).collect();
        let mut answers = stream::iter(due).map(read).buffered(READS_AT_ONCE);
        while let Some((node, answer)) = answers.next().await {
            let now = self.shared.mono();
            let peer = self.peers.entry(node).or_default();
            peer.read = Some(now);
            match answer {
                Ok(Ok(Some(row))) => peer.observe(row, now),
                Ok(Ok(None)) => {}
                Ok(Err(_)) | Err(_) => peer.watch.interrupted(),
            }
        }
    }

    async fn challenge(&mut self) {
        let now = self.shared.mono();
        if !self.shared.is_active() {
            return;
        }
        let watches = self
            .peers
            .iter()
            .map(|(node, peer)| (*node, peer.watch))
            .collect();
        let dead = expired(&watches, now);
        let silent = watches
            .values()
            .filter(|watch| watch.is_expired(now))
            .count();
        self.shared.hold_back(silent - dead.len());
        for (node, seen) in dead {
            self.declare_dead(node, seen).await;
        }
    }

    async fn declare_dead(&mut self, node: NodeId, seen: NodeRow) {
        let Some(dead) = seen.declared_dead(&seen) else {
            return;
        };
        let ask = self.shared.ports.rows.cas_lease(node, Some(seen), dead);
        let answer = timeout(RENEWAL_TIMEOUT, ask).await;
        let now = self.shared.mono();
        let peer = self.peers.entry(node).or_default();
        match answer {
            Ok(Cas::Applied) => {
                tracing::warn!(
                    node = node.0,
                    life = seen.incarnation.0,
                    "declared a node dead"
                );
                peer.observe(dead, now);
                self.shared.metrics.challenged(Some(true));
                self.publish();
            }
            Ok(Cas::Conflict(Some(row))) => {
                peer.observe(row, now);
                self.shared.metrics.challenged(Some(false));
                self.publish();
            }
            Ok(Cas::Conflict(None) | Cas::Unknown(_)) | Err(_) => {
                // What became of it is read in a second.
                self.shared.metrics.challenged(None);
            }
        }
    }

    /// Tells what was read; who reconciles is woken when it matters to whom shards belong.
    fn publish(&self) {
        let unread = |peer: &Peer| peer.read.is_none();
        if self.members_read.is_none() || self.peers.values().any(unread) {
            return;
        }
        let seen = |(node, peer): (&NodeId, &Peer)| Some((*node, peer.row?));
        let rows: BTreeMap<NodeId, NodeRow> = self.peers.iter().filter_map(seen).collect();
        let matters = |row: &NodeRow| (row.incarnation, row.state);
        let before = self.shared.peers.borrow().clone();
        let same = before.is_some_and(|before| {
            let (old, new) = (before.iter(), rows.iter());
            before.len() == rows.len()
                && old
                    .zip(new)
                    .all(|(a, b)| a.0 == b.0 && matters(a.1) == matters(b.1))
        });
        let living = rows.iter().filter(|(_, row)| row.state != NodeState::Dead);
        let mut nodes: BTreeSet<NodeId> = living.map(|(node, _)| *node).collect();
        nodes.insert(self.shared.me());
        self.shared.ports.ownership.set_nodes(nodes);
        self.shared.peers.send_replace(Some(Arc::new(rows)));
        if !same {
            self.shared.look.notify_one();
        }
    }

    fn wait(&self) -> Duration {
        let now = self.shared.mono();
        let members = self
            .members_read
            .map_or(now + READ_SUSPECT_EVERY, |read| read + READ_EVERY);
        let looks = self.peers.values().flat_map(|peer| {
            let due = peer.watch.due().filter(|due| *due > now);
            let doubt = peer
                .heard_at
                .map(|at| at + SILENT_AFTER)
                .filter(|doubt| *doubt > now);
            [due, doubt, Some(peer.next_read(now))]
        });
        let next = looks.flatten().fold(members, Mono::min);
        next.since(now).max(LEAST_PAUSE)
    }
}

impl Peer {
    fn observe(&mut self, row: NodeRow, now: Mono) {
        self.watch.observe(row, now);
        self.row = Some(row);
    }

    fn next_read(&self, now: Mono) -> Mono {
        // A life that began after the one that is dead tells of its renewals, too.
        let tells = self.heard_at.is_some_and(|at| now.since(at) < SILENT_AFTER);
        let lives = self.row.map(|row| row.state != NodeState::Dead);
        let news = self.closely && self.heard_at > self.read;
        let every = match (lives, tells) {
            (Some(true), true) if news => READ_SUSPECT_EVERY,
            (Some(true), true) => READ_EVERY,
            (Some(false), false) => READ_DEAD_EVERY,
            (Some(true), false) | (Some(false), true) | (None, _) => READ_SUSPECT_EVERY,
        };
        self.read.map_or(Mono::default(), |read| read + every)
    }
}
