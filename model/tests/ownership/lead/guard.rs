//! The rules of production, each of which can be left out.

use std::collections::BTreeMap;

use zajil_model::id::{Epoch, ShardClock, Tick};
use zajil_model::lease::holder::{Found, Renewal};
use zajil_model::lease::leave::may_leave;
use zajil_model::lease::shard::{Owner, ShardRow, ShardRowError};
use zajil_model::lease::{Lease, NodeId, NodeRow, NodeState, UNCHANGED, Watch, expired};
use zajil_model::time::Mono;

use super::Scene;
use super::state::{Answer, Chunk, Held, Life};
use crate::takeover::{self, TakeOver};

/// What can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A shard is taken only when the lease row proves its owner gone, whatever gossip says.
    OwnerProvenGone,
    /// An owner counts its lease from before it asked.
    CountedFromAsking,
    /// A challenger counts from after it saw the row.
    CountedFromSeeing,
    /// A challenger waits until a lease was silent for long enough.
    SilenceProven,
    /// A row is declared dead only as it was seen.
    DeclaredAsSeen,
    /// A renewal that is asked again counts from the first time.
    DoubtKeepsItsTime,
    /// A renewal is a compare-and-set: a dead life stays dead.
    DeadStaysDead,
    /// Every change of the shard row has a new epoch.
    NewEpoch,
    /// A seal is written on the condition of the epoch.
    SealFenced,
    /// A new owner reads the tail of the log.
    TailRead,
    /// A new owner seals the epochs before.
    Sealed,
    /// It serves after the seal only.
    SealedBeforeServing,
    /// What is not durable is not answered.
    AnsweredWhenDurable,
    /// What became durable too late is not answered.
    AnsweredUnderLease,
    /// An append without an answer is repeated before the next.
    RepeatedBeforeNext,
    /// The ceiling of ids is durable before an id below it is given.
    CeilingDurable,
    /// A new owner gives ids above the ceiling of the one before.
    AboveCeiling,
    /// Who gives a shard up stops before it asks.
    StoppedBeforeRelease,
    /// A frame leaves under a good lease only.
    LeaseChecked,
}

impl Guard {
    /// Where it matters.
    pub(crate) const fn scene(self) -> Scene {
        match self {
            Self::OwnerProvenGone
            | Self::CountedFromAsking
            | Self::CountedFromSeeing
            | Self::SilenceProven
            | Self::DeclaredAsSeen
            | Self::DoubtKeepsItsTime
            | Self::DeadStaysDead
            | Self::NewEpoch
            | Self::LeaseChecked => Scene::Leases,
            _ => Scene::Log,
        }
    }
}

/// Each of them.
pub(crate) const GUARDS: &[Guard] = &[
    Guard::OwnerProvenGone,
    Guard::CountedFromAsking,
    Guard::CountedFromSeeing,
    Guard::SilenceProven,
    Guard::DeclaredAsSeen,
    Guard::DoubtKeepsItsTime,
    Guard::DeadStaysDead,
    Guard::NewEpoch,
    Guard::SealFenced,
    Guard::TailRead,
    Guard::Sealed,
    Guard::SealedBeforeServing,
    Guard::AnsweredWhenDurable,
    Guard::AnsweredUnderLease,
    Guard::RepeatedBeforeNext,
    Guard::CeilingDurable,
    Guard::AboveCeiling,
    Guard::StoppedBeforeRelease,
    Guard::LeaseChecked,
];

/// A peer that is always well, as most are: so that the mass guard, which waits longer than this world
/// lasts, stays out of it.
const WITNESS: NodeId = NodeId(99);

/// The rules, as this world asks them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    left_out: Option<Guard>,
}

impl Rules {
    pub(crate) const fn sound() -> Self {
        Self { left_out: None }
    }

    pub(crate) const fn without(guard: Guard) -> Self {
        Self {
            left_out: Some(guard),
        }
    }

    pub(crate) fn lack(&self, guard: Guard) -> bool {
        self.left_out == Some(guard)
    }

