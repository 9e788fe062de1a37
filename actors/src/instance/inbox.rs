//! Reading ahead: from the log into the window.
//!
//! Each queue has a reader. At the end of its queue it takes chunks straight from the edge, as
//! far as it granted credit; behind it, it reads the log, so that a backlog of any size costs no
//! memory. A fresh reader begins with the oldest unsettled message, which the store keeps.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use zajil_model::id::{BatchId, MessageId};
use zajil_model::lane::{Blocked, Ready, window_size};
use zajil_model::lifecycle::{Event, MessageState, Status};
use zajil_model::message::{Chunk, Lane, MessageRef, Queue};
use zajil_model::retry::{AfterAmbiguous, after_ambiguous};
use zajil_model::time::Timestamp;
use zajil_storage::{MessageRecord, QueuedChunk, StoreError};

use crate::batch::{PartPhase, PartState};
use crate::instance::handle::Handle;
use crate::instance::outbox::Item;
use crate::instance::{InstanceMsg, InstanceState};

/// How long ids that were reserved may be used: the deadline of an accept and room to spare.
pub const RESERVED_FOR: Duration = Duration::from_secs(30);

/// Bytes that one read ahead brings at most (beside its first chunk).
const READ_BYTES: usize = 256 << 10;

/// The wait before a failed read is tried again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Messages that a window holds when the node's windows are over their budget: enough to go on.
const LEAST_WINDOW: usize = 4;

/// A time that never comes: the expiry of rows while their batch is not running.
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// What was read ahead of a queue.
#[derive(Debug)]
pub struct Loaded {
    queue: Queue,
    generation: u32,
    result: Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError>,
}

/// What was read of the schedule.
#[derive(Debug)]
pub struct Scheduled {
    result: Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError>,
}

/// The reader of one queue.
#[derive(Debug, Default)]
struct Reader {
    /// Everything up to this id was read.
    after: Option<MessageId>,
    at_end: bool,
    loading: bool,
    /// Chunks that came from the edge during a read.
    stash: Vec<Arc<Chunk>>,
    /// First ids of the chunks of the read that reached the end: the edge may tell of them again.
    seen: FxHashSet<MessageId>,
    part: Option<PartState>,
    /// Counts the reads that were made void: an answer of an older one is dropped.
    generation: u32,
}

impl Reader {
    fn runs(&self, queue: Queue) -> bool {
        match queue {
            Queue::High | Queue::Normal => true,
            Queue::Part(_) => {
                self.part.is_some_and(|part| part.phase == PartPhase::Running)
            }
        }
    }

    /// Reads from after `after` again; what is being read now is void.
    fn restart(&mut self, after: Option<MessageId>) {
        self.after = after;
        self.at_end = false;
        self.loading = false;
        self.generation += 1;
        self.stash.clear();
    }
}

/// The readers of an instance, and its schedule.
#[derive(Debug)]
pub(crate) struct Inbox {
    readers: FxHashMap<Queue, Reader>,
    schedule: Schedule,
    read_again_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Schedule {
    next: Option<Timestamp>,
    reading: bool,
    /// Messages of the schedule that are in hand; the store goes on listing them until they end.
    in_hand: FxHashSet<MessageId>,
}

const fn single(queue: Queue) -> Option<Lane> {
    match queue {
        Queue::High => Some(Lane::High),
        Queue::Normal => Some(Lane::Normal),
        Queue::Part(_) => None,
    }
}

impl Inbox {
    /// Readers that begin with the oldest unsettled message of each queue, as the store knows it.
    pub(super) fn new(parts: &[BatchId]) -> Self {
        let parts = parts.iter().map(|batch| Queue::Part(*batch));
        let queues = [Queue::High, Queue::Normal].into_iter().chain(parts);
        Self {
            readers: queues.map(|queue| (queue, Reader::default())).collect(),
            schedule: Schedule::default(),
            read_again_at: None,
        }
    }

