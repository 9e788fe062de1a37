//! Who owns a shard, what of its former owners counts, and what they may have sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Incarnation, NodeId, NodeRow, NodeState};
use crate::id::{Epoch, MessageId};

/// The most claims without an outcome that an instance has at once: the most messages that a crash
/// can leave ambiguous.
pub const MAX_CLAIMS: usize = 200;

/// One life of a node, as an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

impl Owner {
    /// Whether this life is over, by the lease row of its node.
    pub fn is_gone(&self, row: &NodeRow) -> bool {
        row.incarnation > self.incarnation
            || (row.incarnation == self.incarnation && row.state == NodeState::Dead)
    }
}

/// The row of a shard: changed only by compare-and-set, with a new epoch each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShardRow {
    /// Who owns it; `None` is nobody.
    pub owner: Option<Owner>,
    /// Counts its changes.
    pub epoch: Epoch,
    /// Who should take it, by the last owner's wish.
    pub next: Option<NodeId>,
}

/// Why a shard row does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardRowError {
    /// Another node owns it, and its lease is not known to be dead.
    #[error("the shard has an owner that may be alive")]
    Owned,
    /// The caller does not own it in that epoch.
    #[error("the shard is not held by the caller in this epoch")]
    NotHeld,
}

impl ShardRow {
    /// The row as `me` takes it: when nobody owns it, when its owner is gone by `owner_row`, or
    /// when `me` is named and does not hold it.
    ///
    /// # Errors
    /// [`ShardRowError::Owned`].
    pub fn taken(&self, me: Owner, owner_row: Option<&NodeRow>) -> Result<Self, ShardRowError> {
        let free = self
            .owner
            .is_none_or(|owner| owner == me || owner_row.is_some_and(|row| owner.is_gone(row)));
        if !free {
            return Err(ShardRowError::Owned);
        }
        Ok(Self {
            owner: Some(me),
            epoch: self.epoch.next(),
            next: None,
        })
    }

    /// Whether a conditional write of `epoch` applies: checkpoint, claims, seals, the ceiling of
    /// ids. A deposed owner's does not, whatever it believes.
    pub fn admits(&self, epoch: Epoch) -> bool {
        self.owner.is_some() && self.epoch == epoch
    }

    /// The row as its owner gives it up, to `next` if anybody. Before it asks for this it stops
    /// answering and sending: the shard may have a new owner before the answer comes.
    ///
    /// # Errors
    /// [`ShardRowError::NotHeld`] when `me` lost it meanwhile.
    pub fn released(
        &self,
        me: Owner,
        epoch: Epoch,
        next: Option<NodeId>,
    ) -> Result<Self, ShardRowError> {
        if self.owner != Some(me) || self.epoch != epoch {
            return Err(ShardRowError::NotHeld);
        }
        Ok(Self {
            owner: None,
            epoch: epoch.next(),
            next,
        })
    }
}

/// What of the acceptance log of a shard counts: of each former epoch, the chunks that its
/// successor had read when it took over. A write of a deposed owner that lands later is void.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seals {
    /// Every epoch below this one is sealed.
    below: Epoch,
    /// The highest id of each sealed epoch that counts; a sealed epoch without one has none.
    highest: BTreeMap<Epoch, MessageId>,
}

impl Seals {
    /// Seals every epoch below `epoch` that is not sealed yet, with the chunks (epoch, last id)
    /// that the tail held at a quorum.
    pub fn seal_below(&mut self, epoch: Epoch, tail: impl IntoIterator<Item = (Epoch, MessageId)>) {
        let unsealed = self.below..epoch.max(self.below);
        for (of, last) in tail.into_iter().filter(|(of, _)| unsealed.contains(of)) {
            let highest = self.highest.entry(of).or_insert(last);
            *highest = last.max(*highest);
        }
        self.below = unsealed.end;
    }

    /// Whether a chunk with this last id does not count.
    pub fn is_void(&self, epoch: Epoch, last: MessageId) -> bool {
        epoch < self.below
            && self
                .highest
                .get(&epoch)
                .is_none_or(|highest| last > *highest)
    }

    /// Forgets the seals of epochs below `epoch`, once retention dropped all their chunks.
    pub fn forget_below(&mut self, epoch: Epoch) {
        self.highest = self.highest.split_off(&epoch);
    }
}

/// Which attempt of which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The message.
    pub id: MessageId,
    /// The attempt, from 1.
    pub attempt: u8,
}

/// Why nothing was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// [`MAX_CLAIMS`] have no outcome.
    #[error("too many attempts have no outcome yet")]
    Full,
    /// The attempt before has no durable refusal.
    #[error("the attempt before has no durable refusal")]
    Unanswered,
}

/// The attempts of an instance that may have been made and have no durable outcome, for channels
/// that cannot tell a repetition. Durable, under the epoch, before a frame leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claims(BTreeMap<MessageId, u8>);

impl Claims {
    /// Claims an attempt. Its frame may leave once the claim is durable.
    ///
    /// # Errors
    /// [`ClaimError`]; nothing changed then.
    pub fn claim(&mut self, id: MessageId, attempt: u8) -> Result<Claim, ClaimError> {
        if self.0.contains_key(&id) {
            return Err(ClaimError::Unanswered);
        }
        if self.0.len() >= MAX_CLAIMS {
            return Err(ClaimError::Full);
        }
        self.0.insert(id, attempt);
        Ok(Claim { id, attempt })
    }

    /// Nobody waits for an attempt any more: its outcome is durable, or its frame is known never to
    /// have left, or its sender wants the message repeated without one.
    pub fn answered(&mut self, claim: Claim) {
        if self.of(claim.id) == Some(claim) {
            self.0.remove(&claim.id);
        }
    }

