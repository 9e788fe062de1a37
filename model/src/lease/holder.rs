//! How the owner of a lease row renews it when answers get lost.
//!
//! A renewal whose outcome is unknown may apply later. So until the row is known to have moved on,
//! the *same* row is asked for again, and when it turns out to be there, it counts from when it was
//! asked for *first*: which of the requests applied cannot be told, and a challenger may have
//! counted from the first.

use super::{Incarnation, Lease, NodeRow, NodeState};
use crate::time::Mono;

/// The lease of one life of a node, with what was asked for and not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    row: NodeRow,
    lease: Lease,
    open: Option<Open>,
}

/// A renewal that may or may not have applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Open {
    row: NodeRow,
    first_asked: Mono,
}

/// A renewal to make: a compare-and-set of the whole row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    /// The row as it should be there.
    pub before: NodeRow,
    /// What it becomes.
    pub after: NodeRow,
    /// When this was asked, before the request was sent.
    pub asked_at: Mono,
}

/// What the row says of a renewal without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It applied.
    Renewed,
    /// It did not apply yet: ask again.
    NotYet,
    /// This life is over.
    Fenced,
}

impl Holder {
    /// A life that joined: `row` is known to be there, asked for at `asked_at`.
    pub const fn joined(row: NodeRow, asked_at: Mono) -> Self {
        Self {
            row,
            lease: Lease::granted(asked_at),
            open: None,
        }
    }

    /// The lease as it stands.
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The row that is certainly this life's last one.
    pub const fn row(&self) -> &NodeRow {
        &self.row
    }

    /// Which life.
    pub const fn incarnation(&self) -> Incarnation {
        self.row.incarnation
    }

    /// The next renewal; one that is open is repeated, with the state that it had.
    pub fn ask(&mut self, state: NodeState, now: Mono) -> Renewal {
        let fresh = Open {
            row: NodeRow {
                sequence: self.row.sequence + 1,
                state,
                ..self.row
            },
            first_asked: now,
        };
        let open = self.open.get_or_insert(fresh);
        Renewal {
            before: self.row,
            after: open.row,
            asked_at: now,
        }
    }

    /// The store said that this very renewal applied.
    pub fn applied(&mut self, renewal: &Renewal) {
        self.moved_on(renewal.after, renewal.asked_at);
    }

    /// The row was read, or came back as the reason why a renewal did not apply.
    pub fn found(&mut self, row: Option<&NodeRow>) -> Found {
        match (row, self.open) {
            (Some(row), Some(open)) if *row == open.row => {
                self.moved_on(open.row, open.first_asked);
                Found::Renewed
            }
            (Some(row), _) if *row == self.row => Found::NotYet,
            // Dead, a later life, no row at all, or one that somebody else renews.
            (Some(_) | None, _) => {
                self.lease.lost();
                Found::Fenced
            }
        }
    }

    /// This life ends: nothing is sent any more.
    pub const fn end(&mut self) {
        self.lease.lost();
    }

    fn moved_on(&mut self, row: NodeRow, asked_at: Mono) {
        (self.row, self.open) = (row, None);
        self.lease.renewed(asked_at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SEND_FOR, Standing};
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    fn joined() -> Holder {
        Holder::joined(NodeRow::joined(None), at(0))
    }

    #[test]
    fn a_renewal_counts_from_before_it_was_asked_for() {
        let mut holder = joined();
        let renewal = holder.ask(NodeState::Alive, at(2_000));

        holder.applied(&renewal);

        assert_eq!(holder.lease().send_until(), at(2_000) + SEND_FOR);
        assert_eq!(holder.row().sequence, 1);
    }

    #[test]
    fn a_renewal_without_an_answer_is_asked_for_again_as_it_was() {
        let mut holder = joined();
        let first = holder.ask(NodeState::Alive, at(2_000));

        assert_eq!(holder.found(Some(&first.before)), Found::NotYet);
        let second = holder.ask(NodeState::Draining, at(4_000));

        assert_eq!((second.before, second.after), (first.before, first.after));
    }

    #[test]
    fn which_of_two_renewals_applied_is_not_known_so_the_first_counts() {
        let mut holder = joined();
        holder.ask(NodeState::Alive, at(2_000));
        let second = holder.ask(NodeState::Alive, at(4_000));

        assert_eq!(holder.found(Some(&second.after)), Found::Renewed);

        assert_eq!(holder.lease().send_until(), at(2_000) + SEND_FOR);
    }

    #[test]
    fn a_renewal_that_is_known_to_have_applied_counts_by_itself() {
        let mut holder = joined();
        holder.ask(NodeState::Alive, at(2_000));
        let second = holder.ask(NodeState::Alive, at(4_000));

        holder.applied(&second);

        assert_eq!(holder.lease().send_until(), at(4_000) + SEND_FOR);
    }

    #[test]
    fn who_finds_another_row_than_its_own_is_fenced() {
        let life = NodeRow::joined(None);
        let dead = life.declared_dead(&life).unwrap();
        let next = NodeRow::joined(Some(&life));
        let strange = NodeRow {
            sequence: 9,
            ..life
        };
        for row in [None, Some(dead), Some(next), Some(strange)] {
            let mut holder = joined();
            holder.ask(NodeState::Alive, at(2_000));

            assert_eq!(holder.found(row.as_ref()), Found::Fenced, "{row:?}");
            assert_eq!(holder.lease().standing(at(2_001)), Standing::Fenced);
        }
    }

    #[test]
    fn a_new_state_goes_with_the_renewal_after_an_open_one() {
        let mut holder = joined();
        let first = holder.ask(NodeState::Alive, at(2_000));
        holder.found(Some(&first.after));

        let second = holder.ask(NodeState::Draining, at(3_000));

        assert_eq!(second.after.state, NodeState::Draining);
        assert_eq!(second.after.sequence, 2);
    }
}
