//! What the customers know: what they were promised, what they were refused, and what nobody could
//! tell them.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use zajil_actors::send::AcceptError;
use zajil_model::id::{InstanceId, MessageId};
use zajil_model::message::Lane;
use zajil_model::phone::Phone;

/// A message that was promised.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) id: MessageId,
    pub(crate) client_ref: String,
    pub(crate) instance: InstanceId,
    pub(crate) recipient: Phone,
    pub(crate) lane: Lane,
    /// The request that it came with, and its place there.
    pub(crate) request: (u64, usize),
    /// Not before a time of its own: it has no place in the order.
    pub(crate) timed: bool,
    /// When the request began and when it was answered.
    pub(crate) asked: (Duration, Duration),
}

/// For what nothing may be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Recipient(Phone),
    Instance(InstanceId),
    Message(MessageId),
    /// What was accepted for an instance before that, and not handed over.
    Purged(InstanceId, Duration),
}

/// Something after which nothing may be handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    pub(crate) of: Held,
    /// When it was answered.
    pub(crate) from: Duration,
    /// When its end was asked for.
    pub(crate) until: Option<Duration>,
}

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Book(Mutex<Pages>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    pub(crate) accepted: Vec<Accepted>,
    /// Asked for, without an answer that says whether it was accepted.
    pub(crate) doubtful: BTreeSet<String>,
    pub(crate) refused: BTreeSet<String>,
    pub(crate) unknown: BTreeSet<String>,
    pub(crate) barriers: Vec<Barrier>,
}

impl Book {
    /// Something is about to be asked for.
    pub(crate) fn asks(&self, refs: impl IntoIterator<Item = String>) {
        let mut pages = self.0.lock();
        for client_ref in refs {
            pages.refused.remove(&client_ref);
            pages.doubtful.insert(client_ref);
        }
    }

    /// It was promised.
    pub(crate) fn accepted(&self, one: Accepted) {
        let mut pages = self.0.lock();
        pages.doubtful.remove(&one.client_ref);
        pages.accepted.push(one);
    }

    /// It was refused, or nobody knows.
    pub(crate) fn not_accepted(&self, refs: impl IntoIterator<Item = String>, why: &AcceptError) {
        let mut pages = self.0.lock();
        for client_ref in refs {
            if *why == AcceptError::OutcomeUnknown {
                pages.unknown.insert(client_ref);
            } else {
                pages.doubtful.remove(&client_ref);
                pages.refused.insert(client_ref);
            }
        }
    }

    pub(crate) fn barrier(&self, of: Held, from: Duration) {
        let until = None;
        self.0.lock().barriers.push(Barrier { of, from, until });
    }

    /// The end of a pause is asked for.
    pub(crate) fn resumes(&self, instance: InstanceId, now: Duration) {
        let mut pages = self.0.lock();
        let of = Held::Instance(instance);
        let open = pages.barriers.iter_mut().filter(|one| one.of == of);
        for barrier in open {
            barrier.until.get_or_insert(now);
        }
    }

    /// What a message is called of those that were promised.
    pub(crate) fn some_accepted(&self, from_the_end: usize) -> Option<MessageId> {
        let pages = self.0.lock();
        pages
            .accepted
            .iter()
            .rev()
            .nth(from_the_end)
            .map(|one| one.id)
    }

    pub(crate) fn pages(&self) -> Pages {
        self.0.lock().clone()
    }
}
