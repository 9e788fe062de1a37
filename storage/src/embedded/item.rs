//! What goes to the committer: the records of a call, and whom to answer.

use tokio::sync::oneshot;
use zajil_model::time::Mono;

use super::log::{Class, Item};
use crate::codec::{Encoded, Record};
use crate::projection::Positioned;
use crate::{Done, RowWrite, StoreError, Written};

/// The answer to a conditional write.
pub(super) type WriteReply = oneshot::Sender<Result<Written, StoreError>>;

/// Whom to answer, and how.
pub(super) enum Answer {
    /// An append.
    Append(Done),
    /// A conditional write: what it asks for, and what became of it.
    Write {
        rows: Vec<RowWrite>,
        written: Written,
        reply: WriteReply,
    },
    /// The store itself; `reply` is told when the record is applied.
    Own(Option<oneshot::Sender<Result<(), StoreError>>>),
}

/// One call on its way through the committer and the projector.
pub(super) struct Call {
    records: Vec<Encoded>,
    /// The records with their places, once they have them.
    pub(super) placed: Vec<Positioned>,
    bytes: usize,
    class: Class,
    pub(super) answer: Answer,
    /// When it was made.
    pub(super) begun: Mono,
}

impl Call {
    /// A call with these records.
    pub(super) fn new(records: Vec<Encoded>, answer: Answer, begun: Mono) -> Self {
        let accepts = records
            .iter()
            .any(|one| matches!(one.record, Record::Accept(_)));
        let class = if accepts { Class::Accept } else { Class::Other };
        let bytes = records.iter().map(|one| one.payload.len()).sum();
        Self {
            records,
            placed: Vec::new(),
            bytes,
            class,
            answer,
            begun,
        }
    }

    /// Takes the records out, to be written.
    pub(super) fn take_records(&mut self) -> Vec<Encoded> {
        std::mem::take(&mut self.records)
    }

    /// Answers the caller.
    pub(super) fn answer(self, result: Result<(), StoreError>) {
        match self.answer {
            Answer::Append(done) => done(result),
            Answer::Write { written, reply, .. } => {
                // A caller that gave up is told nothing.
                drop(reply.send(result.map(|()| written)));
            }
            Answer::Own(reply) => drop(reply.map(|reply| reply.send(result))),
        }
    }

    /// The word for metrics.
    pub(super) const fn operation(&self) -> &'static str {
        match self.answer {
            Answer::Append(_) => "append",
            Answer::Write { .. } => "write",
            Answer::Own(_) => "own",
        }
    }
}

impl Item for Call {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn records(&self) -> usize {
        // At least one, so that empty calls are bounded too.
        self.records.len().max(1)
    }

    fn class(&self) -> Class {
        self.class
    }
}
