//! A renewal of a lease, also when its answer never comes.
//!
//! A renewal without an answer may have been applied, may be applied later, or never. The row says
//! which, read at serial consistency; while it does not show the renewal, the same renewal is asked
//! again. It keeps the time at which it was asked *first*: a peer may have seen the first one
//! applied long ago, and counts from there.

use super::{Incarnation, Lease, NodeRow, NodeState};
use crate::time::Mono;

/// A renewal under way: a compare-and-set from one row to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    asked_at: Mono,
    from: NodeRow,
    to: NodeRow,
}

/// What the row says of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was applied.
    Applied,
    /// It was not applied so far: ask this one.
    AskAgain(Renewal),
    /// This life is over.
    Fenced,
}

impl Renewal {
    /// The renewal of `row` by its owner; `now` is from before it is asked. `None` when this life is
    /// over.
    pub fn ask(row: &NodeRow, me: Incarnation, now: Mono) -> Option<Self> {
        let renewal = |to| Self {
            asked_at: now,
            from: *row,
            to,
        };
        row.renewed(me).map(renewal)
    }

    /// The row that it expects to find.
    pub const fn from(&self) -> &NodeRow {
        &self.from
    }

    /// The row that it leaves.
    pub const fn to(&self) -> &NodeRow {
        &self.to
    }

    /// From when its lease counts.
    pub const fn asked_at(&self) -> Mono {
        self.asked_at
    }

    /// What a row says of it that was read later, or came back with a refusal.
    pub fn found(&self, row: &NodeRow) -> Found {
        if row.incarnation != self.to.incarnation || row.state == NodeState::Dead {
            return Found::Fenced;
        }
        if row.sequence >= self.to.sequence {
            return Found::Applied;
        }
        // Its owner may have changed the state of the row meanwhile, never the count.
        Found::AskAgain(Self {
            asked_at: self.asked_at,
            from: *row,
            to: NodeRow {
                state: row.state,
                ..self.to
            },
        })
    }
}

impl Lease {
    /// Follows what the row says of a renewal; answers the one to ask again.
    pub fn follow(&mut self, renewal: &Renewal, row: &NodeRow) -> Option<Renewal> {
        match renewal.found(row) {
            Found::Applied => self.renewed(renewal.asked_at),
            Found::Fenced => self.lost(),
            Found::AskAgain(again) => return Some(again),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    fn asked() -> (NodeRow, Renewal) {
        let row = NodeRow::joined(None);
        (row, Renewal::ask(&row, row.incarnation, at(2_000)).unwrap())
    }

    #[test]
    fn a_renewal_without_an_answer_that_the_row_shows_counts_from_when_it_was_asked() {
        let (_, renewal) = asked();
        let mut lease = Lease::granted(at(0));

        assert_eq!(lease.follow(&renewal, renewal.to()), None);

        assert!(lease.may_send(at(6_999)));
        assert!(!lease.may_send(at(7_000)));
    }

    #[test]
    fn a_renewal_that_is_asked_again_counts_from_the_first_time() {
        let (row, renewal) = asked();
        let mut lease = Lease::granted(at(0));

        let again = lease.follow(&renewal, &row).unwrap();

        assert_eq!((again.asked_at(), again.to()), (at(2_000), renewal.to()));
    }

    #[test]
    fn a_row_that_a_drain_changed_meanwhile_is_renewed_as_it_is_now() {
        let (row, renewal) = asked();
        let draining = NodeRow {
            state: NodeState::Draining,
            ..row
        };

        let Found::AskAgain(again) = renewal.found(&draining) else {
            panic!("the row does not show the renewal");
        };

        assert_eq!(*again.from(), draining);
        assert_eq!(Some(*again.to()), draining.renewed(row.incarnation));
    }

    #[test]
    fn who_was_declared_dead_or_reborn_is_fenced() {
        let (row, renewal) = asked();
        let dead = row.declared_dead(&row).unwrap();

        for over in [dead, NodeRow::joined(Some(&dead))] {
            let mut lease = Lease::granted(at(0));
            assert_eq!(lease.follow(&renewal, &over), None);
            assert!(!lease.may_send(at(0)));
        }
        assert_eq!(Renewal::ask(&dead, row.incarnation, at(9)), None);
    }
}
