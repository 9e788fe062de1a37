//! What a new owner does between its compare-and-set and its first answer, as its shells have it:
//! the store opens a shard in this order, and an actor reads what holds it back when it starts.
//!
//! Each step closes a door behind the owner before: the compare-and-set fences its conditional
//! writes, the tail is what counts of its appends, the seal makes its later ones void, and barriers
//! that were answered while nobody held the shard are read before anything is cleared.

use zajil_model::id::Epoch;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Step {
    /// Read the checkpoint, and the tail of both logs at a quorum.
    ReadTail,
    /// Seal the epochs before, on the condition of this epoch, with what the tail held.
    Seal,
    /// Read the rows of barriers.
    ReadBarriers,
    /// Accept, answer, clear and send.
    Serve,
}

/// A shard that this process took, and how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TakeOver {
    epoch: Epoch,
    next: Step,
}

impl TakeOver {
    /// The compare-and-set succeeded with this epoch.
    pub(crate) const fn begun(epoch: Epoch) -> Self {
        Self {
            epoch,
            next: Step::ReadTail,
        }
    }

    /// In which epoch.
    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What comes next.
    pub(crate) const fn next(&self) -> Step {
        self.next
    }

    /// A step is done; one that is not next changes nothing, since its answer is an old one.
    pub(crate) fn did(&mut self, step: Step) {
        if step == self.next {
            self.next = match step {
                Step::ReadTail => Step::Seal,
                Step::Seal => Step::ReadBarriers,
                Step::ReadBarriers | Step::Serve => Step::Serve,
            };
        }
    }

    /// The epoch in which the shard is served; `None` before all steps are done.
    pub(crate) fn serves(&self) -> Option<Epoch> {
        (self.next == Step::Serve).then_some(self.epoch)
    }
}
