//! Who did not take what it was given.
//!
//! A giver that hears nothing from the next owner does not know whether it took the shard: its
//! answer may be late, or it read the row before it was told. The rows say it: who leaves a shard to
//! somebody else in line is given nothing for a while. Nor is who does not answer at all, though it
//! takes what it is given: each shard waits for its next look at the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{Epoch, Shard};
use crate::lease::shard::ShardRow;
use crate::lease::{Incarnation, NodeId, NodeRow};
use crate::time::Mono;

/// How long nothing is given to a node that did not take what it was given: each try costs a
/// shard the turn of that node.
pub const HOLD_OFF: Duration = Duration::from_secs(30);

/// How many shards in a row a node may take without a word.
pub const WITHOUT_A_WORD: u8 = 4;

/// What one node knows of the others as takers.
#[derive(Clone, Debug, Default)]
pub struct Missed {
    /// Shards that nobody said to have taken, with whom they were released to and in which epoch.
    untold: BTreeMap<Shard, (NodeId, Epoch)>,
    /// How many shards in a row a node did not say to have taken.
    without_a_word: BTreeMap<NodeId, u8>,
    /// Which life of a node is given nothing, and until when.
    held_off: BTreeMap<NodeId, (Incarnation, Mono)>,
}

impl Missed {
    /// A shard was released to a node, in this epoch, and nobody said that it took it.
    pub fn untold(&mut self, shard: Shard, to: NodeId, released: Epoch) {
        self.untold.insert(shard, (to, released));
        let count = self.without_a_word.entry(to).or_default();
        *count = count.saturating_add(1);
    }

    /// A node said that it took a shard.
    pub fn told(&mut self, by: NodeId) {
        self.without_a_word.remove(&by);
    }

    /// The nodes that nothing is given to, by what the rows say now. The next life of a node
    /// starts anew.
    pub fn look(
        &mut self,
        rows: &BTreeMap<Shard, ShardRow>,
        nodes: &BTreeMap<NodeId, NodeRow>,
        now: Mono,
    ) -> BTreeSet<NodeId> {
        let held_off = &mut self.held_off;
        self.untold.retain(|shard, (to, released)| {
            let Some(row) = rows.get(shard).filter(|row| row.epoch > *released) else {
                return true;
            };
            let other = |node: NodeId| row.epoch == released.next() && node != *to;
            if let Some(node) = nodes.get(to)
                && row.owner.is_some_and(|owner| other(owner.node))
            {
                held_off.insert(*to, (node.incarnation, now + HOLD_OFF));
            }
            false
        });
        self.without_a_word.retain(|node, count| {
            let Some(row) = nodes.get(node).filter(|_| *count >= WITHOUT_A_WORD) else {
                return nodes.contains_key(node);
            };
            held_off.insert(*node, (row.incarnation, now + HOLD_OFF));
            false
        });
        held_off.retain(|node, (life, until)| {
            *until > now && nodes.get(node).is_some_and(|row| row.incarnation == *life)
        });
        held_off.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::shard::Owner;

    const SHARD: Shard = Shard::of(7);
    const NEXT: NodeId = NodeId(2);

    fn at(seconds: u64) -> Mono {
        Mono::from_nanos(seconds * 1_000_000_000)
    }

    fn owned(node: u64, epoch: u64) -> BTreeMap<Shard, ShardRow> {
        let owner = Owner {
            node: NodeId(node),
            incarnation: Incarnation(1),
        };
        let row = ShardRow {
            owner: Some(owner),
            epoch: Epoch(epoch),
            next: None,
        };
        BTreeMap::from([(SHARD, row)])
    }

    fn released() -> BTreeMap<Shard, ShardRow> {
        let row = ShardRow {
            owner: None,
            epoch: Epoch(4),
            next: Some(NEXT),
        };
        BTreeMap::from([(SHARD, row)])
    }

    fn nodes() -> BTreeMap<NodeId, NodeRow> {
        let nodes = (1..=3).map(NodeId);
        nodes.map(|node| (node, NodeRow::joined(None))).collect()
    }

    fn untold() -> Missed {
        let mut missed = Missed::default();
        missed.untold(SHARD, NEXT, Epoch(4));
        missed
    }

    #[test]
    fn who_took_a_shard_without_a_word_goes_on_being_given_others() {
        let mut missed = untold();

        let before = missed.look(&released(), &nodes(), at(1));
        let after = missed.look(&owned(2, 5), &nodes(), at(2));

        assert!(before.is_empty() && after.is_empty());
    }

    #[test]
    fn who_takes_several_in_a_row_without_a_word_is_given_nothing_for_a_while() {
        let mut missed = Missed::default();
        let several = |missed: &mut Missed| {
            let shards = Shard::all().take(usize::from(WITHOUT_A_WORD));
            shards.for_each(|shard| missed.untold(shard, NEXT, Epoch(4)));
        };

        several(&mut missed);
        missed.told(NEXT);
        let answered = missed.look(&released(), &nodes(), at(1));
        several(&mut missed);
        let seen = [2, 31, 32].map(|now| missed.look(&released(), &nodes(), at(now)));

        let held_off = BTreeSet::from([NEXT]);
        assert!(answered.is_empty());
        assert_eq!(seen, [held_off.clone(), held_off, BTreeSet::new()]);
    }

    #[test]
    fn who_left_a_shard_to_another_is_given_nothing_for_a_while() {
        let mut missed = untold();

        let seen = [2, 31, 32].map(|now| missed.look(&owned(3, 5), &nodes(), at(now)));

        let held_off = BTreeSet::from([NEXT]);
        assert_eq!(seen, [held_off.clone(), held_off, BTreeSet::new()]);
    }

    #[test]
    fn what_happened_after_that_blames_nobody() {
        let mut missed = untold();

        assert!(missed.look(&owned(3, 9), &nodes(), at(2)).is_empty());
        assert!(missed.look(&owned(3, 5), &nodes(), at(3)).is_empty());
    }

    #[test]
    fn the_next_life_of_a_node_is_given_shards_at_once() {
        let mut missed = untold();
        missed.look(&owned(3, 5), &nodes(), at(2));

        let mut again = nodes();
        again.insert(NEXT, NodeRow::joined(Some(&NodeRow::joined(None))));

        assert!(missed.look(&owned(3, 5), &again, at(3)).is_empty());
    }
}
