use super::*;
use crate::lease::Incarnation;

mod settling;

fn at(seconds: u64) -> Mono {
    Mono::from_nanos(seconds * 1_000_000_000)
}

fn owner(node: u64) -> Owner {
    Owner {
        node: NodeId(node),
        incarnation: Incarnation(1),
    }
}

fn shard(number: u16) -> Shard {
    Shard::new(number).unwrap()
}

/// A few shards and nodes, each node alive in its first life.
struct World {
    rows: BTreeMap<Shard, ShardRow>,
    nodes: BTreeMap<NodeId, NodeRow>,
    held: BTreeMap<Shard, Epoch>,
    silent: BTreeSet<NodeId>,
    leaving: bool,
}

impl World {
    fn new(shards: u16, nodes: u64) -> Self {
        let nodes = 1..=nodes;
        Self {
            rows: Shard::all()
                .take(usize::from(shards))
                .map(|s| (s, ShardRow::default()))
                .collect(),
            nodes: nodes
                .map(|node| (NodeId(node), NodeRow::joined(None)))
                .collect(),
            held: BTreeMap::new(),
            silent: BTreeSet::new(),
            leaving: false,
        }
    }

    /// All shards are owned by one node.
    fn owned_by(mut self, node: u64) -> Self {
        for row in self.rows.values_mut() {
            (row.owner, row.epoch) = (Some(owner(node)), Epoch(1));
        }
        self
    }

    fn is(mut self, node: u64, state: NodeState) -> Self {
        self.nodes
            .entry(NodeId(node))
            .and_modify(|row| row.state = state);
        self
    }

    fn holding(mut self, node: u64) -> Self {
        let mine = self
            .rows
            .iter()
            .filter(|(_, row)| row.owner == Some(owner(node)));
        self.held = mine.map(|(shard, row)| (*shard, row.epoch)).collect();
        self
    }

    fn seen(&self, node: u64) -> Seen<'_> {
        Seen {
            me: owner(node),
            leaving: self.leaving,
            rows: &self.rows,
            nodes: &self.nodes,
            held: &self.held,
            silent: &self.silent,
        }
    }

    fn plan(&self, node: u64, patience: &mut Patience, now: Mono) -> Todo {
        patience.plan(&self.seen(node), now)
    }
}

fn takes(todo: &Todo) -> usize {
    todo.steps
        .values()
        .filter(|step| **step == Step::Take)
        .count()
}

fn gives(todo: &Todo) -> Vec<(Shard, Option<NodeId>)> {
    let give = |(shard, step): (&Shard, &Step)| match step {
        Step::Give(to) => Some((*shard, *to)),
        Step::Take | Step::Lose => None,
    };
    todo.steps.iter().filter_map(give).collect()
}

#[test]
fn free_shards_are_shared_out_at_once_and_each_has_one_first_taker() {
    let world = World::new(100, 3);

    let taken: Vec<Todo> = (1..=3)
        .map(|node| world.plan(node, &mut Patience::default(), at(0)))
        .collect();

    let all: BTreeSet<Shard> = taken
        .iter()
        .flat_map(|todo| todo.steps.keys().copied())
        .collect();
    assert_eq!(
        (all.len(), taken.iter().map(takes).sum::<usize>()),
        (100, 100)
    );
    assert!(taken.iter().all(|todo| (33..=34).contains(&takes(todo))));
}

#[test]
fn who_is_named_waits_for_the_word_of_who_released_it_and_then_takes() {
    let mut world = World::new(1, 2);
    for row in world.rows.values_mut() {
        (row.epoch, row.next) = (Epoch(2), Some(NodeId(2)));
    }
    let mut patience = Patience::default();
    let begun = at(1);

    let first = world.plan(2, &mut patience, begun);
    let then = world.plan(2, &mut patience, begun + TOLD);

    assert_eq!((takes(&first), first.again), (0, Some(TOLD)));
    assert_eq!(takes(&then), 1);
}

#[test]
fn who_is_next_in_line_takes_what_the_first_does_not() {
    let (world, mut patience) = (World::new(100, 3), Patience::default());

    let first = world.plan(1, &mut patience, at(0));
    let second = world.plan(1, &mut patience, at(1));
    let third = world.plan(1, &mut patience, at(2));

    assert_eq!(first.again, Some(TURN));
    assert!(takes(&first) < takes(&second) && takes(&second) < takes(&third));
    assert_eq!(takes(&third), 100);
}

#[test]
fn a_shard_that_changed_is_waited_for_anew() {
    let (mut world, mut patience) = (World::new(1, 2), Patience::default());
    let late = (1..=2).find(|node| takes(&world.plan(*node, &mut Patience::default(), at(0))) == 0);
    let late = late.unwrap();
    world.plan(late, &mut patience, at(0));

    world.rows.insert(
        shard(0),
        ShardRow {
            epoch: Epoch(4),
            ..ShardRow::default()
        },
    );
    let changed = world.plan(late, &mut patience, at(1));

    assert_eq!((takes(&changed), changed.again), (0, Some(TURN)));
}

#[test]
fn shards_of_a_living_owner_are_left_alone() {
    let world = World::new(10, 2).owned_by(1);

    let todo = world.plan(2, &mut Patience::default(), at(0));

    assert_eq!(todo.steps, BTreeMap::new());
}

#[test]
fn shards_of_a_dead_node_are_taken_and_those_of_an_unknown_one_are_not() {
    let dead = World::new(10, 2).owned_by(1).is(1, NodeState::Dead);
    let unknown = World::new(10, 2).owned_by(9);

    assert_eq!(takes(&dead.plan(2, &mut Patience::default(), at(0))), 10);
    assert_eq!(takes(&unknown.plan(2, &mut Patience::default(), at(0))), 0);
}

