//! Which node should own which shard.
//!
//! A shard ranks the nodes by a hash of both (rendezvous), so that a node that comes or goes
//! concerns few shards. Owners stay where they are while every node has between the floor and the
//! ceiling of the mean; then the fullest gives the shards that rank it lowest to the emptiest.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{SHARDS, Shard};
use crate::lease::NodeId;

pub mod missed;
pub mod plan;

/// The most shards that are handed from a living owner to another at once.
pub const MOST_IN_MOTION: usize = most_in_motion(SHARDS as usize);

/// Of how many shards one at a time may be on its way between living owners: a twentieth, so that
/// balancing never costs what it is to improve.
const PART_IN_MOTION: usize = 20;

/// The most of so many shards that are handed from a living owner to another at once.
pub const fn most_in_motion(shards: usize) -> usize {
    let part = shards / PART_IN_MOTION;
    if part == 0 { 1 } else { part }
}

/// A shard that should change its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which shard.
    pub shard: Shard,
    /// The living owner that gives it away; `None` when it has none.
    pub from: Option<NodeId>,
    /// Who should own it.
    pub to: NodeId,
}

/// How high a shard ranks a node: a fixed hash of both.
pub fn rank(shard: Shard, node: NodeId) -> u64 {
    mix(mix(node.0) ^ u64::from(shard.number()))
}

/// Where a shard stands in the order in which shards change their owners: any that follow each other
/// in it are as far apart by number as they can be. Rows of neighbours are kept together, and changes of
/// what is kept together wait for each other.
pub const fn order(shard: Shard) -> u16 {
    shard.number().reverse_bits()
}

/// One step of SplitMix64.
const fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// What has to move so that every shard has a balanced owner among `nodes` (those that live and
/// do not drain), from where shards are now. No nodes: no moves.
///
/// Every node computes the same from the same rows.
pub fn desired(nodes: &BTreeSet<NodeId>, current: &BTreeMap<Shard, NodeId>) -> Vec<Move> {
    desired_of(Shard::all(), nodes, current)
}

/// [`desired`] for some of the shards, as if there were no others.
pub fn desired_of(
    shards: impl IntoIterator<Item = Shard>,
    nodes: &BTreeSet<NodeId>,
    current: &BTreeMap<Shard, NodeId>,
) -> Vec<Move> {
    if nodes.is_empty() {
        return Vec::new();
    }
    let mut plan = Plan::new(shards, nodes, current);
    plan.place_orphans();
    plan.balance();
    let owner = |shard: &Shard| {
        current
            .get(shard)
            .copied()
            .filter(|node| nodes.contains(node))
    };
    let mut moves: Vec<Move> = plan
        .owned
        .iter()
        .flat_map(|(to, shards)| shards.iter().map(|shard| (*shard, *to)))
        .map(|(shard, to)| Move {
            shard,
            from: owner(&shard),
            to,
        })
        .filter(|planned| planned.from != Some(planned.to))
        .collect();
    moves.sort_unstable_by_key(|planned| planned.shard);
    moves
}

/// The moves to begin now, while `in_motion` hand-overs between living owners are under way:
/// shards without an owner at once, others within [`MOST_IN_MOTION`].
pub fn begin_now(moves: &[Move], in_motion: usize) -> Vec<Move> {
    begin_within(moves, MOST_IN_MOTION.saturating_sub(in_motion))
}

/// The moves to begin now when there is room for so many hand-overs between living owners.
pub fn begin_within(moves: &[Move], mut room: usize) -> Vec<Move> {
    let mut fits = |planned: &&Move| {
        let fits = planned.from.is_none() || room > 0;
        room -= usize::from(fits && planned.from.is_some());
        fits
    };
    moves
        .iter()
        .filter(|planned| fits(planned))
        .copied()
        .collect()
}

/// How even a placement is, and what a node that joins costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evenness {
    /// The nodes before one joined.
    pub nodes: usize,
    /// The fewest shards of a node, before and after.
    pub fewest: [usize; 2],
    /// The most shards of a node, before and after.
    pub most: [usize; 2],
    /// Shards that changed their owner for the one that joined.
    pub moved: usize,
}