    /// The edge accepted messages that it did not tell of.
    pub(super) fn grew(&mut self, handle: &Handle) {
        for queue in [Queue::High, Queue::Normal] {
            if let Some(lane) = single(queue)
                && handle.missed(lane)
                && let Some(reader) = self.readers.get_mut(&queue)
                && !reader.loading
            {
                reader.at_end = false;
            }
        }
    }

    /// A message was accepted that waits in the schedule.
    pub(super) fn due_at(&mut self, due: Timestamp) {
        self.schedule.next = Some(self.schedule.next.map_or(due, |next| next.min(due)));
    }

    /// Reads the schedule at once: a fresh actor does not know when it begins.
    pub(super) fn ask_schedule(&mut self) {
        self.schedule.next = Some(Timestamp::from_micros(0));
    }

    /// A message left: settled, or put into the schedule.
    pub(super) fn finished(&mut self, id: MessageId) {
        self.schedule.in_hand.remove(&id);
    }

    /// Whether nothing waits anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.schedule.next.is_none()
            && !self.schedule.reading
            && self.readers.iter().all(|(queue, reader)| {
                !reader.loading && (reader.at_end || !reader.runs(*queue))
            })
    }

    /// When a read is due by itself.
    pub(super) fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        // What is due already and not being read waits for room in the window, not for time.
        let schedule = self.schedule.next.filter(|next| !self.schedule.reading && *next > now);
        [self.read_again_at, schedule].into_iter().flatten().min()
    }

    /// Everything up to `upto` was cancelled: reading goes on behind it, and what is being read
    /// now is old.
    pub(super) fn purged(&mut self, queue: Option<Queue>, upto: MessageId) {
        for (of, reader) in &mut self.readers {
            if queue.is_none_or(|queue| queue == *of) {
                reader.restart(Some(reader.after.map_or(upto, |after| after.max(upto))));
            }
        }
    }

    /// Whether a queue is paused, for who asks what its messages wait for.
    pub(super) fn is_held(&self, queue: Queue) -> bool {
        self.readers.get(&queue).is_some_and(|reader| !reader.runs(queue))
    }
}

impl InstanceState {
    /// Messages came straight from the edge.
    pub(super) fn on_stored(&mut self, chunk: Arc<Chunk>) {
        let now = self.me.now();
        let Some(reader) = self.inbox.readers.get_mut(&chunk.queue) else { return };
        if reader.loading {
            reader.stash.push(chunk);
        } else if reader.after.is_some_and(|after| chunk.first <= after) {
            if !reader.seen.contains(&chunk.first) {
                self.admit(&chunk, None, now);
            }
        } else if reader.at_end {
            reader.after = Some(chunk.last());
            self.admit(&chunk, None, now);
        }
    }

    /// Puts the messages of a chunk into the window. `states` is `None` for what was accepted just
    /// now.
    fn admit(&mut self, chunk: &Arc<Chunk>, states: Option<&[MessageState]>, now: Timestamp) {
        for index in 0..chunk.len() {
            let Some(message) = MessageRef::new(chunk.clone(), index) else { continue };
            let state = states.and_then(|states| states.get(index as usize)).copied();
            if state.is_none() && message.starts_scheduled() {
                self.inbox.due_at(message.due());
                continue;
            }
            self.admit_one(message, &state.unwrap_or_default(), now);
        }
    }

    /// Puts one message into the window if it waits.
    fn admit_one(&mut self, message: MessageRef, state: &MessageState, now: Timestamp) {
        let waits = matches!(state.status, Status::Pending | Status::Processing);
        if waits && !self.outcomes.is_unflushed(message.id()) {
            let not_before = state.next_at.unwrap_or(now).max(message.due());
            self.admit_at(message, state, not_before, now);
        }
    }

