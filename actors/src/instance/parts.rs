//! The parts of batches that this instance sends: their state, and what of them may not go.

use std::time::Duration;

use zajil_model::id::BatchId;
use zajil_model::message::Queue;
use zajil_model::time::Timestamp;

use crate::batch::{PartPhase, PartState};
use crate::instance::expiries::Expiries;
use crate::instance::inbox::{LAST, Reader};
use crate::instance::outbox::Armed;
use crate::instance::{InstanceMsg, InstanceState};

/// A part is looked at again so long after a read that may have ended before its new rows.
const PART_LOOK_AGAIN: Duration = Duration::from_millis(20);

impl InstanceState {
    /// A part of a batch has new rows.
    pub(super) fn on_part_grew(&mut self, batch: BatchId) {
        match self.inbox.readers.get_mut(&Queue::Part(batch)) {
            Some(reader) if reader.loading => {
                // The read that is under way may end before the new rows: look again after it.
                let tell = self.me.teller();
                self.me.context.tasks.spawn(async move {
                    tokio::time::sleep(PART_LOOK_AGAIN).await;
                    tell(InstanceMsg::PartGrew(batch));
                });
            }
            Some(reader) if reader.part.is_some() => reader.at_end = false,
            Some(_) => self.read_part(batch),
            None => {
                self.inbox
                    .readers
                    .insert(Queue::Part(batch), Reader::default());
                self.read_part(batch);
            }
        }
    }

    /// The state of a part, as it was read; what the batch itself said meanwhile is newer.
    pub(super) fn on_part_read(&mut self, batch: BatchId, part: Option<PartState>) {
        let queue = Queue::Part(batch);
        if self
            .inbox
            .readers
            .get(&queue)
            .is_some_and(|reader| reader.part.is_some())
        {
            return;
        }
        match part {
            Some(part) => self.on_part(batch, part, None),
            None => drop(self.inbox.readers.remove(&queue)),
        }
    }

    /// The state of a part changed. What waits of it has another expiry now.
    pub(super) fn on_part(
        &mut self,
        batch: BatchId,
        part: PartState,
        reply: Option<tokio::sync::oneshot::Sender<bool>>,
    ) {
        let queue = Queue::Part(batch);
        let reader = self.inbox.readers.entry(queue).or_default();
        let before = reader.part.replace(part);
        self.window
            .set_paused(queue, part.phase != PartPhase::Running);
        if part.phase == PartPhase::Cancelled {
            // Each time: the last one may not have become durable.
            self.cancel_part(queue, reply);
            return;
        }
        self.recall(queue);
        if before != Some(part) && part.phase == PartPhase::Running {
            self.renew(queue);
        }
        if let Some(reply) = reply {
            super::requests::answer(reply, true);
        }
    }

    /// Gives what waits of a queue the expiry that it has now.
    fn renew(&mut self, queue: Queue) {
        let now = self.me.now();
        for mut ready in self.window.remove_where(|of| of == queue, LAST) {
            ready.expires_at = self.expires_at(&ready.item.message);
            self.window.push(ready, now);
        }
        if let Some(reader) = self.inbox.readers.get_mut(&queue) {
            reader.at_end = false;
            reader.surveyed = false;
            reader.expiries = Expiries::default();
        }
        self.inbox.schedule.ask();
    }

    /// Takes what was armed of a queue back, if it may not go any more.
    fn recall(&mut self, queue: Queue) {
        let now = self.me.now();
        let mut kept = Vec::new();
        while let Some(armed) = self.outbox.disarm_where(|armed| armed.ready.queue == queue) {
            kept.extend(self.may_go(armed, now));
        }
        self.outbox.armed.extend(kept);
    }

    /// An armed message, if its queue was neither withdrawn nor paused meanwhile. It never left:
    /// it ends, or goes back to its place.
    pub(super) fn may_go(&mut self, armed: Armed, now: Timestamp) -> Option<Armed> {
        let (id, queue) = (armed.ready.id, armed.ready.queue);
        if self.inbox.is_withdrawn(queue, id) {
            self.withdraw(&armed, now);
            return None;
        }
        if !self.inbox.is_held(queue) {
            return Some(armed);
        }
        self.hold_back(armed, now);
        None
    }

    /// Forgets what waits and reads it again.
    pub(super) fn read_all_again(&mut self) {
        let queues: Vec<Queue> = self.inbox.readers.keys().copied().collect();
        for queue in queues {
            self.read_again(queue);
        }
    }

    /// Forgets what waits of a queue and reads it again from its beginning.
    fn read_again(&mut self, queue: Queue) {
        let Some(reader) = self.inbox.readers.get_mut(&queue) else {
            return;
        };
        reader.restart(None);
        reader.surveyed = false;
        reader.withdrawn = None;
        for waiting in self.window.remove_where(|of| of == queue, LAST) {
            self.inbox.schedule.finished(waiting.id);
        }
        self.inbox.schedule.ask();
    }
}
