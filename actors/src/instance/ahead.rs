//! Reading ahead: how much is read of which queue, and how it meets what the edge told meanwhile.

use std::sync::Arc;

use zajil_model::id::MessageId;
use zajil_model::lane::window_size;
use zajil_model::lifecycle::{MessageState, Status};
use zajil_model::message::{Chunk, Queue};
use zajil_model::time::Timestamp;
use zajil_storage::{QueuedChunk, StoreError};

use crate::instance::damage::Place;
use crate::instance::expiries::Stretch;
use crate::instance::inbox::{LAST, READ_AGAIN, Reader, Told, single};
use crate::instance::reads::Read;
use crate::instance::{InstanceMsg, InstanceState};

/// Bytes that one read ahead brings at most (beside its first chunk).
const READ_BYTES: usize = 256 << 10;

/// Messages that a window holds when the node's windows are over their budget: enough to go on.
const LEAST_WINDOW: usize = 4;

/// What was read ahead of a queue.
#[derive(Debug)]
pub struct Loaded {
    queue: Queue,
    generation: u32,
    read: Read,
    result: Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError>,
}

impl Reader {
    /// A read brought these chunks, and goes on after `next`, if there is more.
    fn read(&mut self, chunks: &[QueuedChunk], next: Option<MessageId>) {
        let last = chunks.iter().map(|read| read.chunk.last()).max();
        self.after = [self.after, last, next].into_iter().flatten().max();
        self.at_end = next.is_none();
        self.seen = chunks.iter().map(|read| read.chunk.first).collect();
        let states = chunks.iter().flat_map(|read| &read.states);
        let processing = states.filter(|state| state.status == Status::Processing);
        self.unseen = self.unseen.saturating_sub(processing.count() as u64);
    }
}

impl InstanceState {
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
            let mut room = self.window.room(queue, target);
            let Some(reader) = self.inbox.readers.get_mut(&queue) else {
                continue;
            };
            if reader.unseen > 0 {
                room = room.max(LEAST_WINDOW);
            }
            if reader.loading || !reader.runs(queue) {
                continue;
            }
            if reader.at_end {
                if let Some(lane) = single(queue) {
                    self.me.handle.refill(lane, room);
                }
            } else if room > 0 {
                reader.loading = true;
                self.load(queue, room);
            }
        }
        self.read_schedule(now, target);
    }

    fn load(&mut self, queue: Queue, room: usize) {
        let Some(reader) = self.inbox.readers.get_mut(&queue) else {
            return;
        };
        if let Some(lane) = single(queue) {
            // Granted before the read: what becomes durable during it is told, or read, or both.
            self.me.handle.grant(lane, room);
            if let Some(late) = self.me.handle.take_late(lane) {
                reader.go_back(late);
            }
        }
        let (after, generation) = (reader.after, reader.generation);
        let read = self.outcomes.reads.begin();
        let (store, tell) = (self.me.context.store.clone(), self.me.teller());
        let instance = self.me.id();
        self.me.context.tasks.spawn(async move {
            let result = store.queued(instance, queue, after, room, READ_BYTES).await;
            tell(InstanceMsg::Loaded(Loaded {
                queue,
                generation,
                read,
                result,
            }));
        });
    }

    /// What was read of a queue goes into the window.
    pub(super) fn on_loaded(&mut self, loaded: Loaded) {
        let read = loaded.read;
        self.note_read(Place::Queue(loaded.queue), loaded.result.as_ref().err());
        self.admit_loaded(loaded);
        self.purge_what_was_read();
        self.outcomes.read_ended(read);
    }

    fn admit_loaded(&mut self, loaded: Loaded) {
        let queue = loaded.queue;
        let Some(reader) = self.inbox.readers.get_mut(&queue) else {
            return;
        };
        if loaded.generation != reader.generation {
            return;
        }
        reader.loading = false;
        let stash = std::mem::take(&mut reader.stash);
        match loaded.result {
            Ok((chunks, next)) => self.admit_read(queue, &chunks, next, stash),
            Err(_) => {
                if let Some(first) = stash.iter().map(|(chunk, _)| chunk.first).min() {
                    reader.go_back(first);
                }
                self.inbox.read_again_at = Some(self.me.now() + READ_AGAIN);
            }
        }
    }

    /// Admits what a read brought, and what the edge told during it.
    ///
    /// Under reserved ids something may have become durable *behind* what was read. It may have
    /// been answered before the newest that was read was asked for, so all go by their ids.
    fn admit_read(
        &mut self,
        queue: Queue,
        chunks: &[QueuedChunk],
        next: Option<MessageId>,
        stash: Vec<(Arc<Chunk>, Told)>,
    ) {
        let now = self.me.now();
        let late = single(queue).and_then(|lane| self.me.handle.take_late(lane));
        let Some(reader) = self.inbox.readers.get_mut(&queue) else {
            return;
        };
        let began = reader.after;
        let seen = std::mem::take(&mut reader.seen);
        // Of one that the edge had no room to tell of only the id is known: it is read before the
        // rest, which is read again.
        let void = late.is_some_and(|late| Some(late) <= began);
        let chunks = if void { &[] } else { chunks };
        if !void {
            reader.read(chunks, next);
        }
        let (behind, stash): (Vec<_>, Vec<_>) = stash
            .into_iter()
            .partition(|(chunk, told)| *told == Told::Late && Some(chunk.first) <= reader.after);
        let new = |first| !seen.contains(first) && !reader.seen.contains(first);
        let behind = behind.iter().filter(|(chunk, _)| new(&chunk.first));
        let mut ahead: Vec<(&Arc<Chunk>, Option<&[MessageState]>)> = chunks
            .iter()
            .map(|read| (&read.chunk, Some(read.states.as_slice())))
            .chain(behind.map(|(chunk, _)| (chunk, None)))
            .collect();
        ahead.sort_by_key(|(chunk, _)| chunk.first);
        if let Some(late) = late {
            reader.go_back(late);
        }
        if let Some(lane) = single(queue).filter(|_| void || next.is_some()) {
            self.me.handle.withdraw(lane);
        }
        for (chunk, states) in ahead {
            self.admit(chunk, states, now);
        }
        for (chunk, told) in stash {
            self.on_stored(chunk, told);
        }
        if !void {
            self.survey(queue, next, now);
        }
        // More may have been accepted than there was credit for.
        self.inbox.grew(&self.me.handle);
    }

    /// What lies behind the first read of a queue was never looked at: it may expire any time.
    /// The rows of a part expire together.
    fn survey(&mut self, queue: Queue, next: Option<MessageId>, now: Timestamp) {
        let Some(reader) = self.inbox.readers.get_mut(&queue) else {
            return;
        };
        if std::mem::replace(&mut reader.surveyed, true) {
            return;
        }
        let Some(first) = next.and_then(|next| MessageId::new(next.get() + 1)) else {
            return;
        };
        let behind = Stretch { first, last: LAST };
        match single(queue) {
            Some(_) => reader.expiries.note(now, behind),
            None => {
                let at = self.window.next_expiry_of(queue).unwrap_or(now);
                self.inbox.expires_unread(queue, at, behind);
            }
        }
    }
}
