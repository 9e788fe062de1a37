//! The parts of batches that this instance sends: their state, and what of them may not go.

use std::time::Duration;

use tokio::sync::oneshot::{self, Sender};
use zajil_model::id::BatchId;
use zajil_model::message::Queue;
use zajil_model::time::Timestamp;

use crate::batch::{PartPhase, PartState, part_state};
use crate::instance::expiries::Expiries;
use crate::instance::inbox::LAST;
use crate::instance::outbox::Armed;
use crate::instance::requests::answer;
use crate::instance::{InstanceMsg, InstanceState};

/// A part is looked at again so long after a read that may have ended before its new rows.
const PART_LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The wait before the state of a batch is read again.
const PART_AGAIN: Duration = Duration::from_secs(1);

/// The wait before a cancel is tried again that did not become durable.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

impl InstanceState {
    /// A part of a batch has new rows.
    pub(super) fn on_part_grew(&mut self, batch: BatchId) {
        let reader = self.inbox.readers.entry(Queue::Part(batch)).or_default();
        if reader.loading {
            // The read that is under way may end before the new rows: look again after it.
            let tell = self.me.teller();
            self.me.context.tasks.spawn(async move {
                tokio::time::sleep(PART_LOOK_AGAIN).await;
                tell(InstanceMsg::PartGrew(batch));
            });
        } else if reader.part_read && !reader.is_in(PartPhase::Cancelled) {
            if self.inbox.withdrawn.is_some() {
                // The rows may have got their ids before the purge, and come after it: they are behind
                // what was read, and all that was read and waits is in the window.
                reader.restart(None);
            }
            reader.at_end = false;
        } else {
            // Of a cancelled one that puts the cancel in force again: the rows came after it.
            self.read_part(batch);
        }
    }

    /// Reads what a batch says of its part.
    pub(super) fn read_part(&mut self, batch: BatchId) {
        let reader = self.inbox.readers.entry(Queue::Part(batch)).or_default();
        reader.asked = true;
        let context = self.me.context.clone();
        let (shard, tell) = (self.me.handle.shard(), self.me.teller());
        self.me.context.tasks.spawn(async move {
            let read = async {
                // A part that was cancelled meanwhile needs an id for that.
                context.clocks.ensure(shard, 1).await?;
                part_state(context.store.as_ref(), batch).await
            };
            match read.await {
                Ok(part) => tell(InstanceMsg::PartRead(batch, part)),
                Err(error) => {
                    tracing::warn!(%batch, %error, "cannot read the state of a batch");
                    tokio::time::sleep(PART_AGAIN).await;
                    tell(InstanceMsg::PartGrew(batch));
                }
            }
        });
    }

    /// The state of a part, as it was read.
    pub(super) fn on_part_read(&mut self, batch: BatchId, part: Option<PartState>) {
        let queue = Queue::Part(batch);
        let Some(part) = part else {
            drop(self.inbox.readers.remove(&queue));
            return;
        };
        let reader = self.inbox.readers.entry(queue).or_default();
        reader.asked = false;
        if !std::mem::replace(&mut reader.part_read, true) {
            self.inbox.look_for_withdrawn(queue);
        }
        self.part_is(batch, part, None);
    }

    /// The state of a part, as the batch says. It runs only when it was read too: what is told may be
    /// older than what another owner of this part confirmed.
    pub(super) fn on_part(&mut self, batch: BatchId, part: PartState, reply: Sender<bool>) {
        self.part_is(batch, part, Some(reply));
        let reader = self.inbox.readers.get(&Queue::Part(batch));
        if reader.is_some_and(|reader| reader.is_in(PartPhase::Running) && !reader.part_read) {
            self.read_part(batch);
        }
    }

    /// Puts the state of a part in force, unless a newer one is. What waits of it has another
    /// expiry then.
    fn part_is(&mut self, batch: BatchId, part: PartState, reply: Option<Sender<bool>>) {
        let queue = Queue::Part(batch);
        let reader = self.inbox.readers.entry(queue).or_default();
        let before = reader.part;
        let newer = before.filter(|before| before.revision > part.revision);
        let part = newer.unwrap_or(part);
        reader.part = Some(part);
        let runs = reader.runs(queue);
        self.window.set_paused(queue, !runs);
        if part.phase == PartPhase::Cancelled {
            if before.is_none_or(|before| before.phase != PartPhase::Cancelled) {
                reader.look_through(LAST);
            }
            // Each time: the last one may not have become durable.
            self.cancel_part(batch, reply);
            return;
        }
        self.recall(queue);
        if before != Some(part) && part.phase == PartPhase::Running {
            self.renew(queue);
        }
        if let Some(reply) = reply {
            answer(reply, true);
        }
    }

    /// Cancels what is unsettled of a part. When nobody waits for that, it is done until it is durable.
    fn cancel_part(&mut self, batch: BatchId, reply: Option<Sender<bool>>) {
        let reply = reply.unwrap_or_else(|| self.cancels_again(batch));
        self.cancel_all(Some(Queue::Part(batch)), move |result| {
            answer(reply, result.is_ok());
        });
    }

    fn cancels_again(&self, batch: BatchId) -> Sender<bool> {
        let (reply, confirmed) = oneshot::channel();
        let tell = self.me.teller();
        self.me.context.tasks.spawn(async move {
            if confirmed.await != Ok(true) {
                tokio::time::sleep(CANCEL_AGAIN).await;
                tell(InstanceMsg::PartGrew(batch));
            }
        });
        reply
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
        self.inbox.withdrawn = None;
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
