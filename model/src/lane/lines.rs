//! The messages of the window, and the line in which those of one recipient and lane stand.
//!
//! Messages live in a slab; a line is a list through it, so that joining, leaving from anywhere
//! and overtaking nobody are all O(1) and allocate nothing in the usual case of one message each.

use rustc_hash::FxHashMap;

use super::Ready;
use crate::message::{Lane, Queue};
use crate::phone::Phone;

/// The place of a message in the slab.
pub(super) type SlotIndex = u32;

/// Where a waiting message is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// In its line, behind another or behind one in flight.
    Behind,
    /// First in its line, and due.
    Ready,
    /// First in its line, and not yet due.
    Parked,
    /// Out of its line: its queue is paused.
    Shelved,
}

/// A waiting message.
#[derive(Debug)]
pub(super) struct Slot<T> {
    pub(super) ready: Ready<T>,
    /// The order in which messages were pushed; a retry goes before all of them.
    pub(super) order: u64,
    pub(super) held: Held,
    before: Option<SlotIndex>,
    after: Option<SlotIndex>,
}

/// The messages of one recipient and lane.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    first: Option<SlotIndex>,
    last: Option<SlotIndex>,
    /// One of them is in flight.
    busy: bool,
}

/// All waiting messages, and their lines.
#[derive(Debug)]
pub(super) struct Lines<T> {
    slots: Vec<Option<Slot<T>>>,
    free: Vec<SlotIndex>,
    /// By lane, in the order of [`Lane::ALL`].
    lines: [FxHashMap<Phone, Line>; 3],
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            lines: Default::default(),
        }
    }
}

impl<T> Lines<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A waiting message.
    pub(super) fn slot(&self, at: SlotIndex) -> &Slot<T> {
        self.slots[at as usize]
            .as_ref()
            .expect("an index names a message until it is dropped")
    }

    /// A waiting message, to be changed.
    pub(super) fn slot_mut(&mut self, at: SlotIndex) -> &mut Slot<T> {
        self.slots[at as usize]
            .as_mut()
            .expect("an index names a message until it is dropped")
    }

    /// Every waiting message of the queues that `queues` names.
    pub(super) fn of(&self, queues: impl Fn(Queue) -> bool) -> Vec<SlotIndex> {
        let named = |slot: &Option<Slot<T>>| slot.as_ref().is_some_and(|s| queues(s.ready.queue));
        (0..)
            .zip(&self.slots)
            .filter(|(_, slot)| named(slot))
            .map(|(at, _)| at)
            .collect()
    }

    /// Keeps a message, in no line yet.
    pub(super) fn keep(&mut self, ready: Ready<T>, order: u64) -> SlotIndex {
        let slot = Some(Slot {
            ready,
            order,
            held: Held::Shelved,
            before: None,
            after: None,
        });
        if let Some(at) = self.free.pop() {
            self.slots[at as usize] = slot;
            return at;
        }
        self.slots.push(slot);
        SlotIndex::try_from(self.slots.len() - 1).expect("a window holds far below 2^32 messages")
    }

    /// Lets go of a message that is in no line.
    pub(super) fn drop_slot(&mut self, at: SlotIndex) -> Ready<T> {
        self.free.push(at);
        self.slots[at as usize]
            .take()
            .expect("a message is dropped once")
            .ready
    }

    /// Puts a message at the end of its line, or at its head; answers whether it is the first and
    /// nothing of the line is in flight.
    pub(super) fn join(&mut self, at: SlotIndex, head: bool) -> bool {
        let (lane, recipient) = self.line_of(at);
        let line = self.lines[lane as usize].entry(recipient).or_default();
        let neighbour = if head {
            line.first.replace(at)
        } else {
            line.last.replace(at)
        };
        if neighbour.is_none() {
            (line.first, line.last) = (Some(at), Some(at));
        }
        let goes_first = line.first == Some(at) && !line.busy;
        let slot = self.slot_mut(at);
        slot.held = Held::Behind;
        if head {
            slot.after = neighbour;
        } else {
            slot.before = neighbour;
        }
        if let Some(neighbour) = neighbour {
            let neighbour = self.slot_mut(neighbour);
            if head {
                neighbour.before = Some(at);
            } else {
                neighbour.after = Some(at);
            }
        }
        goes_first
    }

    /// Takes a message out of its line. With `busy` it is in flight from now on; else answers who
    /// is first now, when that is somebody new and nothing of the line is in flight.
    pub(super) fn leave(&mut self, at: SlotIndex, busy: bool) -> Option<SlotIndex> {
        let (lane, recipient) = self.line_of(at);
        let slot = self.slot_mut(at);
        let (before, after) = (slot.before.take(), slot.after.take());
        if let Some(before) = before {
            self.slot_mut(before).after = after;
        }
        if let Some(after) = after {
            self.slot_mut(after).before = before;
        }
        let lines = &mut self.lines[lane as usize];
        let line = lines
            .get_mut(&recipient)
            .expect("a message in a line has a line");
        if before.is_none() {
            line.first = after;
        }
        if after.is_none() {
            line.last = before;
        }
        line.busy |= busy;
        if line.busy {
            return None;
        }
        if line.first.is_none() {
            lines.remove(&recipient);
        }
        after.filter(|_| before.is_none())
    }

    /// Nothing of a line is in flight any more; answers who is first in it.
    pub(super) fn free(&mut self, lane: Lane, recipient: Phone) -> Option<SlotIndex> {
        let lines = &mut self.lines[lane as usize];
        let line = lines.get_mut(&recipient)?;
        line.busy = false;
        let first = line.first;
        if first.is_none() {
            lines.remove(&recipient);
        }
        first
    }

    fn line_of(&self, at: SlotIndex) -> (Lane, Phone) {
        let ready = &self.slot(at).ready;
        (ready.queue.lane(), ready.recipient)
    }
}
