//! What became of messages: transport events in, outcome records out.
//!
//! Records wait a moment so that many share one append; attempts do not wait and take the others
//! with them.

use std::collections::VecDeque;
use std::time::Duration;

use rand::Rng;
use rustc_hash::FxHashSet;
use zajil_model::id::MessageId;
use zajil_model::lease::shard::Claim;
use zajil_model::lifecycle::{Event, Outcome};
use zajil_model::pace::together_by;
use zajil_model::refusal::Refusal;
use zajil_model::retry::{AfterAmbiguous, Verdict, after_ambiguous, after_refusal, throttle_wait};
use zajil_model::time::{Mono, Timestamp};
use zajil_model::wa_id::WaId;
use zajil_storage::{Append, Entry, StoreError};
use zajil_transport::{Delivered, TransportEvent};

use crate::instance::outbox::Armed;
use crate::instance::reads::{Read, Reads};
use crate::instance::written::{Answers, Written};
use crate::instance::{InstanceMsg, InstanceState, checkpoint};

/// How long a record waits for others at most (`DESIGN.md`, section 4).
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// Messages whose end is not yet seen by reads, above which the actor wants to know of each that
/// is: it remembers them one by one.
const MANY_ON_THE_WAY: usize = 1_024;

/// Records that wait at most: more are written at once.
const MOST_BUFFERED: usize = 512;

/// Records on their way to the log.
#[derive(Default)]
pub(crate) struct Outcomes {
    buffer: Vec<Outcome>,
    /// Messages with an end in the buffer.
    ends: Vec<MessageId>,
    /// Claims with an outcome in the buffer.
    answered: Vec<Claim>,
    /// Messages whose end is not yet seen by reads of the store.
    unflushed: FxHashSet<MessageId>,
    due: Option<Mono>,
    /// Writing failed: the next try waits for its time, however much there is.
    failed: bool,
    in_air: usize,
    /// What the store answered.
    pub(super) answers: Answers,
    pub(super) reads: Reads,
    /// Messages whose end is durable, with the newest read that may not have seen it.
    written: VecDeque<(Read, MessageId)>,
}

impl Outcomes {
    /// Buffers a record that ends nothing.
    pub(super) fn note(&mut self, id: MessageId, at: Timestamp, event: Event) {
        self.buffer.push(Outcome { id, at, event });
    }

    /// Whether the end of a message is known here and not yet to the store.
    pub(super) fn is_unflushed(&self, id: MessageId) -> bool {
        self.unflushed.contains(&id)
    }

    /// The end of a message is being written by itself.
    pub(super) fn expect_end(&mut self, id: MessageId) {
        self.unflushed.insert(id);
        self.in_air += 1;
    }

    /// A read of the store is over, and what it saw is known here.
    pub(super) fn read_ended(&mut self, read: Read) {
        self.reads.end(read);
        self.forget_written();
    }

    fn forget_written(&mut self) {
        while let Some((upto, id)) = self.written.front().copied()
            && self.reads.are_over(upto)
        {
            self.written.pop_front();
            self.unflushed.remove(&id);
        }
    }

    /// Messages whose end is not yet seen by every read.
    pub(super) fn on_the_way(&self) -> usize {
        self.unflushed.len()
    }

    /// Whether so many ends are on the way that each answer matters.
    pub(super) fn has_much_on_the_way(&self) -> bool {
        self.unflushed.len() > MANY_ON_THE_WAY
    }

    /// Whether the store has not answered everything, or not everything was looked at.
    pub(super) const fn is_in_air(&self) -> bool {
        self.in_air > 0
    }

    /// When the buffer is written.
    pub(super) const fn due(&self) -> Option<Mono> {
        self.due
    }

    /// Whether the buffer is to be written now.
    pub(super) fn is_due(&self, mono: Mono) -> bool {
        self.due.is_some_and(|due| due <= mono)
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.in_air == 0
    }
}

impl InstanceState {
    /// Something became known of a message that takes it out of its queue, or refines its end.
    pub(super) fn outcome(&mut self, id: MessageId, at: Timestamp, event: Event) {
        self.outcomes.note(id, at, event);
        self.me.context.metrics.outcome(&event);
        self.upkeep.counted(&event);
        self.outcomes.answered.extend(self.outbox.claims.of(id));
        if !matches!(event, Event::Due | Event::Refused { .. })
            && self.outcomes.unflushed.insert(id)
        {
            self.outcomes.ends.push(id);
        }
        if self.outcomes.due.is_none() {
            self.outcomes.due = Some(together_by(self.me.mono() + FLUSH_AFTER));
        }
    }

