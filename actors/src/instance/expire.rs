//! What expires without being sent: in the window, before its hand-over, and in a backlog that is
//! not being read (`DESIGN.md`, section 1: a message settles at most 60 s after its time).

use std::time::Duration;

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::lane::{Blocked, Ready};
use zajil_model::lifecycle::{Event, Status};
use zajil_model::message::{MessageRef, Queue};
use zajil_model::time::Timestamp;
use zajil_storage::{Expiring, QueuedChunk, Store, StoreError};

use crate::instance::damage::Place;
use crate::instance::expiries::Stretch;
use crate::instance::inbox::{NEVER, single};
use crate::instance::outbox::Item;
use crate::instance::reads::Read;
use crate::instance::{InstanceMsg, InstanceState};

/// Messages that are looked through at once.
const PAGE: usize = 2_000;

/// Steps in the index of what expires that are made at once: what is not due of 65,000 messages is
/// passed over in the time that it takes to look through a few thousand.
const STEPS: usize = 256;

/// Bytes of them.
const PAGE_BYTES: usize = 1 << 20;

/// Outcomes on their way to the log above which no more are added by looking through a backlog.
const MOST_ON_THE_WAY: usize = 4 * PAGE;

/// The wait before the next page when nothing in the last one had expired: looking through a
/// backlog must not take the store from those who send.
const PAGE_EVERY: Duration = Duration::from_millis(20);

/// The wait before a failed read is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A part of a queue that was looked through.
#[derive(Debug)]
pub struct Swept {
    queue: Queue,
    stretch: Stretch,
    read: Read,
    result: Result<Page, StoreError>,
}

/// What was found there.
#[derive(Debug, Default)]
struct Page {
    /// What was passed over: nothing in it has expired.
    later: Vec<Expiring>,
    /// The messages behind that.
    chunks: Vec<QueuedChunk>,
    /// Where to go on, if there is more.
    next: Option<MessageId>,
}

/// Looks through a queue from after an id: passes over what expires later, and reads what may
/// have expired.
async fn look(
    store: &dyn Store,
    (instance, queue): (InstanceId, Queue),
    after: Option<MessageId>,
    now: Timestamp,
) -> Result<Page, StoreError> {
    let mut page = Page::default();
    let mut from = after;
    // The rows of a part expire together, by the time of their batch: all of it is read.
    if single(queue).is_some() {
        let (mut stretches, next) = store.expiries(instance, queue, after, STEPS).await?;
        let due = stretches.iter().position(|stretch| stretch.at <= now);
        let Some(due) = due else {
            page.later = stretches;
            page.next = next;
            return Ok(page);
        };
        from = from.max(before(stretches[due].first));
        stretches.truncate(due);
        page.later = stretches;
    }
    let read = store.queued(instance, queue, from, PAGE, PAGE_BYTES);
    (page.chunks, page.next) = read.await?;
    Ok(page)
}

/// The id to begin after, to begin with `first`.
fn before(first: MessageId) -> Option<MessageId> {
    MessageId::new(first.get().saturating_sub(1))
}

/// What has to be looked through now, and when.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    reading: bool,
    rest: Option<(Queue, Stretch)>,
    next_at: Option<Timestamp>,
}

impl Sweep {
    /// When the next page is due by itself.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        self.next_at
            .filter(|_| self.rest.is_some() && !self.reading)
    }
}

impl InstanceState {
    /// Settles what expired in the window and before its hand-over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some(ready) = self.window.take_expired(now) {
            self.expired(&ready, now);
        }
        while let Some(armed) = self
            .outbox
            .disarm_where(|armed| armed.ready.expires_at <= now)
        {
            self.window.finished(armed.ready.id);
            self.expired(&armed.ready, now);
        }
    }

    /// The time of a message ran out.
    pub(super) fn expired(&mut self, ready: &Ready<Item>, now: Timestamp) {
        self.ended(ready, Event::Expired, now);
    }

    /// Looks through a stretch of a queue in which something may have expired unread.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let waits = self.inbox.sweep.next_at.is_some_and(|at| at > now);
        if self.inbox.sweep.reading || waits || self.outcomes.on_the_way() > MOST_ON_THE_WAY {
            return;
        }
        let rest = self.inbox.sweep.rest.take();
        let due = rest.or_else(|| self.inbox.expired_unread(&self.me.handle, now));
        let Some((queue, stretch)) = due else { return };
        self.inbox.sweep.reading = true;
        let read = self.outcomes.reads.begin();
        let (context, tell) = (self.me.context.clone(), self.me.teller());
        let instance = self.me.id();
        self.me.context.tasks.spawn(async move {
            let _turn = context.sweeps.acquire().await;
            let (store, after) = (context.store.as_ref(), before(stretch.first));
            let result = look(store, (instance, queue), after, now).await;
            tell(InstanceMsg::Swept(Swept {
                queue,
                stretch,
                read,
                result,
            }));
        });
    }

    /// A page was looked through: what expired settles, the rest is remembered.
    pub(super) fn on_swept(&mut self, swept: Swept) {
        let now = self.me.now();
        let Swept {
            queue,
            stretch,
            read,
            result,
        } = swept;
        self.inbox.sweep.reading = false;
        self.note_read(Place::Backlog(queue), result.as_ref().err());
        let page = match result {
            Ok(page) => page,
            Err(_) => {
                self.outcomes.read_ended(read);
                self.inbox.sweep.rest = Some((queue, stretch));
                self.inbox.sweep.next_at = Some(now + LOOK_AGAIN);
                return;
            }
        };
        let mut settled = 0;
        for later in &page.later {
            let (first, last) = (later.first, later.last);
            let within = Stretch { first, last };
            self.inbox.expires_unread(queue, later.at, within);
        }
        for read in &page.chunks {
            let (gone, earliest) = self.settle_expired(read, now);
            settled += gone;
            let within = Stretch {
                first: read.chunk.first,
                last: read.chunk.last(),
            };
            self.inbox.expires_unread(queue, earliest, within);
        }
        self.outcomes.read_ended(read);
        let first = page.next.and_then(|next| MessageId::new(next.get() + 1));
        let rest = first.map(|first| (queue, Stretch { first, ..stretch }));
        self.inbox.sweep.rest = rest.filter(|(_, rest)| rest.first <= rest.last);
        self.inbox.sweep.next_at = (settled == 0).then(|| now + PAGE_EVERY);
    }

    /// Settles what expired in a chunk and is not in hand; answers how many, and when the next
    /// does.
    fn settle_expired(&mut self, read: &QueuedChunk, now: Timestamp) -> (usize, Timestamp) {
        let (mut settled, mut earliest) = (0, NEVER);
        for (index, state) in (0..).zip(&read.states) {
            let Some(message) = MessageRef::new(read.chunk.clone(), index) else {
                continue;
            };
            let id = message.id();
            let event = match state.status {
                Status::Pending => Event::Expired,
                Status::Processing => Event::Unknown,
                _ => continue,
            };
            let in_hand = self.window.blocked_reason(id) != Blocked::Absent;
            if in_hand || self.outcomes.is_unflushed(id) {
                continue;
            }
            // A mass cancel leaves alone what was with the transport, and nobody sends it again.
            let left = event == Event::Unknown && self.inbox.is_left(message.chunk().queue, id);
            let expires_at = if left { now } else { self.expires_at(&message) };
            if expires_at <= now {
                self.outcome(id, now, event);
                settled += 1;
            } else {
                earliest = earliest.min(expires_at);
            }
        }
        (settled, earliest)
    }
}
