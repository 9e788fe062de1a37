//! From a queue into the window: what of a chunk waits, and what becomes of attempts without an
//! outcome that a former actor made.

use std::sync::Arc;

use zajil_model::lane::{Blocked, Ready};
use zajil_model::lifecycle::{Event, MessageState, Status};
use zajil_model::message::{Chunk, MessageRef};
use zajil_model::retry::AfterAmbiguous;
use zajil_model::time::Timestamp;

use crate::instance::InstanceState;
use crate::instance::outbox::Item;

impl InstanceState {
    /// Puts the messages of a chunk into the window. `states` is `None` for what was accepted just
    /// now.
    pub(super) fn admit(
        &mut self,
        chunk: &Arc<Chunk>,
        states: Option<&[MessageState]>,
        now: Timestamp,
    ) {
        for index in 0..chunk.len() {
            let Some(message) = MessageRef::new(chunk.clone(), index) else {
                continue;
            };
            let state = states
                .and_then(|states| states.get(index as usize))
                .copied();
            if state.is_none() && message.starts_scheduled() {
                self.inbox.schedule.due_at(message.due());
                continue;
            }
            self.admit_one(message, &state.unwrap_or_default(), now);
        }
    }

    /// Puts one message into the window if it waits.
    fn admit_one(&mut self, message: MessageRef, state: &MessageState, now: Timestamp) {
        let waits = matches!(state.status, Status::Pending | Status::Processing);
        if waits && !self.outcomes.is_unflushed(message.id()) {
            // Who accepted it may have had a faster clock: without a time of its own it is due now.
            let due = message.message().send_at.unwrap_or(now);
            let not_before = state.next_at.unwrap_or(now).max(due);
            self.admit_at(message, state, not_before, now);
        }
    }

    /// Puts a message into the window; answers whether it was not there yet.
    pub(super) fn admit_at(
        &mut self,
        message: MessageRef,
        state: &MessageState,
        mut not_before: Timestamp,
        now: Timestamp,
    ) -> bool {
        let id = message.id();
        if self.window.blocked_reason(id) != Blocked::Absent {
            return false;
        }
        let queue = message.chunk().queue;
        let mut item = Item {
            message,
            first_attempt_at: state.first_attempt_at,
            doubtful: state.may_have_gone(),
            undecided: false,
            forgiven: state.forgiven,
        };
        if state.status == Status::Processing {
            // An attempt without an outcome: this actor never made it, so a crash came between.
            let left = self.inbox.is_left(queue, id);
            item.undecided = !left && self.session.is_idempotent().is_none();
            let after = if left {
                AfterAmbiguous::Unknown
            } else if item.undecided {
                AfterAmbiguous::ResendNow
            } else {
                self.after_found(&item, state.attempts, now)
            };
            match after {
                AfterAmbiguous::ResendNow => {}
                AfterAmbiguous::ResendAt(at) => not_before = not_before.max(at),
                AfterAmbiguous::Unknown => {
                    self.outcome(id, now, Event::Unknown);
                    self.settled_outside(id);
                    return false;
                }
            }
        }
        let message = &item.message;
        let ready = Ready {
            id,
            queue,
            recipient: message.message().recipient,
            not_before,
            expires_at: self.expires_at(message),
            attempts: state.attempts,
            bytes: message.weight(),
            item,
        };
        self.window.push(ready, now)
    }
}
