//! What the store answers to the appends of an actor.
//!
//! An answer costs no turn of the mailbox unless the actor waits for it: it lies here until the
//! actor has something else to do. At a slow pace that is the next hand-over, for which the
//! attempt was recorded well ahead.

use std::sync::Arc;

use parking_lot::Mutex;
use zajil_model::id::MessageId;
use zajil_model::lease::shard::Claim;
use zajil_model::lifecycle::Outcome;
use zajil_model::time::Mono;
use zajil_storage::StoreError;

use crate::instance::outbox::Armed;
use crate::instance::{InstanceMsg, InstanceState};

/// What became of one append.
pub(super) struct Written {
    /// Messages whose attempts were in it.
    pub(super) armed: Vec<Armed>,
    /// Messages whose end was in it.
    pub(super) ends: Vec<MessageId>,
    /// Claims whose outcome was in it.
    pub(super) answered: Vec<Claim>,
    /// Whether it is durable; if not, the records are given back.
    pub(super) result: Result<(), (StoreError, Vec<Outcome>)>,
}

/// The answers that one actor has not looked at; clones are the same ones.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Tray>>);

#[derive(Default)]
struct Tray {
    written: Vec<Written>,
    /// The actor has nothing else to do: the next answer is to be told.
    awaited: bool,
}

impl Answers {
    /// Puts an answer down, and says whether the actor has to be told of it. Failures are told at
    /// once.
    pub(super) fn put(&self, written: Written) -> bool {
        let failed = written.result.is_err();
        let mut tray = self.0.lock();
        tray.written.push(written);
        std::mem::take(&mut tray.awaited) || failed
    }

    fn take(&self) -> Vec<Written> {
        let mut tray = self.0.lock();
        tray.awaited = false;
        std::mem::take(&mut tray.written)
    }

    /// The next answer is to be told; `false` when one is there already.
    fn wait(&self) -> bool {
        let mut tray = self.0.lock();
        tray.awaited = tray.written.is_empty();
        tray.awaited
    }
}

impl InstanceState {
    /// Carries on with what the store answered.
    pub(super) fn take_answers(&mut self) {
        if !self.outcomes.is_in_air() {
            return;
        }
        for Written {
            armed,
            ends,
            answered,
            result,
        } in self.outcomes.answers.take()
        {
            if !armed.is_empty() {
                let recorded = result.as_ref().map_err(|(error, _)| error.clone());
                self.on_recorded(armed, recorded.copied());
            }
            self.on_flushed(ends, answered, result);
        }
    }

    /// Asks to be told of the next answer if nothing goes on without it.
    pub(super) fn ask_for_answers(&self, mono: Mono) {
        let waits = self.upkeep.draining
            || !self.upkeep.quiet.is_empty()
            || self.outbox.waits_for_record(mono)
            || self.outbox.claims.room() == 0
            || self.outcomes.has_much_on_the_way();
        if waits && self.outcomes.is_in_air() && !self.outcomes.answers.wait() {
            self.me.teller()(InstanceMsg::Wrote);
        }
    }
}