    pub(super) fn flush_when_due(&mut self, mono: Mono) {
        let due = self.outcomes.is_due(mono);
        let full = self.outcomes.buffer.len() >= MOST_BUFFERED;
        let leaving = self.upkeep.draining && !self.outcomes.buffer.is_empty();
        if due || ((full || leaving) && !self.outcomes.failed) {
            self.record(Vec::new());
        }
    }

    /// Writes the buffer, with the attempts of `batch` in it.
    pub(super) fn record(&mut self, batch: Vec<Armed>) {
        let shard = self.me.handle.shard();
        let records = std::mem::take(&mut self.outcomes.buffer);
        let ends = std::mem::take(&mut self.outcomes.ends);
        let answered = std::mem::take(&mut self.outcomes.answered);
        self.outcomes.due = None;
        self.outcomes.failed = false;
        self.outcomes.in_air += 1;
        let mut entries = vec![Entry::Outcomes(records.clone())];
        let mono = self.me.mono();
        if self.upkeep.save_is_due(mono, checkpoint::SAVE_EVERY)
            && let Some(row) = self.checkpoint()
        {
            entries.push(Entry::Rows(vec![row]));
        }
        let epoch = self.me.context.clocks.epoch(shard).unwrap_or_default();
        let (tell, answers) = (self.me.teller(), self.outcomes.answers.clone());
        let has_attempts = !batch.is_empty();
        let done = move |result: Result<(), StoreError>| {
            let written = Written {
                armed: batch,
                ends,
                answered,
                result: result.map_err(|error| (error, records)),
            };
            if answers.put(written) {
                tell(InstanceMsg::Wrote);
            }
        };
        let append = Append {
            shard,
            epoch,
            entries,
        };
        if has_attempts {
            self.append_attempts(append, done);
        } else {
            self.me.context.store.append(append, Box::new(done));
        }
    }

    /// Records are durable; or they come back, and are written again but for the attempts, whose
    /// messages went back to the window.
    pub(super) fn on_flushed(
        &mut self,
        ends: Vec<MessageId>,
        answered: Vec<Claim>,
        result: Result<(), (StoreError, Vec<Outcome>)>,
    ) {
        self.outcomes.in_air -= 1;
        match result {
            Ok(()) => {
                for claim in answered {
                    self.outbox.claims.answered(claim);
                }
                let upto = self.outcomes.reads.last();
                self.outcomes
                    .written
                    .extend(ends.into_iter().map(|id| (upto, id)));
                self.outcomes.forget_written();
            }
            Err((error, records)) => {
                tracing::warn!(instance = %self.me.id(), %error, "cannot write outcomes yet");
                let kept = records
                    .into_iter()
                    .filter(|r| !matches!(r.event, Event::Attempt(_)));
                let newer = std::mem::take(&mut self.outcomes.buffer);
                self.outcomes.buffer = kept.chain(newer).collect();
                self.outcomes.ends.extend(ends);
                self.outcomes.answered.extend(answered);
                self.outcomes.failed = true;
                self.outcomes.due = Some(self.me.mono() + FLUSH_AFTER * 4);
            }
        }
    }

    /// Something happened on the transport.
    pub(super) fn on_happened(&mut self, generation: u32, delivered: Delivered) {
        let now = self.me.now();
        let Delivered { events, permit } = delivered;
        for event in events {
            self.on_event(generation, event, now);
        }
        drop(permit);
    }

    fn on_event(&mut self, generation: u32, event: TransportEvent, now: Timestamp) {
        match event {
            TransportEvent::Acked { wa_id, at } => self.acked(wa_id, at),
            TransportEvent::Refused {
                wa_id,
                refusal,
                code,
                ..
            } => {
                if let Some(id) = self.ours(wa_id) {
                    self.refused(id, refusal, code, now);
                }
            }
            TransportEvent::Ambiguous { wa_id, .. } => {
                if let Some(id) = self.ours(wa_id) {
                    self.ambiguous(id, now);
                }
            }
            TransportEvent::Received { wa_id, at } => self.receipt(wa_id, at, Event::Delivered),
            TransportEvent::Read { wa_id, at } => self.receipt(wa_id, at, Event::Read),
            TransportEvent::Session(event) => {
                if self.session.is_current(generation) {
                    self.on_session(event, now);
                }
            }
        }
    }

    /// The message that a WhatsApp id names, if it is one of this instance's shard.
    fn ours(&self, wa_id: WaId) -> Option<MessageId> {
        let id = self.me.context.wa_key.message(wa_id);
        let known = id.filter(|id| id.giver() == self.me.handle.shard());
        if known.is_none() {
            self.me.context.metrics.unknown_id();
        }
        known
    }

