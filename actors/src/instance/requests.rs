//! What people and the API ask of an instance.

use std::sync::Arc;

use tokio::sync::oneshot;
use zajil_model::id::MessageId;
use zajil_model::instance::Instance;
use zajil_model::lane::Blocked;
use zajil_model::lifecycle::{Event, Outcome, Status};
use zajil_model::time::Mono;
use zajil_storage::{Append, Entry, MessageRecord, StoreError};

use crate::instance::written::Written;
use crate::instance::{InstanceMsg, InstanceState};
use crate::send::{InstanceFigures, InstanceView, WaitReason, Waiting};

/// Answers somebody who may have stopped waiting.
pub(super) fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    // Who asked may be gone; then nobody needs the answer.
    drop(reply.send(value));
}

impl InstanceState {
    /// The instance was changed: its pace, whether it is paused, what its session should be.
    pub(super) fn on_apply(&mut self, instance: Arc<Instance>, reply: oneshot::Sender<()>) {
        let (now, mono) = (self.me.now(), self.me.mono());
        let before = std::mem::replace(&mut self.me.instance, instance);
        if before.pace != self.me.instance.pace {
            self.outbox.set_pace(&self.me.instance, now, mono);
        }
        let settings_changed = before.settings != self.me.instance.settings;
        self.session.want(&self.me, settings_changed);
        answer(reply, ());
    }

    /// Withdraws one message that is not being sent.
    pub(super) fn on_cancel(
        &mut self,
        id: MessageId,
        reply: oneshot::Sender<Result<Status, StoreError>>,
    ) {
        if self.window.blocked_reason(id) == Blocked::InFlight {
            answer(reply, Ok(Status::Processing));
            return;
        }
        let removed = self.window.remove(id);
        let may_have_gone = removed.is_some_and(|ready| ready.item.doubtful);
        self.inbox.schedule.finished(id);
        // A read that is under way may bring it back: its end is known here first.
        self.outcomes.expect_end(id);
        let outcome = Outcome {
            id,
            at: self.me.now(),
            event: if may_have_gone {
                Event::Cancelled.in_doubt()
            } else {
                Event::Cancelled
            },
        };
        let shard = self.me.handle.shard();
        let epoch = self.me.context.clocks.epoch(shard).unwrap_or_default();
        let (tell, answers) = (self.me.teller(), self.outcomes.answers.clone());
        self.me.context.metrics.outcome(&outcome.event);
        let done = move |result: Result<(), StoreError>| {
            answer(reply, result.clone().map(|()| Status::Cancelled));
            let written = Written {
                armed: Vec::new(),
                ends: vec![id],
                answered: Vec::new(),
                // It is out of its queue by now: a cancel that failed is written later all the same.
                result: result.map_err(|error| (error, vec![outcome])),
            };
            if answers.put(written) {
                tell(InstanceMsg::Wrote);
            }
        };
        let entries = vec![Entry::Outcomes(vec![outcome])];
        self.me.context.store.append(
            Append {
                shard,
                epoch,
                entries,
            },
            Box::new(done),
        );
    }

    /// What it is doing.
    pub(super) fn figures(&self) -> InstanceFigures {
        let shown = self.me.handle.shown();
        InstanceFigures {
            instance: self.me.id(),
            name: self.me.instance.name.clone(),
            sent: self.upkeep.sent,
            failed: self.upkeep.failed,
            view: InstanceView {
                session: shown.session,
                since: shown.since,
                restricted_until: shown.restricted_until,
                phone: shown.phone,
                depth: [0; 3],
                in_flight: u32::try_from(self.outbox.in_flight()).unwrap_or(u32::MAX),
                rate: self.outbox.rate(),
            },
        }
    }

    /// What an unsettled message waits for.
    pub(super) fn waiting_for(&self, record: &MessageRecord) -> Option<Waiting> {
        let (now, mono) = (self.me.now(), self.me.mono());
        let because = |reason| {
            Some(Waiting {
                reason,
                next_attempt_at: None,
            })
        };
        let at = |reason, at| {
            Some(Waiting {
                reason,
                next_attempt_at: Some(at),
            })
        };
        let (id, queue) = (record.id(), record.chunk.queue);
        if record.state.status.is_settled() {
            return None;
        }
        if record.state.status == Status::Scheduled {
            return Some(Waiting {
                reason: WaitReason::Schedule,
                next_attempt_at: record.state.next_at,
            });
        }
        let instance = &self.me.instance;
        let held = instance.held || self.me.context.is_held();
        if instance.paused || held || self.inbox.is_held(queue) {
            return because(WaitReason::Paused);
        }
        if !self.session.can_send(now) {
            return because(WaitReason::Offline);
        }
        if let Some(until) = self.outbox.capped_until(now) {
            return at(WaitReason::Cap, until);
        }
        let wall = |point: Mono| now + point.since(mono);
        match self.window.blocked_reason(id) {
            Blocked::Order => because(WaitReason::Order),
            Blocked::Paused => because(WaitReason::Paused),
            Blocked::NotBefore => Some(Waiting {
                reason: WaitReason::Schedule,
                next_attempt_at: record.state.next_at,
            }),
            Blocked::Ready => at(WaitReason::Pace, wall(self.outbox.pace.ready_at(mono))),
            Blocked::InFlight => {
                let at = self.outbox.hands_over_at(mono)?;
                Some(Waiting {
                    reason: WaitReason::Pace,
                    next_attempt_at: Some(wall(at)),
                })
            }
            Blocked::Absent => because(WaitReason::Pace),
        }
    }
}
