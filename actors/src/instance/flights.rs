//! Messages that were handed over and that the transport has not answered.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use zajil_model::id::MessageId;
use zajil_model::time::Mono;

use crate::instance::outbox::Armed;

/// An answer counts for this part of what is known of the time that answers take.
const ANSWER_PART: u32 = 16;

/// What is in flight.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_id: FxHashMap<MessageId, Armed>,
    /// Until when each is waited for, by attempt: in the order of their hand-overs.
    order: VecDeque<(Mono, MessageId, u8)>,
    /// How long the channel takes to answer, of late.
    answer: Duration,
}

impl Flights {
    /// How many are in flight.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How long the channel takes to answer, of late.
    pub(super) const fn answer(&self) -> Duration {
        self.answer
    }

    /// A message is handed over, and waited for until `timeout`.
    pub(super) fn begin(&mut self, armed: Armed, timeout: Mono) {
        let id = armed.ready.id;
        self.order.push_back((timeout, id, armed.attempt));
        self.by_id.insert(id, armed);
    }

    /// A message was answered: after how long. `None` when it is not in flight.
    pub(super) fn answered(&mut self, id: MessageId, mono: Mono) -> Option<Duration> {
        let flown_at = self.by_id.get(&id)?.flown_at?;
        let took = mono.since(flown_at);
        self.answer = self.answer - self.answer / ANSWER_PART + took / ANSWER_PART;
        Some(took)
    }

    /// Takes a message out of flight.
    pub(super) fn land(&mut self, id: MessageId) -> Option<Armed> {
        self.by_id.remove(&id)
    }

    /// Waits for no answer any more: whoever finds an attempt without one decides what follows.
    pub(super) fn abandon(&mut self) {
        self.by_id.clear();
        self.order.clear();
    }

    /// Forgets when messages were to be given up on that were not handed over after all.
    pub(super) fn forget(&mut self, left: &FxHashSet<MessageId>) {
        self.order.retain(|(_, id, _)| !left.contains(id));
    }

    /// When the oldest is given up on.
    pub(super) fn times_out_at(&self) -> Option<Mono> {
        self.order.front().map(|(at, _, _)| *at)
    }

    /// The next message whose time to be answered is over, once. It stays in flight.
    pub(super) fn next_late(&mut self, mono: Mono) -> Option<MessageId> {
        while let Some((at, id, attempt)) = self.order.front().copied() {
            let flies = |armed: &Armed| armed.attempt == attempt;
            let late = self.by_id.get(&id).is_some_and(flies);
            if late && at > mono {
                return None;
            }
            self.order.pop_front();
            if late {
                return Some(id);
            }
        }
        None
    }
}
