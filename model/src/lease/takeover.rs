//! What a new owner does between its compare-and-set and its first answer, in this order.
//!
//! Each step closes a door behind the owner before: the compare-and-set fences its conditional
//! writes, the tail is what counts of its appends, the seal makes its later ones void, and barriers
//! that were answered while nobody held the shard are read before anything is cleared.

use crate::id::Epoch;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
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
pub struct TakeOver {
    epoch: Epoch,
    next: Step,
}

impl TakeOver {
    /// The compare-and-set succeeded with this epoch.
    pub const fn begun(epoch: Epoch) -> Self {
        Self {
            epoch,
            next: Step::ReadTail,
        }
    }

    /// In which epoch.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What comes next.
    pub const fn next(&self) -> Step {
        self.next
    }

    /// A step is done; one that is not next changes nothing, since its answer is an old one.
    pub fn did(&mut self, step: Step) {
        if step == self.next {
            self.next = match step {
                Step::ReadTail => Step::Seal,
                Step::Seal => Step::ReadBarriers,
                Step::ReadBarriers | Step::Serve => Step::Serve,
            };
        }
    }

    /// The epoch in which the shard is served; `None` before all steps are done.
    pub fn serves(&self) -> Option<Epoch> {
        (self.next == Step::Serve).then_some(self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_served_after_tail_seal_and_barriers() {
        let mut taken = TakeOver::begun(Epoch(4));

        for step in [Step::ReadTail, Step::Seal, Step::ReadBarriers] {
            assert_eq!((taken.next(), taken.serves()), (step, None));
            taken.did(step);
        }

        assert_eq!(taken.serves(), Some(Epoch(4)));
    }

    #[test]
    fn no_step_is_left_out_by_an_answer_out_of_turn() {
        let mut taken = TakeOver::begun(Epoch(4));

        taken.did(Step::ReadBarriers);
        taken.did(Step::Seal);

        assert_eq!(taken.next(), Step::ReadTail);
    }
}
