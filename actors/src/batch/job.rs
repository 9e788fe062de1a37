//! One thing that the parent of a batch does at a time, and who waits for it.

use tokio::sync::oneshot;
use zajil_model::batch::Command;

use super::BatchError;
use crate::send::Barrier;

/// Where the answer to a command goes.
pub(super) type Reply = oneshot::Sender<Result<Barrier, BatchError>>;

/// Why something is done.
pub(super) enum Job {
    /// Somebody asked, after so many commands.
    Asked(Command, u64, Reply),
    /// Its time came to start.
    Due,
    /// This many messages are unsettled, and time has passed.
    Reviewed(u64),
    /// Not all confirmed before.
    TellAgain,
}

impl Job {
    /// Answers who asked; if nobody did, an error is worth a line in the log.
    pub(super) fn answer(self, answer: Result<Barrier, BatchError>) {
        match (self, answer) {
            // Who asked may have left.
            (Self::Asked(_, _, reply), answer) => drop(reply.send(answer)),
            (Self::Due | Self::Reviewed(_) | Self::TellAgain, Err(error)) => {
                tracing::warn!(%error, "cannot review a batch");
            }
            (Self::Due | Self::Reviewed(_) | Self::TellAgain, Ok(_)) => {}
        }
    }

    /// Whether the instances have to know.
    pub(super) const fn is_told(&self) -> bool {
        !matches!(self, Self::Asked(Command::Seal, _, _))
    }
}
