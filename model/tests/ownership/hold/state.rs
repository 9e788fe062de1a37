//! Two nodes, their rows, the row of a barrier and who confirmed it.

use zajil_model::barrier::Confirmations;
use zajil_model::id::Epoch;
use zajil_model::lease::shard::{Owner, ShardRow};
use zajil_model::lease::{Incarnation, NodeId, NodeRow};

use super::known::{Barrier, Known, Version};
use crate::takeover::{Step as Taking, TakeOver};

/// What holds nothing back, as it was before; and the barrier that is to stand.
pub(crate) const BEFORE: Barrier = Barrier {
    version: Version(1),
    stands: false,
};
pub(crate) const PAUSE: Barrier = Barrier {
    version: Version(2),
    stands: true,
};

/// A node, as it sees itself, and whether it was declared dead, which it may not know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) me: Owner,
    pub(crate) joined: bool,
    pub(crate) deposed: bool,
    pub(crate) steps: Option<TakeOver>,
    pub(crate) known: Known,
    /// The row of the barrier on its way to it.
    pub(crate) reading: Option<Barrier>,
    /// Messages that were cleared, and those of them that are past the lease check.
    pub(crate) cleared: u8,
    pub(crate) passed: u8,
}

impl Node {
    /// One that just joined.
    pub(crate) fn new(me: Owner) -> Self {
        Self {
            me,
            joined: true,
            deposed: false,
            steps: None,
            known: Known::default(),
            reading: None,
            cleared: 0,
            passed: 0,
        }
    }

    pub(crate) fn serves(&self) -> bool {
        self.steps.is_some_and(|steps| steps.serves().is_some())
    }

    pub(crate) const fn is_past_the_check(&self) -> bool {
        self.passed > 0
    }
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) rows: [Option<NodeRow>; 2],
    pub(crate) shard: ShardRow,
    pub(crate) row: Barrier,
    pub(crate) nodes: [Node; 2],
    pub(crate) asked: Option<Confirmations>,
    /// Confirmations on their way back.
    pub(crate) confirms: [Option<Incarnation>; 2],
    pub(crate) done: bool,
    pub(crate) broken: bool,
    pub(crate) messages: u8,
    pub(crate) takes: u8,
    pub(crate) restarts: u8,
}

pub(crate) const fn node(n: usize) -> NodeId {
    NodeId(n as u64 + 1)
}

impl State {
    /// The first node owns the shard and serves it; the second has not joined.
    pub(crate) fn begin() -> Self {
        let new = |n| {
            Node::new(Owner {
                node: node(n),
                incarnation: Incarnation(1),
            })
        };
        let mut nodes = [new(0), new(1)];
        let mut steps = TakeOver::begun(Epoch(1));
        for step in [Taking::ReadTail, Taking::Seal, Taking::ReadBarriers] {
            steps.did(step);
        }
        nodes[1].joined = false;
        nodes[0].steps = Some(steps);
        nodes[0].known.learn(BEFORE);
        Self {
            rows: [Some(NodeRow::joined(None)), None],
            shard: ShardRow {
                owner: Some(nodes[0].me),
                epoch: Epoch(1),
                next: None,
            },
            row: BEFORE,
            nodes,
            asked: None,
            confirms: [None; 2],
            done: false,
            broken: false,
            messages: 2,
            takes: 3,
            restarts: 1,
        }
    }
}
