//! What one node does about shards, from what it read.
//!
//! Every node decides for itself, by the same rule over nearly the same rows, and the store lets
//! only one of them win each change. So nothing here has to be agreed on: a plan that is wrong
//! costs a refused write, or a move that is made back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Move, begin_within, desired_of, most_in_motion, rank};
use crate::id::{Epoch, Shard};
use crate::lease::shard::{Owner, ShardRow};
use crate::lease::{NodeId, NodeRow, NodeState};
use crate::time::Mono;

/// How long each node in line waits for the ones before it to take a free shard: several times
/// what a compare-and-set takes.
pub const TURN: Duration = Duration::from_secs(1);

/// How long the node that a shard was released to waits for the word of who released it, which
/// brings more than the row says: a little longer than a call takes.
pub const TOLD: Duration = Duration::from_millis(500);

/// How long the same nodes have to be there before shards move between living ones: a node that
/// restarts, or a cluster that starts, shall not cause moves that are made back a moment later.
pub const CALM: Duration = Duration::from_secs(10);

/// How soon to look again while shards are on their way.
pub const SOON: Duration = Duration::from_secs(1);

/// What a node knows when it decides.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// This life of this node.
    pub me: Owner,
    /// Whether it goes away: then it gives up what nobody is there to take, too.
    pub leaving: bool,
    /// The rows of all shards that there are.
    pub rows: &'a BTreeMap<Shard, ShardRow>,
    /// The lease rows of all nodes.
    pub nodes: &'a BTreeMap<NodeId, NodeRow>,
    /// What this node holds, opening and closing included.
    pub held: &'a BTreeMap<Shard, Epoch>,
    /// Nodes that gossip does not hear, or that did not take what they were given or say so: nothing
    /// is given to them, whatever their lease says.
    pub silent: &'a BTreeSet<NodeId>,
}

/// One thing to do about a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take it: by [`ShardRow::taken`] of the row as seen.
    Take,
    /// Close it, and release it to a node that should take it, if there is any.
    Give(Option<NodeId>),
    /// Drop it: another node owns it, or did since.
    Lose,
}

/// What to do, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Todo {
    /// By shard.
    pub steps: BTreeMap<Shard, Step>,
    /// Not needed before the next regular look when `None`.
    pub again: Option<Duration>,
}

impl Todo {
    fn again_in(&mut self, wait: Duration) {
        self.again = Some(self.again.map_or(wait, |known| known.min(wait)));
    }
}

/// Remembers since when things are as they are, for what has to wait.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    free: BTreeMap<Shard, (ShardRow, Mono)>,
    takers: BTreeSet<NodeId>,
    since: Option<Mono>,
}

impl Patience {
    /// What to do now.
    pub fn plan(&mut self, seen: &Seen<'_>, now: Mono) -> Todo {
        let takers = takers(seen);
        if self.since.is_none() || self.takers != takers {
            (self.takers, self.since) = (takers, Some(now));
        }
        let view = View::new(seen, self.takers.clone());
        self.free
            .retain(|shard, (row, _)| view.is_free(*shard, row));
        let mut todo = Todo::default();
        for (shard, row) in seen.rows {
            match seen.held.get(shard) {
                Some(held) if row.epoch > *held => {
                    todo.steps.insert(*shard, Step::Lose);
                }
                // A row that is older than what is held was read before it was taken.
                Some(_) => {}
                None if row.owner == Some(seen.me) => self.take_back(&view, *shard, &mut todo),
                None if view.is_free(*shard, row) => self.wait_turn(&view, *shard, now, &mut todo),
                None => {}
            }
        }
        self.give(&view, now, &mut todo);
        todo
    }

    /// Named as owner and not holding it: an answer got lost, or opening it failed.
    fn take_back(&self, view: &View<'_>, shard: Shard, todo: &mut Todo) {
        if self.takers.contains(&view.seen.me.node) {
            todo.steps.insert(shard, Step::Take);
        }
    }

    /// A free shard is taken by who should own it, and by others if that one does not come.
    fn wait_turn(&mut self, view: &View<'_>, shard: Shard, now: Mono, todo: &mut Todo) {
        let Some(place) = view.place_in_line(shard) else {
            return;
        };
        let row = view.seen.rows[&shard];
        let (_, since) = *self.free.entry(shard).or_insert((row, now));
        let turn = match place {
            0 if row.next == Some(view.seen.me.node) => TOLD,
            place => TURN.saturating_mul(place),
        };
        match turn
            .checked_sub(now.since(since))
            .filter(|left| !left.is_zero())
        {
            None => {
                todo.steps.insert(shard, Step::Take);
            }
            Some(left) => todo.again_in(left),
        }
    }

