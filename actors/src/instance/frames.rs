//! Hand-over: from what is armed to the transport, as fast as the pace allows.

use std::time::Duration;

use rand::Rng;
use rustc_hash::FxHashSet;
use zajil_model::lane::Ready;
use zajil_model::lifecycle::Event;
use zajil_model::retry::{answer_timeout, may_go_again};
use zajil_model::time::{Mono, Timestamp};
use zajil_transport::Outbound;

use super::InstanceState;
use super::outbox::{Armed, Item, TRY_AGAIN};

impl InstanceState {
    /// Hands armed messages over, as far as the pace allows.
    pub(super) fn hand_over(&mut self, now: Timestamp, mono: Mono) {
        if self.outbox.is_blocked(mono) {
            return;
        }
        let careful = self.me.suspects.lock().careful;
        let mut frames = Vec::new();
        while self.outbox.flights.len() < self.outbox.most_in_flight()
            && self.outbox.pace.ready_at(mono) <= mono
            && !self.outbox.is_blocked(mono)
        {
            let Some(armed) = self.outbox.armed.pop_front() else {
                break;
            };
            let item = &armed.ready.item;
            let began = item.first_attempt_at.filter(|_| item.doubtful);
            if began.is_some_and(|began| !may_go_again(began, now)) {
                self.window.finished(armed.ready.id);
                self.ended(&armed.ready, Event::Unknown, now);
                continue;
            }
            let Some(frame) = self.cleared(&armed) else {
                self.window.finished(armed.ready.id);
                self.ended(&armed.ready, Event::Suppressed, now);
                continue;
            };
            let allowed_for = self.outbox.pace.allowed_for(mono);
            if !self.outbox.pace.take(mono, self.me.random.random()) {
                self.outbox.armed.push_front(armed);
                break;
            }
            self.measure_waits(&armed, allowed_for, now);
            self.fly(armed, mono);
            frames.push(frame);
            if careful {
                self.submit(std::mem::take(&mut frames), mono);
            }
        }
        self.submit(frames, mono);
    }

    /// How long a message waited that goes now: in all, and longer than it had to.
    fn measure_waits(&self, armed: &Armed, allowed_for: Duration, now: Timestamp) {
        let due = armed.ready.item.message.due();
        let waits = &self.me.context.metrics.waits;
        if armed.attempt == 1 {
            waits.queued(now.since(due));
        }
        let ready_for = now.since(armed.ready.not_before.max(due));
        waits.in_excess(allowed_for.min(ready_for));
    }

    /// The one place where a message becomes something that a transport takes.
    fn cleared(&self, armed: &Armed) -> Option<Outbound> {
        let set = self.outbox.suppressions.as_ref()?;
        let cleared = set
            .clear(armed.ready.recipient, armed.ready.item.message.clone())
            .ok()?;
        Some(Outbound {
            wa_id: self.me.context.wa_key.of(armed.ready.id),
            attempt: armed.attempt,
            message: cleared,
        })
    }

    fn fly(&mut self, mut armed: Armed, mono: Mono) {
        armed.flown_at = Some(mono);
        let timeout = mono + answer_timeout(self.me.instance.transport);
        self.outbox.flights.begin(armed, timeout);
    }

    fn submit(&mut self, frames: Vec<Outbound>, mono: Mono) {
        let Some(transport) = self.session.transport() else {
            return;
        };
        if frames.is_empty() {
            return;
        }
        let count = frames.len();
        if let [only] = frames.as_slice() {
            self.me.suspects.lock().current = Some(only.message.get().id());
        }
        let refused = transport.submit(frames);
        // However long it took, no window holds more than the pace allows.
        let over = self.me.mono();
        self.outbox.pace.handed_over(count as u32, over);
        self.me.suspects.lock().current = None;
        self.me.context.metrics.handed_over(count - refused.len());
        if !refused.is_empty() {
            self.outbox.blocked_until = Some(mono + TRY_AGAIN);
        }
        let left: FxHashSet<_> = refused
            .iter()
            .map(|frame| frame.message.get().id())
            .collect();
        self.outbox.flights.forget(&left);
        for frame in refused.into_iter().rev() {
            if let Some(armed) = self.outbox.flights.land(frame.message.get().id()) {
                self.outbox.armed.push_front(armed);
            }
        }
    }

    /// Gives up on answers whose time is over: their outcome is not known.
    pub(super) fn time_out(&mut self, now: Timestamp, mono: Mono) {
        while let Some(id) = self.outbox.flights.next_late(mono) {
            self.ambiguous(id, now);
        }
    }

    /// A message that left the window ended. Of one that may have been sent it is not said that it
    /// was not.
    pub(super) fn ended(&mut self, ready: &Ready<Item>, event: Event, now: Timestamp) {
        let event = if ready.item.doubtful {
            event.in_doubt()
        } else {
            event
        };
        self.outcome(ready.id, now, event);
        self.inbox.schedule.finished(ready.id);
    }
}
