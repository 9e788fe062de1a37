//! Whole clusters that plan until nobody has anything to do.

use super::*;
use crate::id::SHARDS;

/// Every node plans over the same rows, and all of it is done at once; answers how many seconds
/// it took until nobody had anything to do.
fn settle(world: &mut World, patience: &mut BTreeMap<u64, Patience>, from: u64) -> u64 {
    let nodes: Vec<u64> = world.nodes.keys().map(|node| node.0).collect();
    for second in from..from + 300 {
        let mut idle = true;
        for node in &nodes {
            let known = std::mem::replace(world, World::new(0, 0)).holding(*node);
            *world = known;
            let todo = world.plan(*node, patience.entry(*node).or_default(), at(second));
            idle &= todo.steps.is_empty() && todo.again.is_none();
            for (shard, step) in todo.steps {
                let row = world.rows[&shard];
                let lease = row.owner.and_then(|owner| world.nodes.get(&owner.node));
                let after = match step {
                    Step::Take => row.taken(owner(*node), lease).unwrap(),
                    Step::Give(to) => given(*node, to, &row),
                    Step::Lose => row,
                };
                world.rows.insert(shard, after);
            }
        }
        if idle {
            return second - from;
        }
    }
    panic!("it never settles");
}

/// A shard is released, and whom it is released to takes it when told.
fn given(by: u64, to: Option<NodeId>, row: &ShardRow) -> ShardRow {
    let released = row.released(owner(by), row.epoch, to).unwrap();
    to.map_or(released, |to| released.taken(owner(to.0), None).unwrap())
}

fn assert_balanced(world: &World) {
    let alive = world
        .nodes
        .iter()
        .filter(|(_, row)| row.state == NodeState::Alive);
    let (total, alive): (usize, Vec<NodeId>) = (world.rows.len(), alive.map(|(n, _)| *n).collect());
    let (floor, ceiling) = (total / alive.len(), total.div_ceil(alive.len()));
    for node in alive {
        let has = |row: &&ShardRow| row.owner.is_some_and(|owner| owner.node == node);
        let count = world.rows.values().filter(has).count();
        assert!((floor..=ceiling).contains(&count), "{count} on {node:?}");
    }
}

#[test]
fn any_cluster_settles_balanced_when_nodes_join_leave_and_die() {
    for nodes in [1, 3, 10] {
        let (mut world, mut patience) = (World::new(SHARDS, nodes), BTreeMap::new());

        settle(&mut world, &mut patience, 0);
        assert_balanced(&world);

        world.nodes.insert(NodeId(nodes + 1), NodeRow::joined(None));
        let joined = settle(&mut world, &mut patience, 1_000);
        assert_balanced(&world);
        assert!(joined <= 60, "{joined} s for a join of {nodes}");

        let mut world = world.is(1, NodeState::Dead);
        let died = settle(&mut world, &mut patience, 2_000);
        assert_balanced(&world);
        assert!(died <= 15, "{died} s for a death among {nodes}");
    }
}
