//! How the peers of a node find out that its lease ended.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use super::{GOOD_FOR, NodeId, NodeRow, NodeState};
use crate::time::Mono;

/// How long a challenger sees a lease unchanged before it may call it dead: [`GOOD_FOR`], one per
/// cent for clocks of different speed, and a second.
pub const UNCHANGED: Duration = Duration::from_millis(7_100);

/// How many reads must have shown it unchanged: one long silence of the store proves nothing.
pub const LEAST_READS: u32 = 3;

/// What a challenger saw of the row of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watch {
    seen: Option<NodeRow>,
    since: Mono,
    reads: u32,
}

impl Watch {
    /// A read was answered at `now`, by the challenger's own clock.
    pub fn observe(&mut self, row: NodeRow, now: Mono) {
        if self.seen == Some(row) {
            self.reads = self.reads.saturating_add(1);
        } else {
            *self = Self {
                seen: Some(row),
                since: now,
                reads: 1,
            };
        }
    }

    /// The store did not answer: a peer may have had no way to renew. The watch begins anew.
    pub fn interrupted(&mut self) {
        *self = Self::default();
    }

    /// The row as last seen.
    pub const fn seen(&self) -> Option<NodeRow> {
        self.seen
    }

    /// When the peer is to be looked at again because it may be dead by then; `None` while nothing
    /// was seen of it, and once it is dead.
    pub fn due(&self) -> Option<Mono> {
        self.seen.filter(|row| row.state != NodeState::Dead)?;
        Some(self.since + UNCHANGED)
    }

    /// Whether the row was unchanged for so long that its owner has stopped.
    pub fn is_expired(&self, now: Mono) -> bool {
        self.unchanged_for(UNCHANGED, now).is_some()
    }

    pub(super) fn unchanged_for(&self, wait: Duration, now: Mono) -> Option<NodeRow> {
        let proven = self.reads >= LEAST_READS && now.since(self.since) >= wait;
        self.seen
            .filter(|row| proven && row.state != NodeState::Dead)
    }
}

/// How many nodes watch each other one closely: enough that some of them live when it dies, and so
/// few that their reads do not grow with the cluster.
pub const CLOSE_WATCHERS: usize = 3;

/// Whether `me` is one of those who watch `peer` closely: the next ones after it, in the ring of all
/// nodes that live.
pub fn watches_closely(me: NodeId, peer: NodeId, living: &BTreeSet<NodeId>) -> bool {
    let after = living.range((Bound::Excluded(peer), Bound::Unbounded));
    let before = living.range(..peer);
    after
        .chain(before)
        .take(CLOSE_WATCHERS)
        .any(|node| *node == me)
}

/// The peers to declare dead (by [`NodeRow::declared_dead`] of the row as seen), among all that
/// are watched. The caller's own lease has to be good.
///
/// When several peers look dead at once and they are more than half of all, rather the store or this
/// node is ill: then only those that stay so for one more lease. A single one is no mass: the
/// caller's own renewals come through, and without its last peer nobody else would do the work.
pub fn expired(watches: &BTreeMap<NodeId, Watch>, now: Mono) -> Vec<(NodeId, NodeRow)> {
    let unchanged = |wait: Duration| -> Vec<(NodeId, NodeRow)> {
        let silent =
            |(node, watch): (&NodeId, &Watch)| Some((*node, watch.unchanged_for(wait, now)?));
        watches.iter().filter_map(silent).collect()
    };
    let alive = |watch: &&Watch| watch.seen.is_some_and(|row| row.state != NodeState::Dead);
    let silent = unchanged(UNCHANGED);
    if silent.len() > 1 && silent.len() * 2 > watches.values().filter(alive).count() {
        return unchanged(UNCHANGED + GOOD_FOR);
    }
    silent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    fn row(sequence: u64) -> NodeRow {
        NodeRow {
            sequence,
            ..NodeRow::joined(None)
        }
    }

    fn silent_since_start() -> Watch {
        let mut watch = Watch::default();
        (1..=3).for_each(|read| watch.observe(row(1), at(read)));
        watch
    }

    #[test]
    fn a_peer_is_dead_after_seven_seconds_and_three_reads_without_a_renewal() {
        let live = |at_ms| {
            let mut watch = Watch::default();
            watch.observe(row(9), at(at_ms));
            watch
        };
        let seen = |now| {
            let peers = [silent_since_start(), live(now), live(now)];
            expired(&(1..).map(NodeId).zip(peers).collect(), at(now))
        };

        assert_eq!(seen(7_100), []);
        assert_eq!(seen(7_101), [(NodeId(1), row(1))]);
    }

    #[test]
    fn of_two_nodes_the_one_that_is_left_waits_no_longer_than_others() {
        let peers = BTreeMap::from([(NodeId(1), silent_since_start())]);

        assert_eq!(expired(&peers, at(7_101)), [(NodeId(1), row(1))]);
    }

    #[test]
    fn an_outage_of_the_store_restarts_the_watch() {
        let mut watch = silent_since_start();
        watch.interrupted();
        watch.observe(row(1), at(8_000));

        assert_eq!(watch.unchanged_for(UNCHANGED, at(9_000)), None);
    }

    #[test]
    fn every_node_is_watched_closely_by_the_three_after_it() {
        let living: BTreeSet<_> = (1..=5).map(NodeId).collect();
        let watchers = |peer: u64| {
            let watches = |me: &NodeId| watches_closely(*me, NodeId(peer), &living);
            living
                .iter()
                .filter(|me| watches(me))
                .map(|me| me.0)
                .collect::<Vec<_>>()
        };

        assert_eq!(watchers(1), [2, 3, 4]);
        assert_eq!(watchers(4), [1, 2, 5]);
    }

    #[test]
    fn when_most_peers_look_dead_at_once_one_more_lease_is_waited_for() {
        let peers: BTreeMap<_, _> = (1..=5).map(|n| (NodeId(n), silent_since_start())).collect();

        assert_eq!(expired(&peers, at(7_200)).len(), 0);
        assert_eq!(expired(&peers, at(13_200)).len(), 5);
    }
}