impl Evenness {
    /// Places all shards on `nodes` nodes, then lets one more join.
    pub fn of(nodes: usize) -> Self {
        let names = |count: usize| (1..=count as u64).map(NodeId).collect::<BTreeSet<_>>();
        let (before, after) = (names(nodes), names(nodes + 1));
        let mut owners = BTreeMap::new();
        follow(&mut owners, &desired(&before, &BTreeMap::new()));
        let first = counts(&before, &owners);
        let moves = desired(&after, &owners);
        follow(&mut owners, &moves);
        let second = counts(&after, &owners);
        let of = |pick: fn(&[usize]) -> usize| [pick(&first), pick(&second)];
        Self {
            nodes,
            fewest: of(|counts| counts.iter().copied().min().unwrap_or(0)),
            most: of(|counts| counts.iter().copied().max().unwrap_or(0)),
            moved: moves.len(),
        }
    }

    /// Whether every node has between the floor and the ceiling of the mean, before and after.
    pub fn is_even(&self) -> bool {
        let shards = usize::from(SHARDS);
        [self.nodes, self.nodes + 1]
            .iter()
            .enumerate()
            .all(|(at, nodes)| {
                self.fewest[at] >= shards / nodes && self.most[at] <= shards.div_ceil(*nodes)
            })
    }

    /// The shards that have to move at least for the new node to have a whole share: the floor of
    /// the mean.
    pub fn least_moved(&self) -> usize {
        usize::from(SHARDS) / (self.nodes + 1)
    }
}

fn follow(owners: &mut BTreeMap<Shard, NodeId>, moves: &[Move]) {
    owners.extend(moves.iter().map(|planned| (planned.shard, planned.to)));
}

fn counts(nodes: &BTreeSet<NodeId>, owners: &BTreeMap<Shard, NodeId>) -> Vec<usize> {
    let of = |node: &NodeId| owners.values().filter(|owner| *owner == node).count();
    nodes.iter().map(of).collect()
}

struct Plan {
    owned: BTreeMap<NodeId, Vec<Shard>>,
    orphans: Vec<Shard>,
    shards: usize,
}

impl Plan {
    fn new(
        all: impl IntoIterator<Item = Shard>,
        nodes: &BTreeSet<NodeId>,
        current: &BTreeMap<Shard, NodeId>,
    ) -> Self {
        let mut plan = Self {
            owned: nodes.iter().map(|node| (*node, Vec::new())).collect(),
            orphans: Vec::new(),
            shards: 0,
        };
        for shard in all {
            plan.shards += 1;
            match current
                .get(&shard)
                .and_then(|node| plan.owned.get_mut(node))
            {
                Some(shards) => shards.push(shard),
                None => plan.orphans.push(shard),
            }
        }
        plan
    }

    fn floor(&self) -> usize {
        self.shards / self.owned.len()
    }

    fn ceiling(&self) -> usize {
        self.shards.div_ceil(self.owned.len())
    }

    /// Each shard without an owner goes to the node that it ranks highest among those with room.
    fn place_orphans(&mut self) {
        let ceiling = self.ceiling();
        for shard in std::mem::take(&mut self.orphans) {
            let with_room = self
                .owned
                .iter_mut()
                .filter(|(_, shards)| shards.len() < ceiling);
            let best = with_room.max_by_key(|(node, _)| (rank(shard, **node), **node));
            let (_, shards) = best.expect("the ceilings together hold every shard");
            shards.push(shard);
        }
    }