    pub(crate) fn taken(
        &self,
        shard: &ShardRow,
        me: Owner,
        owner_row: Option<&NodeRow>,
    ) -> Result<ShardRow, ShardRowError> {
        let rumour = owner_row.map(|row| NodeRow {
            state: NodeState::Dead,
            ..*row
        });
        let row = if self.lack(Guard::OwnerProvenGone) {
            rumour.as_ref()
        } else {
            owner_row
        };
        let mut taken = shard.taken(me, row)?;
        if self.lack(Guard::NewEpoch) {
            taken.epoch = shard.epoch;
        }
        Ok(taken)
    }

    /// A renewal lands in the store.
    pub(crate) fn land(&self, row: NodeRow, renewal: &Renewal) -> NodeRow {
        if row == renewal.before || self.lack(Guard::DeadStaysDead) {
            renewal.after
        } else {
            row
        }
    }

    /// A node hears, or reads, what became of its renewal.
    pub(crate) fn follow(
        &self,
        life: &mut Life,
        renewal: &Renewal,
        answer: Answer,
        now: Mono,
    ) -> Found {
        let holder = &mut life.holder;
        match answer {
            Answer::Applied => {
                let mut renewal = *renewal;
                if self.lack(Guard::CountedFromAsking) {
                    renewal.asked_at = now;
                }
                holder.applied(&renewal);
                Found::Renewed
            }
            Answer::Row(row) if row == renewal.after && self.lack(Guard::DoubtKeepsItsTime) => {
                holder.applied(renewal);
                Found::Renewed
            }
            Answer::Row(row) => holder.found(Some(&row)),
        }
    }

    pub(crate) fn observe(&self, watch: &mut Watch, row: NodeRow, asked: Mono, now: Mono) {
        let since = if self.lack(Guard::CountedFromSeeing) {
            asked
        } else {
            now
        };
        watch.observe(row, since);
    }

    /// The row of a peer as it is to be declared dead, if it is.
    pub(crate) fn dead(
        &self,
        life: &Life,
        peer: NodeId,
        row: &NodeRow,
        now: Mono,
    ) -> Option<NodeRow> {
        let now = if self.lack(Guard::SilenceProven) {
            now + UNCHANGED
        } else {
            now
        };
        let watches = BTreeMap::from([(peer, life.watch), (WITNESS, well(now))]);
        let (_, seen) = expired(&watches, now).into_iter().next()?;
        let seen = if self.lack(Guard::DeclaredAsSeen) {
            *row
        } else {
            seen
        };
        row.declared_dead(&seen)
    }

    pub(crate) fn serves(&self, steps: &TakeOver) -> Option<Epoch> {
        let unsealed = steps.next() == takeover::Step::Seal;
        if unsealed && self.lack(Guard::SealedBeforeServing) {
            return Some(steps.epoch());
        }
        steps.serves()
    }

    pub(crate) fn clock(&self, ceiling: Tick, tail: &[Chunk]) -> ShardClock {
        if self.lack(Guard::AboveCeiling) {
            let last = tail.iter().map(|chunk| chunk.id.tick()).max();
            return ShardClock::new(last.unwrap_or_default(), ceiling);
        }
        ShardClock::taken_over(ceiling)
    }

    pub(crate) fn may_answer(&self, life: &Life, held: &Held, chunk: &Chunk, now: Mono) -> bool {
        self.lack(Guard::AnsweredUnderLease)
            || may_leave(
                life.lease().send_until(),
                now,
                self.serves(&held.steps),
                Some(chunk.epoch),
            )
            .is_ok()
    }

    /// Whether a frame with a recorded attempt could leave now.
    pub(crate) fn leads(&self, life: &Life, now: Mono) -> bool {
        let served = life.held.as_ref().and_then(|held| self.serves(&held.steps));
        let lease = if self.lack(Guard::LeaseChecked) {
            Lease::local()
        } else {
            life.lease()
        };
        may_leave(lease.send_until(), now, served, served).is_ok()
    }
}

fn well(now: Mono) -> Watch {
    let mut watch = Watch::default();
    watch.observe(NodeRow::joined(None), now);
    watch
}
