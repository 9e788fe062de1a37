//! What waits for its time: read when it is due, and kept in hand until it ends.

use rustc_hash::FxHashSet;
use zajil_model::id::MessageId;
use zajil_model::lifecycle::{Event, Status};
use zajil_model::message::MessageRef;
use zajil_model::time::Timestamp;
use zajil_storage::{MessageRecord, StoreError};

use crate::instance::damage::Place;
use crate::instance::inbox::READ_AGAIN;
use crate::instance::reads::Read;
use crate::instance::{InstanceMsg, InstanceState};

/// What was read of the schedule.
#[derive(Debug)]
pub struct Scheduled {
    read: Read,
    result: Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError>,
}

/// The schedule of an instance.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    next: Option<Timestamp>,
    reading: bool,
    /// The earliest that came during a read, which may not have seen it.
    meanwhile: Option<Timestamp>,
    /// Messages of the schedule that are in hand; the store goes on listing them until they end.
    in_hand: FxHashSet<MessageId>,
}

impl Schedule {
    /// A message was accepted, or put off, that is due then.
    pub(super) fn due_at(&mut self, due: Timestamp) {
        let earliest = |known: Option<Timestamp>| known.map_or(due, |known| known.min(due));
        self.next = Some(earliest(self.next));
        if self.reading {
            self.meanwhile = Some(earliest(self.meanwhile));
        }
    }

    /// Reads it at once: a fresh actor does not know when it begins.
    pub(super) fn ask(&mut self) {
        self.due_at(Timestamp::from_micros(0));
    }

    /// A message left: settled, or put into the schedule.
    pub(super) fn finished(&mut self, id: MessageId) {
        self.in_hand.remove(&id);
    }

    /// Whether nothing waits for its time.
    pub(super) const fn is_empty(&self) -> bool {
        self.next.is_none() && !self.reading
    }

    /// When it is read next. What is due already and not being read waits for room in the window,
    /// not for time.
    pub(super) fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.next.filter(|next| !self.reading && *next > now)
    }
}

impl InstanceState {
    /// Reads what is due, as far as there is room.
    pub(super) fn read_schedule(&mut self, now: Timestamp, target: usize) {
        let schedule = &mut self.inbox.schedule;
        let due = schedule.next.is_some_and(|next| next <= now);
        if !due || schedule.reading || schedule.in_hand.len() >= target {
            return;
        }
        schedule.reading = true;
        let read = self.outcomes.reads.begin();
        let limit = schedule.in_hand.len() + target;
        let (store, tell) = (self.me.context.store.clone(), self.me.teller());
        let instance = self.me.id();
        self.me.context.tasks.spawn(async move {
            let result = store.scheduled(instance, now, limit).await;
            tell(InstanceMsg::Scheduled(Scheduled { read, result }));
        });
    }

    /// What is due goes into the window; the store lists it until it ends.
    pub(super) fn on_scheduled(&mut self, scheduled: Scheduled) {
        let read = scheduled.read;
        self.note_read(Place::Schedule, scheduled.result.as_ref().err());
        self.admit_scheduled(scheduled);
        self.outcomes.read_ended(read);
    }

    fn admit_scheduled(&mut self, scheduled: Scheduled) {
        let now = self.me.now();
        self.inbox.schedule.reading = false;
        let meanwhile = self.inbox.schedule.meanwhile.take();
        let (due, next) = match scheduled.result {
            Ok(read) => read,
            Err(_) => {
                self.inbox.read_again_at = Some(now + READ_AGAIN);
                return;
            }
        };
        self.inbox.schedule.next = [next, meanwhile].into_iter().flatten().min();
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
        let Some(message) = MessageRef::new(record.chunk.clone(), record.index) else {
            return;
        };
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
}
