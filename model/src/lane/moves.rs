//! How a message moves within the window: onto its line or shelf, to ready or parked, and out.

use super::lines::{Held, SlotIndex};
use super::{Place, Ready, Window};

impl<T> Window<T> {
    /// Brings a message into the window.
    pub(super) fn add(&mut self, ready: Ready<T>, order: u64, head: bool) {
        let (id, queue) = (ready.id, ready.queue);
        self.bytes += ready.bytes as usize;
        self.queues.came(queue);
        let at = self.lines.keep(ready, order);
        self.places.insert(id, Place::Waiting(at));
        if self.queues.is_paused(queue) {
            self.shelve(at);
        } else {
            self.enlist(at, head);
        }
    }

    /// Takes a waiting message out of the window for good.
    pub(super) fn take_out(&mut self, at: SlotIndex) -> Ready<T> {
        let ready = self.detach(at, false);
        self.places.remove(&ready.id);
        ready
    }

    /// Lets go of a waiting message; with `flies` its line waits for it.
    pub(super) fn detach(&mut self, at: SlotIndex, flies: bool) -> Ready<T> {
        let slot = self.lines.slot(at);
        if slot.held == Held::Shelved {
            self.queues.unshelve(slot.ready.queue, slot.order);
        } else {
            self.delist(at, flies);
        }
        let ready = self.lines.drop_slot(at);
        self.queues.left(ready.queue);
        self.bytes -= ready.bytes as usize;
        ready
    }

    pub(super) fn shelve(&mut self, at: SlotIndex) {
        let slot = self.lines.slot_mut(at);
        slot.held = Held::Shelved;
        self.queues.shelve(slot.ready.queue, slot.order, at);
    }

    /// Puts a message in its line.
    pub(super) fn enlist(&mut self, at: SlotIndex, head: bool) {
        self.expiries
            .insert((self.lines.slot(at).ready.expires_at, at));
        if self.lines.join(at, head) {
            self.admit(at);
        }
    }

    /// Takes a message out of its line, and lets the next one go if that was held by it alone.
    pub(super) fn delist(&mut self, at: SlotIndex, flies: bool) {
        let slot = self.lines.slot(at);
        self.expiries.remove(&(slot.ready.expires_at, at));
        match slot.held {
            Held::Ready => self.queues.remove_ready(slot.ready.queue, slot.order),
            Held::Parked => drop(self.parked.remove(&(slot.ready.not_before, at))),
            Held::Behind | Held::Shelved => {}
        }
        if let Some(first) = self.lines.leave(at, flies) {
            self.admit(first);
        }
    }

    /// A message is the first of its line, with none in flight: it is ready, or parked.
    pub(super) fn admit(&mut self, at: SlotIndex) {
        let slot = self.lines.slot_mut(at);
        if slot.ready.not_before > self.now {
            slot.held = Held::Parked;
            self.parked.insert((slot.ready.not_before, at));
        } else {
            slot.held = Held::Ready;
            self.queues.add_ready(slot.ready.queue, slot.order, at);
        }
    }

    /// Parked messages whose time came are ready.
    pub(super) fn wake(&mut self) {
        while let Some(&(due, at)) = self.parked.first()
            && due <= self.now
        {
            self.parked.pop_first();
            self.admit(at);
        }
    }
}
