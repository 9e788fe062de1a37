//! The rules of barriers, each of which can be left out.

use zajil_model::barrier::{Answer, Confirmations};
use zajil_model::lease::Lease;
use zajil_model::lease::leave::may_leave;
use zajil_model::time::Mono;

use super::known::{Barrier, Known};
use super::state::Node;
use crate::takeover::{self, TakeOver};

/// What can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The row is durable before anybody is asked.
    RowFirst,
    /// Lease rows are read after the row is durable.
    ListedAfterRow,
    /// A node confirms only when nothing cleared is on its way.
    OutstandingCounted,
    /// Who is silent is waited for.
    SilentWaitedFor,
    /// A new owner reads barriers after its compare-and-set.
    ReadAfterTaking,
    /// It serves after it read them.
    ReadBeforeServing,
    /// What a node was told meanwhile is not undone by what it read before.
    LaterWins,
    /// A frame leaves under a good lease only.
    LeaseChecked,
}

/// Each of them.
pub(crate) const GUARDS: &[Guard] = &[
    Guard::RowFirst,
    Guard::ListedAfterRow,
    Guard::OutstandingCounted,
    Guard::SilentWaitedFor,
    Guard::ReadAfterTaking,
    Guard::ReadBeforeServing,
    Guard::LaterWins,
    Guard::LeaseChecked,
];

/// The rules, as this world asks them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules(Option<Guard>);

impl Rules {
    pub(crate) const fn sound() -> Self {
        Self(None)
    }

    pub(crate) const fn without(guard: Guard) -> Self {
        Self(Some(guard))
    }

    pub(crate) fn lack(&self, guard: Guard) -> bool {
        self.0 == Some(guard)
    }

    pub(crate) fn may_confirm(&self, known: &Known, asked: Barrier, outstanding: usize) -> bool {
        let counted = if self.lack(Guard::OutstandingCounted) {
            0
        } else {
            outstanding
        };
        known.may_confirm(asked, counted)
    }

    pub(crate) fn is_done(&self, asked: &Confirmations) -> bool {
        self.lack(Guard::SilentWaitedFor) || asked.answer() == Answer::Done
    }

    pub(crate) fn read(&self, known: &mut Known, row: Barrier) {
        if self.lack(Guard::LaterWins) {
            *known = Known::default();
        }
        known.learn(row);
    }

    pub(crate) fn serves(&self, steps: &TakeOver) -> bool {
        let unread = steps.next() == takeover::Step::ReadBarriers;
        steps.serves().is_some() || (unread && self.lack(Guard::ReadBeforeServing))
    }

    pub(crate) fn may_leave(&self, node: &Node) -> bool {
        let now = Mono::default() + zajil_model::lease::GOOD_FOR;
        let lease = match node.deposed && !self.lack(Guard::LeaseChecked) {
            true => Lease::granted(Mono::default()),
            false => Lease::granted(now),
        };
        let held = node
            .steps
            .filter(|steps| self.serves(steps))
            .map(|steps| steps.epoch());
        may_leave(lease.send_until(), now, held, held).is_ok()
    }
}