#[test]
fn a_node_that_was_restarted_gets_its_own_shards_back_first() {
    let mut world = World::new(10, 1).owned_by(1);
    let next_life = NodeRow::joined(Some(&world.nodes[&NodeId(1)]));
    world.nodes.insert(NodeId(1), next_life);
    let reborn = Owner {
        incarnation: next_life.incarnation,
        ..owner(1)
    };
    world.nodes.insert(NodeId(2), NodeRow::joined(None));

    let back = Patience::default().plan(
        &Seen {
            me: reborn,
            ..world.seen(1)
        },
        at(0),
    );
    let other = world.plan(2, &mut Patience::default(), at(0));

    // Half of them are the other's by balance, and by nothing else.
    assert_eq!((takes(&back), takes(&other)), (5, 5));
}

#[test]
fn who_is_named_as_owner_and_does_not_hold_takes_again() {
    let world = World::new(10, 2).owned_by(1);

    let todo = world.plan(1, &mut Patience::default(), at(0));

    assert_eq!(takes(&todo), 10);
}

#[test]
fn what_another_node_took_is_dropped_and_an_old_row_drops_nothing() {
    let mut world = World::new(2, 2).owned_by(2);
    world.rows.values_mut().for_each(|row| row.epoch = Epoch(5));
    world.held = BTreeMap::from([(shard(0), Epoch(4)), (shard(1), Epoch(6))]);

    let todo = world.plan(1, &mut Patience::default(), at(0));

    assert_eq!(todo.steps, BTreeMap::from([(shard(0), Step::Lose)]));
}

#[test]
fn balancing_waits_until_the_nodes_stay_the_same_and_goes_in_small_steps() {
    let (world, mut patience) = (
        World::new(100, 2).owned_by(1).holding(1),
        Patience::default(),
    );

    let soon = world.plan(1, &mut patience, at(0));
    let calm = world.plan(1, &mut patience, at(10));

    assert_eq!((gives(&soon).len(), soon.again), (0, Some(CALM)));
    assert_eq!((gives(&calm).len(), calm.again), (5, Some(SOON)));
    assert!(gives(&calm).iter().all(|(_, to)| *to == Some(NodeId(2))));
}

#[test]
fn a_node_that_comes_and_goes_moves_nothing() {
    let (world, mut patience) = (
        World::new(100, 2).owned_by(1).holding(1),
        Patience::default(),
    );
    let without = World::new(100, 1).owned_by(1).holding(1);

    for second in 0..60 {
        let seen = if second % 9 < 5 { &world } else { &without };
        assert_eq!(gives(&seen.plan(1, &mut patience, at(second))), []);
    }
}

#[test]
fn what_is_on_its_way_counts_against_what_may_move() {
    let mut world = World::new(100, 2).owned_by(1);
    for number in 0..3 {
        let row = ShardRow {
            owner: None,
            epoch: Epoch(2),
            next: Some(NodeId(2)),
        };
        world.rows.insert(shard(number), row);
    }
    let (world, mut patience) = (world.holding(1), Patience::default());
    world.plan(1, &mut patience, at(0));

    assert_eq!(gives(&world.plan(1, &mut patience, at(10))).len(), 2);
}

#[test]
fn nothing_is_given_to_a_node_that_nobody_hears() {
    let mut world = World::new(100, 2).owned_by(1).holding(1);
    world.silent.insert(NodeId(2));
    let mut patience = Patience::default();
    world.plan(1, &mut patience, at(0));

    assert_eq!(gives(&world.plan(1, &mut patience, at(10))), []);
}

#[test]
fn what_cannot_be_given_does_not_hold_back_what_can() {
    let mut world = World::new(100, 3).owned_by(1).holding(1);
    let mut patience = Patience::default();
    world.plan(1, &mut patience, at(0));

    for node in [2, 3] {
        world.silent = BTreeSet::from([NodeId(node)]);
        let given = gives(&world.plan(1, &mut patience, at(10)));

        assert_eq!(given.len(), 5);
        assert!(given.iter().all(|(_, to)| *to == Some(NodeId(5 - node))));
    }
}

#[test]
fn a_draining_node_gives_everything_at_once_to_who_should_have_it() {
    let world = World::new(100, 3)
        .owned_by(1)
        .holding(1)
        .is(1, NodeState::Draining);

    let given = gives(&world.plan(1, &mut Patience::default(), at(0)));

    for node in [2, 3] {
        let to = given
            .iter()
            .filter(|(_, to)| *to == Some(NodeId(node)))
            .count();
        assert_eq!(to, 50, "to node {node}");
    }
}

#[test]
fn a_node_without_others_keeps_its_shards_unless_it_leaves() {
    let mut world = World::new(3, 1)
        .owned_by(1)
        .holding(1)
        .is(1, NodeState::Draining);
    let kept = world.plan(1, &mut Patience::default(), at(0));

    world.leaving = true;
    let left = world.plan(1, &mut Patience::default(), at(0));

    assert_eq!(gives(&kept), []);
    assert_eq!(gives(&left), [0, 1, 2].map(|number| (shard(number), None)));
}

#[test]
fn a_draining_node_takes_nothing() {
    let world = World::new(10, 2).is(1, NodeState::Draining);

    assert_eq!(
        world.plan(1, &mut Patience::default(), at(60)).steps,
        BTreeMap::new()
    );
}
