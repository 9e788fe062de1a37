//! What goes next: the window of waiting messages of one instance, and the choice among them.
//!
//! A [`Window`] holds the messages that were read ahead; its owner pushes them in the order of
//! their acceptance and takes one whenever pace and session allow. Four rules decide:
//!
//! - **Order.** The messages of one recipient and lane stand in a line. Only its first may go, and
//!   the next only when that one is [`Window::finished`].
//! - **Time.** A first whose `not_before` lies ahead is *parked*, and its line with it. Nobody else
//!   waits for it. What passes its `expires_at` comes out as [`Taken::Expired`], wherever it stood.
//! - **Lane.** High before normal before bulk, within the shares of [`PATIENCE`]; the parts of the
//!   bulk lane in turn; in a queue the oldest.
//! - **Pause.** The messages of a paused queue stand on a shelf: they neither go nor expire, and
//!   hold nobody. On its return they join the ends of their lines, in their old order.
//!
//! Every operation on one message is O(log n); pausing and mass removal go through the window.

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::id::MessageId;
use crate::message::{Lane, Queue};
use crate::phone::Phone;
use crate::time::Timestamp;

mod lines;
mod moves;
mod queues;
mod shares;
mod size;

pub use shares::PATIENCE;
pub use size::{
    BULK_CAP, LARGEST_WINDOW, LEAST_WINDOW, MOST_IN_FLIGHT, QUEUE_CAP, WINDOW_SECONDS,
    most_in_flight, window_size,
};

use lines::{Held, Lines, SlotIndex};
use queues::Queues;

/// A message in the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready<T> {
    /// Its id.
    pub id: MessageId,
    /// Where it waits.
    pub queue: Queue,
    /// Who gets it.
    pub recipient: Phone,
    /// The earliest time of its next attempt.
    pub not_before: Timestamp,
    /// From this time on it does not go any more.
    pub expires_at: Timestamp,
    /// Attempts that were recorded.
    pub attempts: u8,
    /// What it holds of memory, for the budget of the node.
    pub bytes: u32,
    /// What its owner keeps with it.
    pub item: T,
}

/// What [`Window::take`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// It goes now; its line waits until [`Window::finished`] or [`Window::retry`].
    Go(Ready<T>),
    /// Its time to live ran out; it left the window.
    Expired(Ready<T>),
}

/// Where a message is held, for those who ask what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Behind an earlier message of its recipient and lane.
    Order,
    /// Its queue is paused.
    Paused,
    /// Its next attempt is not due.
    NotBefore,
    /// By nothing but pace, session and other messages' turns.
    Ready,
    /// It is with the transport.
    InFlight,
    /// It is not in the window.
    Absent,
}

/// Where a known message is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Waiting(SlotIndex),
    InFlight(Lane, Phone),
}

/// The window of one instance; the module tells its rules.
#[derive(Debug)]
pub struct Window<T> {
    places: FxHashMap<MessageId, Place>,
    lines: Lines<T>,
    queues: Queues,
    parked: BTreeSet<(Timestamp, SlotIndex)>,
    /// By expiry, all but the shelved.
    expiries: BTreeSet<(Timestamp, SlotIndex)>,
    bytes: usize,
    now: Timestamp,
    /// The orders of the next push, counting up, and of the next retry, counting down.
    orders: (u64, u64),
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Window<T> {
    /// An empty window.
    pub fn new() -> Self {
        Self {
            places: FxHashMap::default(),
            lines: Lines::default(),
            queues: Queues::default(),
            parked: BTreeSet::new(),
            expiries: BTreeSet::new(),
            bytes: 0,
            now: Timestamp::default(),
            orders: (1 << 63, (1 << 63) - 1),
        }
    }

    /// Adds a message behind all others of its queue; `false`, and nothing changed, when its id
    /// is here already.
    pub fn push(&mut self, ready: Ready<T>, now: Timestamp) -> bool {
        self.now = now;
        if self.places.contains_key(&ready.id) {
            return false;
        }
        let order = self.orders.0;
        self.orders.0 += 1;
        self.add(ready, order, false);
        true
    }

    /// The next message that may go, or one that expired; `None` when there is neither.
    pub fn take(&mut self, now: Timestamp) -> Option<Taken<T>> {
        if let Some(expired) = self.take_expired(now) {
            return Some(Taken::Expired(expired));
        }
        self.wake();
        let at = self.queues.turn()?;
        let ready = self.detach(at, true);
        let flying = Place::InFlight(ready.queue.lane(), ready.recipient);
        self.places.insert(ready.id, flying);
        Some(Taken::Go(ready))
    }

    /// A message that expired, ready or held. For an owner that cannot send: [`Self::take`] gives
    /// the same ones.
    pub fn take_expired(&mut self, now: Timestamp) -> Option<Ready<T>> {
        self.now = now;
        let &(expires_at, at) = self.expiries.first()?;
        (expires_at <= now).then(|| self.take_out(at))
    }

    /// A message in flight is done with, and the next of its line may go; `false` when it was not
    /// in flight.
    pub fn finished(&mut self, id: MessageId) -> bool {
        let Some(&Place::InFlight(lane, recipient)) = self.places.get(&id) else {
            return false;
        };
        self.places.remove(&id);
        if let Some(first) = self.lines.free(lane, recipient) {
            self.admit(first);
        }
        true
    }

    /// Puts a message that was in flight back at the head of its line. One that was not in flight
    /// is pushed; `false`, and nothing changed, when it waits already.
    pub fn retry(&mut self, ready: Ready<T>, now: Timestamp) -> bool {
        self.now = now;
        let Some(&Place::InFlight(lane, recipient)) = self.places.get(&ready.id) else {
            return self.push(ready, now);
        };
        let first = self.lines.free(lane, recipient);
        let order = self.orders.1;
        self.orders.1 -= 1;
        let shelved = self.queues.is_paused(ready.queue);
        self.add(ready, order, true);
        if let (Some(first), true) = (first, shelved) {
            self.admit(first);
        }
        true
    }

    /// When to take again: `now` when something is ready or expired; else when something held
    /// becomes so by itself; `None` when nothing will.
    pub fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        if self.queues.ready_count() > 0 {
            return Some(now);
        }
        let (parked, expiry) = (self.parked.first(), self.expiries.first());
        parked
            .into_iter()
            .chain(expiry)
            .map(|(at, _)| (*at).max(now))
            .min()
    }