    /// The attempt of a message that has no outcome.
    pub fn of(&self, id: MessageId) -> Option<Claim> {
        let attempt = *self.0.get(&id)?;
        Some(Claim { id, attempt })
    }

    /// How many more may be claimed.
    pub fn room(&self) -> usize {
        MAX_CLAIMS.saturating_sub(self.0.len())
    }

    /// What has no outcome: for a new owner, exactly what is ambiguous.
    pub fn open(&self) -> impl Iterator<Item = Claim> + '_ {
        self.0.iter().map(|(id, attempt)| Claim {
            id: *id,
            attempt: *attempt,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Shard, Tick};

    fn owner(node: u64, incarnation: u64) -> Owner {
        Owner {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
        }
    }

    fn id(n: u64) -> MessageId {
        MessageId::give(Tick(n), Shard::of(1))
    }

    fn owned() -> ShardRow {
        ShardRow {
            owner: Some(owner(1, 5)),
            epoch: Epoch(7),
            next: None,
        }
    }

    fn node_row(incarnation: u64, state: NodeState) -> NodeRow {
        NodeRow {
            incarnation: Incarnation(incarnation),
            sequence: 9,
            state,
        }
    }

    #[test]
    fn a_shard_of_a_live_owner_cannot_be_taken() {
        for row in [
            None,
            Some(node_row(5, NodeState::Alive)),
            Some(node_row(4, NodeState::Dead)),
        ] {
            assert_eq!(
                owned().taken(owner(2, 1), row.as_ref()),
                Err(ShardRowError::Owned)
            );
        }
    }

    #[test]
    fn a_shard_of_a_dead_or_reborn_owner_is_taken_in_the_next_epoch() {
        for row in [node_row(5, NodeState::Dead), node_row(6, NodeState::Alive)] {
            let taken = owned().taken(owner(2, 1), Some(&row)).unwrap();

            assert_eq!((taken.owner, taken.epoch), (Some(owner(2, 1)), Epoch(8)));
        }
    }

    #[test]
    fn who_is_named_but_does_not_hold_takes_it_again() {
        assert_eq!(owned().taken(owner(1, 5), None).unwrap().epoch, Epoch(8));
    }

    #[test]
    fn only_the_holder_of_the_epoch_releases_a_shard() {
        let released = owned()
            .released(owner(1, 5), Epoch(7), Some(NodeId(2)))
            .unwrap();

        assert_eq!((released.owner, released.next), (None, Some(NodeId(2))));
        assert_eq!(released.taken(owner(2, 1), None).unwrap().epoch, Epoch(9));
        let late = owned().released(owner(1, 5), Epoch(6), None);
        assert_eq!(late, Err(ShardRowError::NotHeld));
        let other = owned().released(owner(2, 1), Epoch(7), None);
        assert_eq!(other, Err(ShardRowError::NotHeld));
    }

    #[test]
    fn conditional_writes_of_any_other_epoch_are_refused() {
        let released = owned().released(owner(1, 5), Epoch(7), None).unwrap();

        assert!(owned().admits(Epoch(7)));
        assert!(!owned().admits(Epoch(6)) && !owned().admits(Epoch(8)));
        assert!(!released.admits(Epoch(7)) && !released.admits(Epoch(8)));
    }

    #[test]
    fn a_late_write_of_a_deposed_owner_stays_void() {
        let mut seals = Seals::default();
        seals.seal_below(
            Epoch(3),
            [(Epoch(1), id(10)), (Epoch(1), id(20)), (Epoch(3), id(90))],
        );

        assert!(!seals.is_void(Epoch(1), id(20)));
        assert!(seals.is_void(Epoch(1), id(21)));
        assert!(
            seals.is_void(Epoch(2), id(1)),
            "an epoch of which nothing was read"
        );
        assert!(!seals.is_void(Epoch(3), id(90)));
    }

    #[test]
    fn a_seal_is_never_moved() {
        let mut seals = Seals::default();
        seals.seal_below(Epoch(2), [(Epoch(1), id(20))]);
        seals.seal_below(Epoch(3), [(Epoch(1), id(30)), (Epoch(2), id(40))]);
        seals.seal_below(Epoch(2), [(Epoch(2), id(50))]);

        assert!(seals.is_void(Epoch(1), id(30)));
        assert!(!seals.is_void(Epoch(2), id(40)));
        assert!(seals.is_void(Epoch(2), id(50)));
    }

    #[test]
    fn an_attempt_is_claimed_only_when_the_one_before_has_a_durable_outcome() {
        let mut claims = Claims::default();
        let first = claims.claim(id(1), 1).unwrap();

        assert_eq!(claims.claim(id(1), 1), Err(ClaimError::Unanswered));
        assert_eq!(claims.claim(id(1), 2), Err(ClaimError::Unanswered));
        claims.answered(first);
        let second = claims.claim(id(1), 2).unwrap();
        claims.answered(first);

        assert_eq!(
            claims.of(id(1)),
            Some(second),
            "the answer to the first is not the second's"
        );
    }

    #[test]
    fn at_most_200_attempts_of_an_instance_have_no_outcome() {
        let mut claims = Claims::default();
        let made = (0..300).filter(|n| claims.claim(id(*n), 1).is_ok()).count();

        assert_eq!((made, claims.room()), (MAX_CLAIMS, 0));
        assert_eq!(claims.claim(id(299), 1), Err(ClaimError::Full));
        claims.answered(Claim {
            id: id(0),
            attempt: 1,
        });
        assert!(claims.claim(id(299), 1).is_ok());
    }
}
