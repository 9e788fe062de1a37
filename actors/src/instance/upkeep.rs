//! When the actor of an instance is woken, what it counts, and how it leaves.

use std::time::Duration;

use tokio::sync::oneshot;
use zajil_model::lifecycle::Event;
use zajil_model::message::Lane;
use zajil_model::time::{Mono, Timestamp};
use zajil_storage::StoreError;

use crate::instance::InstanceState;
use crate::instance::handed::Handed;

/// How soon an instance with something to send looks again whether the lease is good: nobody tells it.
const LEASE_LOOK: Duration = Duration::from_secs(1);

/// How long nothing has to happen before an actor leaves: longer than receipts usually take.
const IDLE_AFTER: Duration = Duration::from_secs(300);

/// When the actor wants to be woken, and what it does when nothing happens.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// Wake-ups that were asked for and have not come, the earliest last.
    wakes: Vec<Mono>,
    busy_at: Mono,
    saved_at: Mono,
    counted_bytes: usize,
    pub(super) draining: bool,
    /// Who waits for nothing to be in flight.
    pub(super) quiet: Vec<oneshot::Sender<Handed>>,
    /// Who wants everything withdrawn, and waits for a look at the queues.
    pub(super) purges: Vec<oneshot::Sender<Result<(), StoreError>>>,
    pub(super) sent: u64,
    pub(super) failed: u64,
}

impl Upkeep {
    pub(super) const fn new(mono: Mono) -> Self {
        Self {
            wakes: Vec::new(),
            busy_at: mono,
            saved_at: mono,
            counted_bytes: 0,
            draining: false,
            quiet: Vec::new(),
            purges: Vec::new(),
            sent: 0,
            failed: 0,
        }
    }

    /// A wake-up came.
    pub(super) fn woke(&mut self, mono: Mono) {
        while self.wakes.pop_if(|at| *at <= mono).is_some() {}
    }

    /// Whether a checkpoint is due; if so it counts as written.
    pub(super) fn save_is_due(&mut self, mono: Mono, every: Duration) -> bool {
        let due = self.draining || mono.since(self.saved_at) >= every;
        if due {
            self.saved_at = mono;
        }
        due
    }

    pub(super) const fn counted(&mut self, event: &Event) {
        match event {
            Event::Acked => self.sent += 1,
            Event::Failed(_) | Event::Rejected(_) | Event::Expired | Event::Unknown => {
                self.failed += 1;
            }
            Event::Attempt(_)
            | Event::Refused { .. }
            | Event::Scheduled(_)
            | Event::Due
            | Event::Delivered
            | Event::Read
            | Event::Cancelled
            | Event::Suppressed => {}
        }
    }
}

impl InstanceState {
    /// Keeps the node's count of window bytes.
    pub(super) fn count_bytes(&mut self, bytes: usize) {
        use std::sync::atomic::Ordering::Relaxed;
        let all = &self.me.context.window_bytes;
        match bytes.checked_sub(self.upkeep.counted_bytes) {
            Some(more) => all.fetch_add(more, Relaxed),
            None => all.fetch_sub(self.upkeep.counted_bytes - bytes, Relaxed),
        };
        self.upkeep.counted_bytes = bytes;
    }

    /// Asks the timer for the next point at which something can go on by itself.
    pub(super) fn wake_when_needed(&mut self, now: Timestamp, mono: Mono) {
        let from_wall = |at: Timestamp| mono + at.since(now);
        let mut next = self.idle_at(mono);
        let mut sooner = |at: Option<Mono>| {
            if let Some(at) = at {
                next = next.min(at.max(mono));
            }
        };
        sooner(self.outcomes.due());
        sooner(self.outbox.times_out_at());
        sooner(self.session.wakes_at(now).map(from_wall));
        sooner(self.window.next_expiry().map(from_wall));
        sooner(self.outbox.expires_at().map(from_wall));
        if !self.upkeep.draining {
            sooner(self.inbox.wakes_at(now).map(from_wall));
        }
        let has_work = !self.window.is_empty() || !self.outbox.is_empty();
        if self.can_send(now) {
            sooner(self.sends_at(now, mono));
        } else if has_work && !self.me.may_send() {
            sooner(Some(mono + LEASE_LOOK));
        }
        // A wake-up is never taken back, so one that comes before does as well.
        if self.upkeep.wakes.last().is_none_or(|at| next < *at) {
            self.upkeep.wakes.push(next);
            self.me.context.timer.at(next, self.me.handle.clone());
        }
    }

    /// The earliest time at which a message may be armed or handed over.
    fn sends_at(&self, now: Timestamp, mono: Mono) -> Option<Mono> {
        let hands_over = self.outbox.hands_over_at(mono);
        let arms = self.window.next_wake(now).and_then(|wake| {
            let ready = mono + wake.since(now);
            self.outbox.arms_at(now, mono).map(|at| at.max(ready))
        });
        hands_over.into_iter().chain(arms).min()
    }

    /// Whether everything that a drain waits for is done.
    pub(super) fn is_drained(&self) -> bool {
        self.upkeep.draining && self.outbox.is_quiet() && self.outcomes.is_empty()
    }

    /// When the actor would leave if nothing happened; being busy puts it off.
    pub(super) fn idle_at(&mut self, mono: Mono) -> Mono {
        if !self.is_idle() {
            self.upkeep.busy_at = mono;
        }
        self.upkeep.busy_at + IDLE_AFTER
    }

    fn is_idle(&self) -> bool {
        self.window.is_empty()
            && self.outbox.is_empty()
            && self.outcomes.is_empty()
            && self.inbox.is_empty()
            && !self.me.handle.missed(Lane::High)
            && !self.me.handle.missed(Lane::Normal)
    }

    /// Whether the actor is idle for long, and nobody is on the way in.
    pub(super) fn may_leave(&self) -> bool {
        let idle_for = self.me.mono().since(self.upkeep.busy_at);
        self.is_idle() && idle_for >= IDLE_AFTER && self.me.handle.try_close()
    }

    /// Leaves in good order.
    pub(super) fn leave(&mut self) {
        self.session.leave(&self.me);
        self.leave_rest_of_day();
        self.me.myself.stop(None);
    }
}