    /// Puts a message into the window; answers whether it was not there yet.
    fn admit_at(
        &mut self,
        message: MessageRef,
        state: &MessageState,
        mut not_before: Timestamp,
        now: Timestamp,
    ) -> bool {
        let id = message.id();
        if self.window.blocked_reason(id) != Blocked::Absent {
            return false;
        }
        if state.status == Status::Processing {
            // An attempt without an outcome: this actor never made it, so a crash came between.
            let first = state.first_attempt_at.unwrap_or(now);
            let wish = message.message().on_ambiguous;
            match after_ambiguous(self.session.is_idempotent(), first, state.attempts, wish, now) {
                AfterAmbiguous::ResendNow => {}
                AfterAmbiguous::ResendAt(at) => not_before = not_before.max(at),
                AfterAmbiguous::Unknown => {
                    self.outcome(id, now, Event::Unknown);
                    self.settled_outside(id);
                    return false;
                }
            }
        }
        let queue = message.chunk().queue;
        let ready = Ready {
            id,
            queue,
            recipient: message.message().recipient,
            not_before,
            expires_at: self.expires_at(&message),
            attempts: state.attempts,
            bytes: message.weight(),
            item: Item { message, first_attempt_at: state.first_attempt_at },
        };
        self.window.push(ready, now)
    }

    /// When a message is not sent any more.
    fn expires_at(&self, message: &MessageRef) -> Timestamp {
        let ttl_seconds = message.message().ttl_seconds;
        match message.chunk().queue {
            Queue::High | Queue::Normal => {
                message.due() + Duration::from_secs(u64::from(ttl_seconds))
            }
            queue @ Queue::Part(_) => self
                .inbox
                .readers
                .get(&queue)
                .and_then(|reader| reader.part)
                .and_then(|part| part.expires_at(ttl_seconds))
                .unwrap_or(NEVER),
        }
    }

    /// How many ready messages each queue should have in memory.
    fn window_target(&self) -> usize {
        if self.me.context.has_window_room() {
            window_size(self.outbox.rate())
        } else {
            LEAST_WINDOW
        }
    }

    /// Reads on where a queue has room, and takes what is due from the schedule.
    pub(super) fn read_ahead(&mut self, now: Timestamp) {
        if self.inbox.read_again_at.is_some_and(|at| at > now) {
            return;
        }
        self.inbox.read_again_at = None;
        let target = self.window_target();
        let queues: Vec<Queue> = self.inbox.readers.keys().copied().collect();
        for queue in queues {
            let room = self.window.room(queue, target);
            let Some(reader) = self.inbox.readers.get_mut(&queue) else { continue };
            if reader.loading || !reader.runs(queue) {
                continue;
            }
            if reader.at_end {
                if let Some(lane) = single(queue) {
                    self.me.handle.refill(lane, room);
                }
            } else if room > 0 {
                reader.loading = true;
                let after = reader.after;
                self.load(queue, after, room);
            }
        }
        self.read_schedule(now, target);
    }

    fn load(&self, queue: Queue, after: Option<MessageId>, room: usize) {
        if let Some(lane) = single(queue) {
            // Granted before the read: what becomes durable during it is told, or read, or both.
            self.me.handle.grant(lane, room);
        }
        let (store, tell) = (self.me.context.store.clone(), self.me.teller());
        let generation = self.inbox.readers.get(&queue).map_or(0, |reader| reader.generation);
        let instance = self.me.id();
        self.me.context.tasks.spawn(async move {
            let result = store.queued(instance, queue, after, room, READ_BYTES).await;
            tell(InstanceMsg::Loaded(Loaded { queue, generation, result }));
        });
    }

