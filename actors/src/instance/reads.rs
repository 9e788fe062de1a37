//! Reads of the store that are under way.
//!
//! What a read saw may be older than what was written while it was on its way back. What became
//! of a message is therefore remembered until every read that may have missed it is over.

use std::collections::BTreeSet;

/// The number of a read, in the order in which they began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Read(u64);

/// The reads of one actor.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    last: Read,
    under_way: BTreeSet<Read>,
}

impl Reads {
    /// A read begins.
    pub(super) fn begin(&mut self) -> Read {
        self.last = Read(self.last.0 + 1);
        self.under_way.insert(self.last);
        self.last
    }

    /// A read is over.
    pub(super) fn end(&mut self, read: Read) {
        self.under_way.remove(&read);
    }

    /// The newest read that began.
    pub(super) const fn last(&self) -> Read {
        self.last
    }

    /// Whether all reads up to this one are over.
    pub(super) fn are_over(&self, upto: Read) -> bool {
        self.under_way.first().is_none_or(|oldest| *oldest > upto)
    }
}
