//! What a node knows of a barrier, as its shells have it: the directory keeps what it was told over
//! what it read before, and an actor answers when nothing cleared is on its way.

/// Counts the changes of one row, so that an old one that comes late changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version(pub(crate) u64);

/// A row that holds messages back, or holds them back no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Barrier {
    /// Which change of the row.
    pub(crate) version: Version,
    /// Whether it stands.
    pub(crate) stands: bool,
}

/// What a node knows of a row: from reading it, and from being told, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Known(Option<Barrier>);

impl Known {
    /// Learns what was read or told. The later change counts: a read that was under way while the
    /// node was told may answer with what was there before.
    pub(crate) fn learn(&mut self, barrier: Barrier) {
        self.0 = self.0.max(Some(barrier));
    }

    /// Whether messages are held back.
    pub(crate) fn stands(&self) -> bool {
        self.0.is_some_and(|barrier| barrier.stands)
    }

    /// Whether the node may confirm `asked`, with `outstanding` messages that were cleared before
    /// it applied the row and were neither handed over nor taken back.
    pub(crate) fn may_confirm(&self, asked: Barrier, outstanding: usize) -> bool {
        let applied = self.0.is_some_and(|known| known.version >= asked.version);
        applied && outstanding == 0
    }
}
