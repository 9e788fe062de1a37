//! Barriers: once a pause, a cancel or an opt-out was answered as done, nothing new of theirs is
//! handed to a transport, on any node.
//!
//! The row is durable first. Then every node with a live lease row, as read after that, confirms
//! that it applied the row and that nothing cleared before is on its way to a transport. A node
//! that cannot be reached is waited for until its lease is dead: then it cannot send, either. A
//! node that joins, or takes a shard, reads the rows after its compare-and-set, so it either sees
//! the barrier or is asked.

use std::collections::BTreeMap;

use crate::lease::{Incarnation, NodeId, NodeRow, NodeState};

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
}