    /// What was read of a queue goes into the window.
    pub(super) fn on_loaded(&mut self, loaded: Loaded) {
        let now = self.me.now();
        let queue = loaded.queue;
        let Some(reader) = self.inbox.readers.get_mut(&queue) else { return };
        if loaded.generation != reader.generation {
            return;
        }
        reader.loading = false;
        let stash = std::mem::take(&mut reader.stash);
        let (chunks, next) = match loaded.result {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(instance = %self.me.id(), %error, "cannot read a queue ahead");
                self.inbox.read_again_at = Some(now + READ_AGAIN);
                return;
            }
        };
        let last = chunks.iter().map(|read| read.chunk.last()).max();
        reader.after = [reader.after, last, next].into_iter().flatten().max();
        reader.at_end = next.is_none();
        reader.seen = chunks.iter().map(|read| read.chunk.first).collect();
        if let Some(lane) = single(queue).filter(|_| next.is_some()) {
            self.me.handle.withdraw(lane);
        }
        for read in &chunks {
            self.admit(&read.chunk, Some(&read.states), now);
        }
        for chunk in stash {
            self.on_stored(chunk);
        }
        // More may have been accepted than there was credit for.
        self.inbox.grew(&self.me.handle);
    }

    fn read_schedule(&mut self, now: Timestamp, target: usize) {
        let schedule = &mut self.inbox.schedule;
        let due = schedule.next.is_some_and(|next| next <= now);
        if !due || schedule.reading || schedule.in_hand.len() >= target {
            return;
        }
        schedule.reading = true;
        let limit = schedule.in_hand.len() + target;
        let (store, tell) = (self.me.context.store.clone(), self.me.teller());
        let instance = self.me.id();
        self.me.context.tasks.spawn(async move {
            let result = store.scheduled(instance, now, limit).await;
            tell(InstanceMsg::Scheduled(Scheduled { result }));
        });
    }

    /// What is due goes into the window; the store lists it until it ends.
    pub(super) fn on_scheduled(&mut self, scheduled: Scheduled) {
        let now = self.me.now();
        self.inbox.schedule.reading = false;
        let (due, next) = match scheduled.result {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(instance = %self.me.id(), %error, "cannot read the schedule");
                self.inbox.read_again_at = Some(now + READ_AGAIN);
                return;
            }
        };
        self.inbox.schedule.next = next;
        for record in due {
            self.admit_due(&record, now);
        }
    }

    fn admit_due(&mut self, record: &MessageRecord, now: Timestamp) {
        let id = record.id();
        if record.state.status.is_settled()
            || self.outcomes.is_unflushed(id)
            || self.inbox.schedule.in_hand.contains(&id)
        {
            return;
        }
        let Some(message) = MessageRef::new(record.chunk.clone(), record.index) else { return };
        let queue = message.chunk().queue;
        if self.inbox.is_held(queue) {
            return;
        }
        let mut state = record.state;
        if state.status == Status::Scheduled {
            self.outcome(id, now, Event::Due);
            state.status = Status::Pending;
        }
        if self.admit_at(message, &state, now, now) {
            self.inbox.schedule.in_hand.insert(id);
        }
    }

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
            Some(reader) => reader.at_end = false,
            None => {
                self.inbox.readers.insert(Queue::Part(batch), Reader::default());
                self.read_part(batch);
            }
        }
    }

    /// The state of a part changed. What waits of it is read again, with the expiry it has now.
    pub(super) fn on_part(
        &mut self,
        batch: BatchId,
        part: Option<PartState>,
        reply: Option<tokio::sync::oneshot::Sender<bool>>,
    ) {
        let queue = Queue::Part(batch);
        let Some(part) = part else {
            self.inbox.readers.remove(&queue);
            return;
        };
        let reader = self.inbox.readers.entry(queue).or_default();
        let before = reader.part.replace(part);
        self.window.set_paused(queue, part.phase != PartPhase::Running);
        if before == Some(part) {
            // Nothing new.
        } else if part.phase == PartPhase::Running {
            self.read_again(queue);
        } else if part.phase == PartPhase::Cancelled {
            self.cancel_part(queue, reply);
            return;
        }
        if let Some(reply) = reply {
            super::requests::answer(reply, true);
        }
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
        let Some(reader) = self.inbox.readers.get_mut(&queue) else { return };
        reader.restart(None);
        for waiting in self.window.remove_where(|of| of == queue, LAST) {
            self.inbox.finished(waiting.id);
        }
        self.inbox.ask_schedule();
    }
}

/// A part is looked at again so long after a read that may have ended before its new rows.
const PART_LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The highest id there can be.
const LAST: MessageId = match MessageId::new((1 << 53) - 1) {
    Some(id) => id,
    None => panic!("2^53 - 1 is an id"),
};
