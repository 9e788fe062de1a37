//! Barriers: once a pause, a cancel or an opt-out was answered as done, nothing new of theirs is
//! handed to a transport, on any node.
//!
//! The row is durable first. Then every node with a live lease row, as read after that, confirms
//! that it applied the row and that nothing cleared before is on its way to a transport. A node
//! that cannot be reached is waited for until its lease is dead: then it cannot send, either. A
//! node that joins, or takes a shard, reads the rows after its compare-and-set, so it either sees
//! the barrier or is asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lease::{Incarnation, NodeId, NodeRow, NodeState};

/// Counts the changes of one row, so that an old one that comes late changes nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u64);

/// A row that holds messages back, or holds them back no longer.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Barrier {
    /// Which change of the row.
    pub version: Version,
    /// Whether it stands.
    pub stands: bool,
}

/// What a node knows of a row: from reading it, and from being told, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known(Option<Barrier>);

impl Known {
    /// Learns what was read or told. The later change counts: a read that was under way while the
    /// node was told may answer with what was there before.
    pub fn learn(&mut self, barrier: Barrier) {
        self.0 = self.0.max(Some(barrier));
    }

    /// Whether messages are held back.
    pub fn stands(&self) -> bool {
        self.0.is_some_and(|barrier| barrier.stands)
    }

    /// Whether the node may confirm `asked`, with `outstanding` messages that were cleared before
    /// it applied the row and were neither handed over nor taken back.
    pub fn may_confirm(&self, asked: Barrier, outstanding: usize) -> bool {
        let applied = self.0.is_some_and(|known| known.version >= asked.version);
        applied && outstanding == 0
    }
}

/// Who still has to confirm a barrier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Confirmations {
    missing: BTreeMap<NodeId, Incarnation>,
}

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everybody confirmed: 200.
    Done,
    /// It holds, and these have not confirmed it so far: 202.
    Accepted {
        /// Who is missing.
        missing: Vec<NodeId>,
    },
}

impl Confirmations {
    /// Who has to confirm, by the lease rows: they have to be read *after* the row of the barrier
    /// was durable. A node that was not there yet finds it.
    pub fn wanted(rows: &BTreeMap<NodeId, NodeRow>) -> Self {
        let live = rows.iter().filter(|(_, row)| row.state != NodeState::Dead);
        Self {
            missing: live.map(|(node, row)| (*node, row.incarnation)).collect(),
        }
    }

    /// A node confirmed, in this life. One from an earlier or later life says nothing of the one
    /// that was asked.
    pub fn confirmed(&mut self, node: NodeId, incarnation: Incarnation) {
        if self.missing.get(&node) == Some(&incarnation) {
            self.missing.remove(&node);
        }
    }

    /// The lease row of a node was read again: nobody waits for a life that is over.
    pub fn saw(&mut self, node: NodeId, row: &NodeRow) {
        let over = |asked: &Incarnation| row.incarnation > *asked || row.state == NodeState::Dead;
        if self.missing.get(&node).is_some_and(over) {
            self.missing.remove(&node);
        }
    }

    /// Who is to be asked, and asked again.
    pub fn missing(&self) -> impl Iterator<Item = (NodeId, Incarnation)> + '_ {
        self.missing.iter().map(|(node, life)| (*node, *life))
    }

    /// What the client can be told now.
    pub fn answer(&self) -> Answer {
        if self.missing.is_empty() {
            return Answer::Done;
        }
        Answer::Accepted {
            missing: self.missing.keys().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier(version: u64, stands: bool) -> Barrier {
        Barrier {
            version: Version(version),
            stands,
        }
    }

    fn row(incarnation: u64, state: NodeState) -> NodeRow {
        NodeRow {
            incarnation: Incarnation(incarnation),
            sequence: 3,
            state,
        }
    }

    fn wanted(rows: &[(u64, NodeRow)]) -> Confirmations {
        Confirmations::wanted(&rows.iter().map(|(n, row)| (NodeId(*n), *row)).collect())
    }

    fn missing(nodes: &[u64]) -> Answer {
        Answer::Accepted {
            missing: nodes.iter().copied().map(NodeId).collect(),
        }
    }

    #[test]
    fn a_barrier_is_done_when_every_living_node_confirmed() {
        let mut asked = wanted(&[
            (1, row(1, NodeState::Alive)),
            (2, row(4, NodeState::Draining)),
            (3, row(2, NodeState::Dead)),
        ]);
        assert_eq!(asked.answer(), missing(&[1, 2]));

        asked.confirmed(NodeId(1), Incarnation(1));
        assert_eq!(asked.answer(), missing(&[2]));
        asked.confirmed(NodeId(2), Incarnation(4));
        assert_eq!(asked.answer(), Answer::Done);
    }

    #[test]
    fn a_silent_node_is_waited_for_until_its_lease_is_dead() {
        let mut asked = wanted(&[(1, row(5, NodeState::Alive))]);

        asked.saw(NodeId(1), &row(5, NodeState::Draining));
        assert_eq!(asked.answer(), missing(&[1]));
        asked.saw(NodeId(1), &row(5, NodeState::Dead));
        assert_eq!(asked.answer(), Answer::Done);
    }

    #[test]
    fn the_word_of_another_life_does_not_count_and_a_reborn_node_read_the_row_itself() {
        let mut asked = wanted(&[(1, row(5, NodeState::Alive))]);

        asked.confirmed(NodeId(1), Incarnation(4));
        asked.confirmed(NodeId(1), Incarnation(6));
        assert_eq!(asked.answer(), missing(&[1]));
        asked.saw(NodeId(1), &row(6, NodeState::Alive));
        assert_eq!(asked.answer(), Answer::Done);
    }

    #[test]
    fn a_read_from_before_does_not_undo_what_the_node_was_told_meanwhile() {
        let mut known = Known::default();

        known.learn(barrier(8, true));
        known.learn(barrier(7, false));

        assert!(known.stands());
        known.learn(barrier(9, false));
        assert!(!known.stands());
    }

    #[test]
    fn a_node_confirms_what_it_applied_once_nothing_is_on_its_way() {
        let mut known = Known::default();
        assert!(!known.may_confirm(barrier(2, true), 0));

        known.learn(barrier(2, true));

        assert!(!known.may_confirm(barrier(2, true), 1));
        assert!(known.may_confirm(barrier(2, true), 0));
        assert!(!known.may_confirm(barrier(3, true), 0));
    }
}