    fn acked(&mut self, wa_id: WaId, at: Timestamp) {
        let Some(id) = self.ours(wa_id) else { return };
        self.outcome(id, at, Event::Acked);
        let mono = self.me.mono();
        if let Some(took) = self.outbox.flights.answered(id, mono) {
            self.me.context.metrics.waits.acked(took);
        }
        self.outbox.pace.acked(mono);
        self.settled_outside(id);
    }

    /// The channel's word on a message settles it, wherever it is by now.
    pub(super) fn settled_outside(&mut self, id: MessageId) {
        let armed = self
            .outbox
            .flights
            .land(id)
            .or_else(|| self.outbox.disarm(id));
        if armed.is_some() {
            self.window.finished(id);
        } else {
            drop(self.window.remove(id));
        }
        self.inbox.schedule.finished(id);
    }

    fn receipt(&mut self, wa_id: WaId, at: Timestamp, event: Event) {
        let Some(id) = self.ours(wa_id) else { return };
        self.outcome(id, at, event);
        self.settled_outside(id);
    }

    fn refused(&mut self, id: MessageId, refusal: Refusal, code: u16, now: Timestamp) {
        if let Refusal::Throttled { wait_ms } = refusal {
            let mono = self.me.mono();
            self.outbox.pace.throttled(throttle_wait(wait_ms), mono);
        }
        let Some(mut armed) = self.outbox.flights.land(id) else {
            // A message that was sent may still fail in the channel; anything else is late.
            if let Refusal::Permanent(reason) = refusal {
                let failure = zajil_model::refusal::Failure { reason, code };
                self.outcome(id, now, Event::Rejected(failure));
                self.settled_outside(id);
            }
            return;
        };
        let random = self.me.random.random();
        let counted = armed.ready.item.counted(armed.attempt);
        match after_refusal(refusal, code, counted, now, random) {
            Verdict::Retry { failure, at } => {
                self.outcome(
                    id,
                    now,
                    Event::Refused {
                        failure,
                        retry_at: at,
                    },
                );
                self.again_at(armed, at, now);
            }
            Verdict::HoldInstance(failure) => {
                self.session.hold(now);
                self.outcome(
                    id,
                    now,
                    Event::Refused {
                        failure,
                        retry_at: now,
                    },
                );
                // The refusal was not about this message.
                let forgiven = &mut armed.ready.item.forgiven;
                *forgiven = forgiven.saturating_add(1);
                self.again_at(armed, now, now);
            }
            Verdict::Reject(failure) => self.landed(&armed, Event::Rejected(failure), now),
            Verdict::Fail(failure) => self.landed(&armed, Event::Failed(failure), now),
        }
    }

    /// An attempt has no known outcome.
    pub(super) fn ambiguous(&mut self, id: MessageId, now: Timestamp) {
        let Some(mut armed) = self.outbox.flights.land(id) else {
            return;
        };
        self.me.context.metrics.ambiguous();
        let first = armed.ready.item.first_attempt_at.unwrap_or(now);
        let wish = armed.ready.item.message.message().on_ambiguous;
        let idempotent = self.session.is_idempotent().unwrap_or(false);
        let counted = armed.ready.item.counted(armed.attempt);
        let expired = armed.ready.expires_at <= now;
        let over = expired || self.inbox.is_withdrawn(armed.ready.queue, id);
        armed.ready.item.doubtful = true;
        let again_at = match after_ambiguous(idempotent, first, counted, wish, now) {
            _ if over => None,
            AfterAmbiguous::ResendNow => Some(now),
            AfterAmbiguous::ResendAt(at) => Some(at),
            AfterAmbiguous::Unknown => None,
        };
        match again_at {
            Some(at) => {
                self.outbox.claims.release(id);
                self.again_at(armed, at, now);
            }
            None => self.landed(&armed, Event::Unknown, now),
        }
    }

    fn landed(&mut self, armed: &Armed, event: Event, now: Timestamp) {
        self.window.finished(armed.ready.id);
        self.ended(&armed.ready, event, now);
    }

    /// Another attempt at a later time. It keeps its place: those behind it in its recipient's
    /// order wait for it, however long a throttled instance has to.
    fn again_at(&mut self, armed: Armed, at: Timestamp, now: Timestamp) {
        if self.inbox.is_withdrawn(armed.ready.queue, armed.ready.id) {
            self.withdraw(&armed, now);
            return;
        }
        let Armed {
            mut ready, attempt, ..
        } = armed;
        ready.attempts = attempt;
        ready.not_before = at;
        ready.expires_at = self.expires_at(&ready.item.message);
        self.window.retry(ready, now);
    }
}