    fn balance(&mut self) {
        let (floor, ceiling) = (self.floor(), self.ceiling());
        loop {
            let sizes = || {
                self.owned
                    .iter()
                    .map(|(node, shards)| (shards.len(), *node))
            };
            let (Some(fullest), Some(emptiest)) = (sizes().max(), sizes().min()) else {
                return;
            };
            if fullest.0 <= ceiling && emptiest.0 >= floor {
                return;
            }
            let (from, to) = (fullest.1, emptiest.1);
            let shards = self.owned.entry(from).or_default();
            let lowest = (0..shards.len()).min_by_key(|at| rank(shards[*at], from));
            let shard = shards.swap_remove(lowest.expect("the fullest node has a shard"));
            self.owned.entry(to).or_default().push(shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
        numbers.into_iter().map(NodeId).collect()
    }

    #[test]
    fn shards_that_follow_each_other_in_order_are_far_apart() {
        let mut all: Vec<Shard> = Shard::all().collect();

        all.sort_by_key(|shard| order(*shard));

        for few in all.chunks(64) {
            let groups: BTreeSet<u16> = few.iter().map(|shard| shard.number() / 16).collect();
            assert_eq!(groups.len(), 64);
        }
    }

    fn after(current: &BTreeMap<Shard, NodeId>, moves: &[Move]) -> BTreeMap<Shard, NodeId> {
        let mut owners = current.clone();
        owners.extend(moves.iter().map(|planned| (planned.shard, planned.to)));
        owners
    }

    fn settled(on: &BTreeSet<NodeId>) -> BTreeMap<Shard, NodeId> {
        after(&BTreeMap::new(), &desired(on, &BTreeMap::new()))
    }

    fn assert_balanced(owners: &BTreeMap<Shard, NodeId>, on: &BTreeSet<NodeId>) {
        assert_eq!(owners.len(), usize::from(SHARDS));
        let (floor, ceiling) = (1_024 / on.len(), 1_024_usize.div_ceil(on.len()));
        for node in on {
            let count = owners.values().filter(|owner| *owner == node).count();
            assert!(
                (floor..=ceiling).contains(&count),
                "{count} on {node:?} of {}",
                on.len()
            );
        }
    }

    #[test]
    fn shards_are_balanced_on_any_number_of_nodes_and_stay_there() {
        for count in [1, 3, 10, 50, 100] {
            let on = nodes(1..=count);
            let owners = settled(&on);

            assert_balanced(&owners, &on);
            assert_eq!(desired(&on, &owners), []);
        }
    }

    #[test]
    fn a_node_that_joins_moves_hardly_more_than_its_share() {
        for nodes in [3, 10, 50, 100] {
            let seen = Evenness::of(nodes);

            assert!(seen.is_even(), "{seen:?}");
            assert!(seen.moved * 100 <= seen.least_moved() * 105, "{seen:?}");
        }
    }

    #[test]
    fn a_node_that_joins_gets_its_share_and_nothing_else_moves() {
        for count in [3, 10, 50, 100] {
            let before = settled(&nodes(1..=count));
            let on = nodes(1..=count + 1);

            let moves = desired(&on, &before);

            assert_balanced(&after(&before, &moves), &on);
            assert!(moves.iter().all(|planned| planned.to == NodeId(count + 1)));
            assert!(
                moves.len() <= 1_024_usize.div_ceil(on.len()),
                "{} moves",
                moves.len()
            );
        }
    }

    #[test]
    fn when_a_node_leaves_its_shards_spread_and_few_others_move() {
        for count in [3, 10, 50, 100] {
            let before = settled(&nodes(1..=count));
            let on = nodes(2..=count);

            let moves = desired(&on, &before);

            assert_balanced(&after(&before, &moves), &on);
            let between_the_living = moves.iter().filter(|m| m.from.is_some()).count();
            assert!(
                between_the_living <= on.len(),
                "{between_the_living} of {count}"
            );
        }
    }

    #[test]
    fn without_nodes_nothing_moves() {
        assert_eq!(desired(&BTreeSet::new(), &settled(&nodes(1..=3))), []);
    }

    #[test]
    fn orphans_are_placed_at_once_and_balancing_goes_in_small_steps() {
        let before: BTreeMap<_, _> = Shard::all().skip(100).map(|s| (s, NodeId(1))).collect();
        let moves = desired(&nodes(1..=4), &before);

        let now = begin_now(&moves, MOST_IN_MOTION - 10);

        assert_eq!(
            now.iter().filter(|planned| planned.from.is_none()).count(),
            100
        );
        assert_eq!(
            now.iter().filter(|planned| planned.from.is_some()).count(),
            10
        );
    }
}
