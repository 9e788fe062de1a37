//! What comes in: from the log and from the edge into the window.
//!
//! Each queue has a reader. At the end of its queue it takes chunks straight from the edge, as
//! far as it granted credit; behind it, it reads the log, so that a backlog of any size costs no
//! memory. A fresh reader begins with the oldest unsettled message, which the store keeps.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use zajil_model::id::{BatchId, InstanceId, MessageId};
use zajil_model::message::{Chunk, Lane, MessageRef, Queue};
use zajil_model::time::Timestamp;
use zajil_storage::{Store, StoreError};

use crate::batch::{PartPhase, PartState};
use crate::instance::InstanceState;
use crate::instance::damage::Damage;
use crate::instance::expire::Sweep;
use crate::instance::expiries::{Expiries, Stretch};
use crate::instance::handle::Handle;
use crate::instance::schedule::Schedule;

/// The wait before a failed read is tried again.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(1);

/// A time that never comes: the expiry of rows while their batch is not running.
pub(super) const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// A time that has come in any case.
const SOON: Timestamp = Timestamp::from_micros(0);

/// How chunks come straight from the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// In the order of their ids.
    InOrder,
    /// With ids older than others that were read.
    Late,
}

/// The reader of one queue.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Everything up to this id was read.
    pub(super) after: Option<MessageId>,
    pub(super) at_end: bool,
    pub(super) loading: bool,
    /// Chunks that came from the edge during a read.
    pub(super) stash: Vec<(Arc<Chunk>, Told)>,
    /// First ids of the chunks of the read that reached the end: the edge may tell of them again.
    pub(super) seen: FxHashSet<MessageId>,
    pub(super) part: Option<PartState>,
    /// Whether the row of its batch was read here: what is told may have been on its way for long.
    pub(super) part_read: bool,
    /// Whether that row is being read: the actor stays until it was.
    pub(super) asked: bool,
    /// Counts the reads that were made void: an answer of an older one is dropped.
    pub(super) generation: u32,
    /// How many messages the last owner may have handed over that were not read yet. They are among
    /// its oldest, and are read whatever room there is.
    pub(super) unseen: u64,
    /// When what was not read expires.
    pub(super) expiries: Expiries,
    /// Whether `expiries` covers everything that was not read.
    pub(super) surveyed: bool,
    /// Everything up to this id was withdrawn with its part, but for what was with the transport.
    pub(super) withdrawn: Option<MessageId>,
}

impl Reader {
    pub(super) fn runs(&self, queue: Queue) -> bool {
        match queue {
            Queue::High | Queue::Normal => true,
            Queue::Part(_) => self.part_read && self.is_in(PartPhase::Running),
        }
    }

    /// Whether nothing of its queue waits for the actor.
    fn is_idle(&self, queue: Queue) -> bool {
        !self.asked && !self.loading && (self.at_end || !self.runs(queue))
    }

    /// Whether its part is in that phase.
    pub(super) fn is_in(&self, phase: PartPhase) -> bool {
        self.part.is_some_and(|part| part.phase == phase)
    }

    /// All of it is looked through, soon, up to an id.
    pub(super) fn look_through(&mut self, last: MessageId) {
        let first = FIRST;
        self.expiries.note(SOON, Stretch { first, last });
    }

    /// Reads from after `after` again; what is being read now is void.
    pub(super) fn restart(&mut self, after: Option<MessageId>) {
        self.after = after;
        self.at_end = false;
        self.loading = false;
        self.generation += 1;
        self.stash.clear();
    }

    /// Reads again from before `first`: that was passed over.
    pub(super) fn go_back(&mut self, first: MessageId) {
        let before = MessageId::new(first.get().saturating_sub(1));
        self.after = self.after.min(before);
        self.at_end = false;
    }
}

/// The readers of an instance, and its schedule.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(super) readers: FxHashMap<Queue, Reader>,
    pub(super) schedule: Schedule,
    pub(super) sweep: Sweep,
    pub(super) damage: Damage,
    pub(super) read_again_at: Option<Timestamp>,
    /// Everything up to this id was withdrawn by this actor, but for what was with the transport: of
    /// queues, too, that it hears of later. It may not be durable yet.
    pub(super) withdrawn: Option<MessageId>,
    /// That everything up to this id was withdrawn is durable, by this actor or one before it.
    pub(super) purged: Option<MessageId>,
}

/// While a queue is behind, what was accepted of it unread is asked for at least this often.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// And at most this often.
const LEAST_LOOK: Duration = Duration::from_secs(1);

/// The lane of a queue of single messages.
pub(super) const fn single(queue: Queue) -> Option<Lane> {
    match queue {
        Queue::High => Some(Lane::High),
        Queue::Normal => Some(Lane::Normal),
        Queue::Part(_) => None,
    }
}

impl Inbox {
    /// Readers that begin with the oldest unsettled message of each queue, as the store knows it.
    pub(super) fn new(parts: &[BatchId], purged: Option<MessageId>) -> Self {
        let parts = parts.iter().map(|batch| Queue::Part(*batch));
        let queues = [Queue::High, Queue::Normal].into_iter().chain(parts);
        Self {
            readers: queues.map(|queue| (queue, Reader::default())).collect(),
            schedule: Schedule::default(),
            sweep: Sweep::default(),
            damage: Damage::default(),
            read_again_at: None,
            withdrawn: None,
            purged,
        }
    }

