//! Attempts on a channel that cannot tell a repetition.
//!
//! There an attempt is a *claim*: its frame leaves only when it is in the log of the shard and known
//! to count, whoever owns the shard later; at most [`MAX_CLAIMS`] of an instance have no outcome. So
//! a new owner finds everything that may have been shown, and what it finds without an outcome goes
//! by the sender's `on_ambiguous`. Where the channel knows our ids, none of this is asked for.
//!
//! [`MAX_CLAIMS`]: zajil_model::lease::shard::MAX_CLAIMS

use zajil_model::id::MessageId;
use zajil_model::lane::Ready;
use zajil_model::lease::shard::{Claim, ClaimError, Claims};
use zajil_model::lifecycle::Event;
use zajil_model::message::OnAmbiguous;
use zajil_model::pace::Lead;
use zajil_model::retry::{AfterAmbiguous, after_ambiguous};
use zajil_model::time::{Mono, Timestamp};
use zajil_storage::{Append, StoreError};

use crate::instance::InstanceState;
use crate::instance::outbox::{Armed, Item};
use crate::metrics::ClaimMeters;

/// The claims of one instance.
pub(super) struct OpenClaims {
    /// Those without an outcome; `None` where the channel knows our ids.
    claims: Option<Claims>,
    lead: Lead,
    meters: ClaimMeters,
}

impl OpenClaims {
    /// None, and none are taken.
    pub(super) fn new(meters: ClaimMeters) -> Self {
        Self {
            claims: None,
            lead: Lead::default(),
            meters,
        }
    }

    /// Claims are taken from now on, this far ahead; or the channel knows our ids.
    fn take(&mut self, claims: bool, lead: Lead) {
        self.lead = lead;
        if claims {
            self.claims.get_or_insert_default();
        } else {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let open = self.claims.take().map_or(0, |claims| claims.open().count());
        self.meters.ended(open);
    }

    /// Whether attempts are claims.
    pub(super) const fn are_taken(&self) -> bool {
        self.claims.is_some()
    }

    /// How far ahead of its turn an attempt is recorded.
    pub(super) const fn lead(&self) -> Lead {
        self.lead
    }

    /// How many more attempts may be made before one has an outcome.
    pub(super) fn room(&self) -> usize {
        self.claims.as_ref().map_or(usize::MAX, Claims::room)
    }

    /// Claims an attempt, where that is needed.
    pub(super) fn claim(&mut self, id: MessageId, attempt: u8) -> Result<(), ClaimError> {
        let Some(claims) = &mut self.claims else {
            return Ok(());
        };
        claims.claim(id, attempt)?;
        self.meters.taken();
        if claims.room() == 0 {
            self.meters.full();
        }
        Ok(())
    }

    /// The claim of a message that has no outcome.
    pub(super) fn of(&self, id: MessageId) -> Option<Claim> {
        self.claims.as_ref()?.of(id)
    }

    /// Nobody waits for an outcome of this claim any more.
    pub(super) fn answered(&mut self, claim: Claim) {
        let open = self
            .claims
            .as_mut()
            .filter(|open| open.of(claim.id) == Some(claim));
        if let Some(open) = open {
            open.answered(claim);
            self.meters.ended(1);
        }
    }

    /// Nobody waits for an outcome of this message's claim any more.
    pub(super) fn release(&mut self, id: MessageId) {
        if let Some(claim) = self.of(id) {
            self.answered(claim);
        }
    }
}

/// What an actor leaves open is found by the next one.
impl Drop for OpenClaims {
    fn drop(&mut self) {
        self.forget();
    }
}

impl InstanceState {
    /// The session is online: what the channel can tell is known by now.
    pub(super) fn learn_channel(&mut self) {
        self.session.learn_channel(&self.me);
        let claims = self.session.is_idempotent() != Some(true);
        let lead = if claims {
            Lead::of_claims(self.me.context.store.claim_lag())
        } else {
            Lead::default()
        };
        self.outbox.claims.take(claims, lead);
    }

    /// Appends attempts with what goes with them: as claims, where the channel cannot tell.
    pub(super) fn append_attempts(
        &self,
        append: Append,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let context = &self.me.context;
        if !self.outbox.claims.are_taken() {
            context.store.append(append, Box::new(done));
            return;
        }
        let (clock, meters) = (context.clock.clone(), context.metrics.claims.clone());
        let begun: Mono = clock.mono();
        let timed = move |result: Result<(), StoreError>| {
            meters.answered(clock.mono().since(begun), result.is_ok());
            done(result);
        };
        context.store.claim(append, Box::new(timed));
    }

    /// An armed message goes back to its place: its frame never left, and that is written down, so
    /// that no later owner has to take it for one that may have.
    pub(super) fn hold_back(&mut self, armed: Armed, now: Timestamp) {
        let Armed {
            mut ready, attempt, ..
        } = armed;
        self.outcome(ready.id, now, Event::Due);
        ready.attempts = attempt;
        ready.item.forgiven = ready.item.forgiven.saturating_add(1);
        ready.expires_at = self.expires_at(&ready.item.message);
        self.window.retry(ready, now);
    }

    /// The actor leaves: so do the messages that it armed.
    pub(super) fn hold_all_back(&mut self) {
        let now = self.me.now();
        for armed in std::mem::take(&mut self.outbox.armed) {
            self.hold_back(armed, now);
        }
    }

    /// What follows from an attempt that a former actor recorded, and whose outcome it did not.
    pub(super) fn after_found(&self, item: &Item, attempts: u8, now: Timestamp) -> AfterAmbiguous {
        let after = after_ambiguous(
            self.session.is_idempotent().unwrap_or(false),
            item.first_attempt_at.unwrap_or(now),
            item.counted(attempts),
            item.message.message().on_ambiguous,
            now,
        );
        if self.session.is_idempotent() != Some(true) {
            let wish = item.message.message().on_ambiguous;
            self.me
                .context
                .metrics
                .claims
                .found(wish == OnAmbiguous::Resend);
        }
        after
    }

    /// Decides on a message whose attempt was found open before it was known what the channel can
    /// tell; `None` when it does not go now.
    pub(super) fn decide(&mut self, mut ready: Ready<Item>, now: Timestamp) -> Option<Ready<Item>> {
        if !std::mem::take(&mut ready.item.undecided) {
            return Some(ready);
        }
        match self.after_found(&ready.item, ready.attempts, now) {
            AfterAmbiguous::ResendNow => Some(ready),
            AfterAmbiguous::ResendAt(at) => {
                ready.not_before = ready.not_before.max(at);
                self.window.retry(ready, now);
                None
            }
            AfterAmbiguous::Unknown => {
                self.window.finished(ready.id);
                self.ended(&ready, Event::Unknown, now);
                None
            }
        }
    }
}
