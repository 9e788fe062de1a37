//! What there is: a store, the wires to it, two processes, and what clients were told.

use std::collections::BTreeSet;

use zajil_model::id::{Epoch, MessageId, ShardClock, Tick};
use zajil_model::lease::holder::{Holder, Renewal};
use zajil_model::lease::shard::{Owner, Seals, ShardRow};
use zajil_model::lease::{GOOD_FOR, Incarnation, Lease, NodeId, NodeRow, Watch};
use zajil_model::time::Mono;

use super::Scene;
use crate::takeover::{Step as Taking, TakeOver};

/// A chunk of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Chunk {
    pub(crate) epoch: Epoch,
    pub(crate) id: MessageId,
}

/// A change of the shard row on its way: from, to.
pub(crate) type Change = (ShardRow, ShardRow);

/// The store, and what is on its way to it. A wire loses nothing for good: what its sender gave up,
/// or died after, may still land.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) rows: [NodeRow; 2],
    pub(crate) shard: ShardRow,
    pub(crate) seals: Seals,
    pub(crate) ceiling: Tick,
    pub(crate) log: BTreeSet<Chunk>,
    pub(crate) appends: BTreeSet<Chunk>,
    pub(crate) renewals: [Vec<Renewal>; 2],
    pub(crate) changes: [Option<Change>; 2],
}

/// A process. A pause is that it takes no step while others do; a crash is a pause without end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Life {
    pub(crate) me: Owner,
    pub(crate) holder: Holder,
    /// Its lease is not looked at: it is always good.
    pub(crate) endless: bool,
    /// Its renewal without an answer so far.
    pub(crate) renewal: Option<Renewal>,
    /// The answer on its way back.
    pub(crate) answer: Option<Answer>,
    /// What it saw of its peer, and when it asked to see more.
    pub(crate) watch: Watch,
    pub(crate) seen: Option<NodeRow>,
    pub(crate) reading: Option<Mono>,
    /// It waits for the answer to a change of the shard row.
    pub(crate) changing: bool,
    pub(crate) held: Option<Held>,
}

/// What the store says of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// This very request applied.
    Applied,
    /// It did not, and the row is this; or the row was read.
    Row(NodeRow),
}

/// A shard that a process took.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) steps: TakeOver,
    /// What it read of the epochs before, the seals among it, and what of it counts.
    pub(crate) tail: Vec<Chunk>,
    pub(crate) seals: Seals,
    pub(crate) counted: Vec<Chunk>,
    pub(crate) clock: ShardClock,
    /// The one append under way: it is repeated as it was until it is durable, and the next waits.
    pub(crate) append: Option<Chunk>,
}

/// What may still go wrong, or be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) ticks: u8,
    pub(crate) requests: u8,
    pub(crate) lost_answers: u8,
    pub(crate) restarts: u8,
    pub(crate) releases: u8,
    pub(crate) takes: u8,
    pub(crate) renewals: u8,
    pub(crate) depositions: u8,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) now: Mono,
    pub(crate) store: Store,
    pub(crate) nodes: [Life; 2],
    pub(crate) left: Left,
    /// What clients were told is accepted.
    pub(crate) accepted: BTreeSet<Chunk>,
    /// Who took the shard, with what epoch, in order.
    pub(crate) owners: Vec<(Epoch, Owner)>,
    pub(crate) given_twice: bool,
}

/// The node that watches the other.
pub(crate) const CHALLENGER: usize = 1;

pub(crate) const fn node(n: usize) -> NodeId {
    NodeId(n as u64 + 1)
}

impl State {
    /// Two nodes that just joined; the first owns the shard and has given no id.
    pub(crate) fn begin(scene: Scene) -> Self {
        let owners = [0, 1].map(|n| Owner {
            node: node(n),
            incarnation: Incarnation(1),
        });
        let shard = ShardRow {
            owner: Some(owners[0]),
            epoch: Epoch(1),
            next: None,
        };
        // Late enough that a lease from the beginning of all clocks is over.
        let now = Mono::default() + GOOD_FOR;
        let mut nodes = owners.map(|me| Life::new(me, NodeRow::joined(None), now));
        nodes[0].held = Some(Held::serving(shard.epoch));
        if scene == Scene::Leases {
            // Whoever challenges may do so by a good lease; of which the other walks are.
            nodes[CHALLENGER].endless = true;
        }
        Self {
            now,
            store: Store {
                rows: [NodeRow::joined(None); 2],
                shard,
                seals: Seals::default(),
                ceiling: Tick(0),
                log: BTreeSet::new(),
                appends: BTreeSet::new(),
                renewals: [const { Vec::new() }; 2],
                changes: [None; 2],
            },
            nodes,
            left: Left::of(scene),
            accepted: BTreeSet::new(),
            owners: vec![(shard.epoch, owners[0])],
            given_twice: false,
        }
    }
}

impl Left {
    /// Enough for each promise to be broken without its rule, and few enough to see every state.
    const fn of(scene: Scene) -> Self {
        match scene {
            Scene::Leases => Self {
                ticks: 5,
                requests: 0,
                lost_answers: 2,
                restarts: 0,
                releases: 0,
                takes: 1,
                renewals: 3,
                depositions: 0,
            },
            Scene::Log => Self {
                ticks: 0,
                requests: 3,
                lost_answers: 0,
                restarts: 1,
                releases: 1,
                takes: 2,
                renewals: 0,
                depositions: 2,
            },
        }
    }
}

impl Life {
    pub(crate) fn new(me: Owner, row: NodeRow, asked_at: Mono) -> Self {
        Self {
            me,
            holder: Holder::joined(row, asked_at),
            endless: false,
            renewal: None,
            answer: None,
            watch: Watch::default(),
            seen: None,
            reading: None,
            changing: false,
            held: None,
        }
    }

    /// Its lease, as it knows it.
    pub(crate) const fn lease(&self) -> Lease {
        if self.endless {
            Lease::local()
        } else {
            *self.holder.lease()
        }
    }
}

impl Held {
    pub(crate) fn taken(epoch: Epoch) -> Self {
        Self {
            steps: TakeOver::begun(epoch),
            tail: Vec::new(),
            seals: Seals::default(),
            counted: Vec::new(),
            clock: ShardClock::taken_over(Tick(0)),
            append: None,
        }
    }

    fn serving(epoch: Epoch) -> Self {
        let mut held = Self::taken(epoch);
        for step in [Taking::ReadTail, Taking::Seal, Taking::ReadBarriers] {
            held.steps.did(step);
        }
        held
    }
}