    /// When the next message expires; those of paused queues do not.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// When the next waiting message of a queue expires, whether the queue is paused or not.
    pub fn next_expiry_of(&self, queue: Queue) -> Option<Timestamp> {
        let of_queue = self.lines.of(|other| other == queue).into_iter();
        of_queue
            .map(|at| self.lines.slot(at).ready.expires_at)
            .min()
    }

    /// Messages that wait: all but those in flight.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether none waits; some may be in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages of a queue that wait.
    pub fn len_of(&self, queue: Queue) -> usize {
        self.queues.len_of(queue)
    }

    /// Messages that may go, as of the last time that was told.
    pub fn ready_count(&self) -> usize {
        self.queues.ready_count()
    }

    /// Bytes of those that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many more messages of a queue to read ahead for `target` ready ones (a
    /// [`window_size`]).
    ///
    /// Held messages do not count towards the target, but all of them count towards [`QUEUE_CAP`]
    /// and [`BULK_CAP`]. A paused queue needs none.
    pub fn room(&self, queue: Queue, target: usize) -> usize {
        self.queues.room(queue, target)
    }

    /// Takes out a message that waits; `None` when it is in flight or absent.
    pub fn remove(&mut self, id: MessageId) -> Option<Ready<T>> {
        match self.places.get(&id) {
            Some(&Place::Waiting(at)) => Some(self.take_out(at)),
            Some(Place::InFlight(..)) | None => None,
        }
    }

    /// Takes out all waiting messages of the queues that `queues` names with ids up to and
    /// including `upto`, sorted by id.
    pub fn remove_where(
        &mut self,
        queues: impl Fn(Queue) -> bool,
        upto: MessageId,
    ) -> Vec<Ready<T>> {
        let mut named = self.lines.of(queues);
        named.retain(|at| self.lines.slot(*at).ready.id <= upto);
        named.sort_unstable_by_key(|at| self.lines.slot(*at).ready.id);
        named.into_iter().map(|at| self.take_out(at)).collect()
    }

    /// Pauses a queue, or lets it go on. Its messages stay.
    pub fn set_paused(&mut self, queue: Queue, paused: bool) {
        if !self.queues.set_paused(queue, paused) {
            return;
        }
        if !paused {
            for at in self.queues.clear_shelf(queue) {
                self.enlist(at, false);
            }
            return;
        }
        for at in self.lines.of(|other| other == queue) {
            self.delist(at, false);
            self.shelve(at);
        }
    }

    /// Moves the expiry of all waiting messages of a queue: the time that a batch was paused does
    /// not count. Those in flight are their owner's to change.
    pub fn postpone_expiry(&mut self, queue: Queue, by: Duration) {
        for at in self.lines.of(|other| other == queue) {
            let slot = self.lines.slot_mut(at);
            let before = slot.ready.expires_at;
            slot.ready.expires_at = before + by;
            if slot.held != Held::Shelved {
                self.expiries.remove(&(before, at));
                self.expiries.insert((before + by, at));
            }
        }
    }

    /// The messages in flight, in no order.
    pub fn in_flight(&self) -> impl Iterator<Item = MessageId> + '_ {
        let flies = |place: &Place| matches!(place, Place::InFlight(..));
        self.places
            .iter()
            .filter(move |(_, place)| flies(place))
            .map(|(id, _)| *id)
    }

    /// How many are in flight.
    pub fn in_flight_count(&self) -> usize {
        self.places.len() - self.lines.len()
    }

    /// Where a message is held, as of the last time that was told.
    pub fn blocked_reason(&self, id: MessageId) -> Blocked {
        match self.places.get(&id) {
            None => Blocked::Absent,
            Some(Place::InFlight(..)) => Blocked::InFlight,
            Some(&Place::Waiting(at)) => match self.lines.slot(at).held {
                Held::Behind => Blocked::Order,
                Held::Ready => Blocked::Ready,
                Held::Parked => Blocked::NotBefore,
                Held::Shelved => Blocked::Paused,
            },
        }
    }
}