    /// Who takes no shards gives its own away; others give what makes the numbers even, a few at
    /// a time.
    fn give(&self, view: &View<'_>, now: Mono, todo: &mut Todo) {
        let me = view.seen.me.node;
        if !self.takers.contains(&me) {
            for shard in view.mine() {
                let to = view.best(shard);
                if to.is_some() || view.seen.leaving {
                    todo.steps.insert(shard, Step::Give(to));
                }
            }
            return;
        }
        let can = |planned: &&Move| view.is_lived(planned) && view.is_heard(planned.to);
        let moves: Vec<Move> = view.moves.iter().filter(can).copied().collect();
        if moves.is_empty() {
            return;
        }
        let calm_for = self.since.map_or(Duration::ZERO, |since| now.since(since));
        if calm_for < CALM {
            todo.again_in(CALM - calm_for);
            return;
        }
        let mine = |planned: &&Move| planned.from == Some(me) && view.holds(planned.shard);
        if moves.iter().any(|planned| mine(&planned)) {
            todo.again_in(SOON);
        }
        let room = most_in_motion(view.seen.rows.len()).saturating_sub(view.in_motion());
        for planned in begin_within(&moves, room).iter().filter(mine) {
            let give = Step::Give(Some(planned.to));
            todo.steps.entry(planned.shard).or_insert(give);
        }
    }
}

/// The nodes that take shards.
fn takers(seen: &Seen<'_>) -> BTreeSet<NodeId> {
    let takes = |row: &NodeRow| row.state == NodeState::Alive;
    let nodes = seen.nodes.iter().filter(|(_, row)| takes(row));
    nodes.map(|(node, _)| *node).collect()
}

/// What was seen, with who should own what.
struct View<'a> {
    seen: &'a Seen<'a>,
    takers: BTreeSet<NodeId>,
    current: BTreeMap<Shard, NodeId>,
    moves: Vec<Move>,
}

impl<'a> View<'a> {
    fn new(seen: &'a Seen<'a>, takers: BTreeSet<NodeId>) -> Self {
        // The next life of an owner counts as the owner, and so does who was named: so a node
        // that restarts gets its own shards back, and nothing else moves.
        let of = |row: &ShardRow| row.owner.map(|owner| owner.node).or(row.next);
        let taker = |node: &NodeId| takers.contains(node);
        let current: BTreeMap<Shard, NodeId> = seen
            .rows
            .iter()
            .filter_map(|(shard, row)| Some((*shard, of(row).filter(taker)?)))
            .collect();
        let moves = desired_of(seen.rows.keys().copied(), &takers, &current);
        Self {
            seen,
            takers,
            current,
            moves,
        }
    }

    fn is_free(&self, shard: Shard, row: &ShardRow) -> bool {
        let gone = |owner: &Owner| {
            self.seen
                .nodes
                .get(&owner.node)
                .is_some_and(|n| owner.is_gone(n))
        };
        let now = self.seen.rows.get(&shard);
        now == Some(row) && row.owner.as_ref().is_none_or(gone)
    }

    fn wanted(&self, shard: Shard) -> Option<NodeId> {
        let at = self
            .moves
            .binary_search_by_key(&shard, |planned| planned.shard);
        match at {
            Ok(at) => Some(self.moves[at].to),
            Err(_) => self.current.get(&shard).copied(),
        }
    }

    /// How many nodes take a free shard rather than this one; `None` when it takes none.
    fn place_in_line(&self, shard: Shard) -> Option<u32> {
        let me = self.seen.me.node;
        self.takers.get(&me)?;
        let wanted = self.wanted(shard);
        if wanted == Some(me) {
            return Some(0);
        }
        let before =
            |node: &&NodeId| Some(**node) == wanted || rank(shard, **node) > rank(shard, me);
        u32::try_from(self.takers.iter().filter(before).count()).ok()
    }

    /// Who should take a shard, of those that can be told.
    fn best(&self, shard: Shard) -> Option<NodeId> {
        let heard = |node: &NodeId| self.is_heard(*node);
        let others = || self.takers.iter().copied().filter(heard);
        let wanted = self.wanted(shard).filter(heard);
        wanted.or_else(|| others().max_by_key(|node| rank(shard, *node)))
    }

    fn is_heard(&self, node: NodeId) -> bool {
        !self.seen.silent.contains(&node)
    }

    /// The shards that are this node's by their rows and in its hands.
    fn mine(&self) -> impl Iterator<Item = Shard> + '_ {
        let rows = self.seen.rows.keys().copied();
        rows.filter(|shard| self.holds(*shard))
    }

    fn holds(&self, shard: Shard) -> bool {
        let row = self.seen.rows.get(&shard);
        row.is_some_and(|row| {
            row.owner == Some(self.seen.me) && self.seen.held.get(&shard) == Some(&row.epoch)
        })
    }

    /// Whether the owner that a move is from is there and holds it.
    fn is_lived(&self, planned: &Move) -> bool {
        let row = &self.seen.rows[&planned.shard];
        row.owner.is_some() && !self.is_free(planned.shard, row)
    }

    /// Shards that a living owner gave away and nobody took yet.
    fn in_motion(&self) -> usize {
        let moving = |row: &&ShardRow| row.owner.is_none() && row.next.is_some();
        self.seen.rows.values().filter(moving).count()
    }
}

#[cfg(test)]
mod tests;