    /// Learns how much of each queue somebody had in hand before.
    pub(super) async fn count_unseen(
        &mut self,
        store: &dyn Store,
        instance: InstanceId,
    ) -> Result<(), StoreError> {
        for (queue, reader) in &mut self.readers {
            reader.unseen = store.processing(instance, *queue).await?;
        }
        Ok(())
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
                if let Some(late) = handle.take_late(lane) {
                    reader.go_back(late);
                }
            }
        }
    }

    /// Whether everything that somebody had in hand before of both queues of single messages was
    /// read.
    pub(super) fn was_looked_at(&self) -> bool {
        let single = |(queue, _): &(&Queue, &Reader)| single(**queue).is_some();
        self.readers
            .iter()
            .filter(single)
            .all(|(_, reader)| reader.surveyed && (reader.unseen == 0 || reader.at_end))
    }

    /// Whether nothing waits anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.schedule.is_empty()
            && self
                .readers
                .iter()
                .all(|(queue, reader)| reader.is_idle(*queue))
    }

    /// When a read is due by itself.
    pub(super) fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let schedule = self.schedule.wakes_at(now);
        let behind = self
            .readers
            .iter()
            .filter(|(queue, reader)| !reader.at_end && reader.runs(**queue));
        let unread = behind.map(|(_, reader)| {
            let look = now + LOOK_EVERY;
            reader
                .expiries
                .next()
                .map_or(look, |at| at.min(look))
                .max(now + LEAST_LOOK)
        });
        let cancelled = self
            .readers
            .values()
            .filter(|reader| reader.is_in(PartPhase::Cancelled));
        let left =
            cancelled.filter_map(|reader| Some(reader.expiries.next()?.max(now + LEAST_LOOK)));
        let others = [self.read_again_at, schedule, self.sweep.wakes_at()];
        others.into_iter().flatten().chain(unread).chain(left).min()
    }

    /// Nothing in a stretch of a queue, which is not read, expires before `at`.
    pub(super) fn expires_unread(&mut self, queue: Queue, at: Timestamp, stretch: Stretch) {
        if let Some(reader) = self.readers.get_mut(&queue).filter(|_| at < NEVER) {
            reader.expiries.note(at, stretch);
        }
    }

    /// A stretch of a queue in which something may have expired unread.
    pub(super) fn expired_unread(
        &mut self,
        handle: &Handle,
        now: Timestamp,
    ) -> Option<(Queue, Stretch)> {
        for (queue, reader) in &mut self.readers {
            if let Some(lane) = single(*queue) {
                reader.expiries.absorb(handle.take_unread(lane));
            }
            let missed = single(*queue).is_some_and(|lane| handle.missed(lane));
            let behind = (missed || !reader.at_end) && reader.runs(*queue);
            let cancelled = reader.is_in(PartPhase::Cancelled);
            let purged = self.purged.filter(|_| single(*queue).is_none());
            while let Some(mut stretch) = reader.expiries.take(now) {
                if cancelled || purged.is_some_and(|upto| stretch.first <= upto) {
                    return Some((*queue, stretch));
                }
                // What was read is in the window, and expires there.
                if let Some(after) = reader.after {
                    stretch.first = stretch.first.max(after);
                }
                if stretch.first <= stretch.last && behind {
                    return Some((*queue, stretch));
                }
            }
        }
        None
    }

    /// Whether a queue is paused, for who asks what its messages wait for.
    pub(super) fn is_held(&self, queue: Queue) -> bool {
        self.readers
            .get(&queue)
            .is_some_and(|reader| !reader.runs(queue))
    }
}

impl InstanceState {
    /// Messages came straight from the edge.
    pub(super) fn on_stored(&mut self, chunk: Arc<Chunk>, told: Told) {
        let now = self.me.now();
        let Some(reader) = self.inbox.readers.get_mut(&chunk.queue) else {
            return;
        };
        if reader.loading {
            reader.stash.push((chunk, told));
        } else if reader.after.is_some_and(|after| chunk.first <= after) {
            // In order: it was read before it was told of.
            if told == Told::Late && !reader.seen.contains(&chunk.first) {
                self.admit(&chunk, None, now);
            }
        } else if reader.at_end {
            reader.after = Some(chunk.last());
            self.admit(&chunk, None, now);
        } else {
            reader.expiries.note_chunk(&chunk);
        }
    }

    /// When a message is not sent any more.
    pub(super) fn expires_at(&self, message: &MessageRef) -> Timestamp {
        let ttl_seconds = message.message().ttl_seconds;
        match message.chunk().queue {
            Queue::High | Queue::Normal => message.message().expires_at(message.chunk().created_at),
            queue @ Queue::Part(_) => self
                .inbox
                .readers
                .get(&queue)
                .and_then(|reader| reader.part)
                .and_then(|part| part.expires_at(ttl_seconds))
                .unwrap_or(NEVER),
        }
    }
}

/// The lowest id there can be.
const FIRST: MessageId = match MessageId::new(1) {
    Some(id) => id,
    None => panic!("1 is an id"),
};

/// The highest id there can be.
pub(super) const LAST: MessageId = match MessageId::new((1 << 53) - 1) {
    Some(id) => id,
    None => panic!("2^53 - 1 is an id"),
};
