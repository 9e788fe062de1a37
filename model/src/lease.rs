//! Who may send: the lease of a node, and how its peers find out that it ended.
//!
//! Each step is a function of a stored row, or of what was seen of it, and of the caller's own
//! clock. Nobody compares the clocks of two machines: an owner counts from before it *asked* for
//! its lease, a challenger from after it *saw* it. The second is the later one, so with
//! [`SEND_FOR`] < [`GOOD_FOR`] < [`UNCHANGED`] the owner has stopped before a challenger may say
//! that it did, as long as their clocks run at the same speed within one per cent.
//!
//! [`holder`] says what to make of a renewal without an answer; [`shard`] holds the rest of
//! ownership: shard rows, seals, claims; [`leave`] is the last question before a frame or an answer
//! leaves. A node alone, with the embedded store, has [`Lease::local`]: the lock of its
//! operating system on the data directory. `tests/ownership` walks through all that these rules let
//! happen.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Mono;

pub mod holder;
pub mod leave;
pub mod shard;
pub mod watch;

#[cfg(test)]
mod duel;

pub use watch::{UNCHANGED, Watch, expired, watches_closely};

/// How often a lease is renewed: two renewals may fail before sending stops.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);

/// How long to wait for a renewal before its outcome is unknown and the row is read.
pub const RENEWAL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long a lease is good, from before it was asked for.
pub const GOOD_FOR: Duration = Duration::from_secs(6);

/// How long its owner sends under it: a second less, for what is between check and socket.
pub const SEND_FOR: Duration = Duration::from_secs(5);

/// Names a node, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

/// Counts the lives of a node: a process that was declared dead goes on as the next one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// The right of this process to send, as it knows it. Times are of a clock that also counts while
/// the machine is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease(Term);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Term {
    Local,
    Asked(Mono),
    Lost,
}

/// What the holder of a lease may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Take, claim and send.
    Active,
    /// Nothing new until a renewal succeeds; its actors stay.
    Suspended,
    /// Nothing ever again: drop all shards and join as the next incarnation.
    Fenced,
}

impl Lease {
    /// The lease of a node that is alone: held by a lock, without an end.
    pub const fn local() -> Self {
        Self(Term::Local)
    }

    /// A lease that was granted; `asked_at` is from before the request was sent.
    pub const fn granted(asked_at: Mono) -> Self {
        Self(Term::Asked(asked_at))
    }

    /// A renewal succeeded; `asked_at` is from before its request was sent.
    pub fn renewed(&mut self, asked_at: Mono) {
        if let Term::Asked(before) = &mut self.0 {
            *before = asked_at.max(*before);
        }
    }

    /// A renewal was refused: a peer declared this incarnation dead.
    pub const fn lost(&mut self) {
        self.0 = Term::Lost;
    }

    /// Whether a frame may leave now. Asked before each one.
    pub fn may_send(&self, now: Mono) -> bool {
        now < self.send_until()
    }

    /// The moment from which nothing may be sent; a node alone has none before the end of time.
    pub fn send_until(&self) -> Mono {
        match self.0 {
            Term::Local => Mono::from_nanos(u64::MAX),
            Term::Asked(at) => at + SEND_FOR,
            Term::Lost => Mono::from_nanos(0),
        }
    }

    /// When it was last asked for with success; `None` without a term.
    pub const fn asked_at(&self) -> Option<Mono> {
        match self.0 {
            Term::Asked(at) => Some(at),
            Term::Local | Term::Lost => None,
        }
    }

    /// What may be done now.
    pub fn standing(&self, now: Mono) -> Standing {
        match self.0 {
            Term::Lost => Standing::Fenced,
            Term::Local | Term::Asked(_) if self.may_send(now) => Standing::Active,
            Term::Local | Term::Asked(_) => Standing::Suspended,
        }
    }
}

/// How a node is, by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It takes shards.
    Alive,
    /// It gives its shards away.
    Draining,
    /// It holds nothing; its next life has a higher incarnation.
    Dead,
}

/// The lease row of a node: changed only by compare-and-set of the whole row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeRow {
    /// Which life.
    pub incarnation: Incarnation,
    /// Counts its renewals.
    pub sequence: u64,
    /// How it is.
    pub state: NodeState,
}

impl NodeRow {
    /// The row of a node that joins, after whatever row it had.
    pub fn joined(before: Option<&Self>) -> Self {
        let incarnation = Incarnation(before.map_or(0, |row| row.incarnation.0) + 1);
        Self {
            incarnation,
            sequence: 0,
            state: NodeState::Alive,
        }
    }

    /// The row renewed by its owner; `None` when that life was declared dead: it is fenced.
    pub fn renewed(&self, incarnation: Incarnation) -> Option<Self> {
        let alive = self.incarnation == incarnation && self.state != NodeState::Dead;
        alive.then_some(Self {
            sequence: self.sequence + 1,
            ..*self
        })
    }

    /// The row declared dead, by a challenger that saw it unchanged, or by its owner that leaves;
    /// `None` when it changed since.
    pub fn declared_dead(&self, seen: &Self) -> Option<Self> {
        (self == seen).then_some(Self {
            state: NodeState::Dead,
            ..*self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    fn row(sequence: u64) -> NodeRow {
        NodeRow {
            sequence,
            ..NodeRow::joined(None)
        }
    }

    #[test]
    fn a_node_alone_may_always_send() {
        assert!(Lease::local().may_send(at(u64::MAX / 1_000_000)));
    }

    #[test]
    fn sending_stops_five_seconds_after_the_last_renewal_was_asked_for() {
        let mut lease = Lease::granted(at(0));
        lease.renewed(at(2_000));

        assert!(lease.may_send(at(6_999)));
        assert_eq!(lease.standing(at(7_000)), Standing::Suspended);
    }

    #[test]
    fn a_late_answer_to_an_early_renewal_shortens_nothing() {
        let mut lease = Lease::granted(at(4_000));
        lease.renewed(at(2_000));

        assert!(lease.may_send(at(8_999)));
    }

    #[test]
    fn who_lost_its_lease_stays_fenced() {
        let mut lease = Lease::granted(at(0));
        lease.lost();
        lease.renewed(at(1));

        assert_eq!(lease.standing(at(1)), Standing::Fenced);
    }

    #[test]
    fn a_suspended_node_goes_on_when_nobody_declared_it_dead() {
        let mut lease = Lease::granted(at(0));
        assert!(row(3).renewed(Incarnation(1)).is_some());
        lease.renewed(at(60_000));

        assert!(lease.may_send(at(60_001)));
    }

    #[test]
    fn a_dead_incarnation_cannot_renew_and_the_next_one_can() {
        let dead = row(3).declared_dead(&row(3)).unwrap();
        let next = NodeRow::joined(Some(&dead));

        assert_eq!(dead.renewed(Incarnation(1)), None);
        assert_eq!(next.renewed(Incarnation(1)), None);
        assert!(next.renewed(Incarnation(2)).is_some());
    }

    #[test]
    fn a_row_that_was_renewed_since_cannot_be_declared_dead() {
        assert_eq!(row(4).declared_dead(&row(3)), None);
    }
}
