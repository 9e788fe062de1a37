//! Clear, record: what is about to go.
//!
//! A message is *armed* shortly before its turn: opt-outs are checked, and its attempt is written
//! down. Only when that is durable, and the pace allows it, it is cleared once more and handed
//! [over](super::frames). Then it is in flight until the transport answers, or the time for that is
//! over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use zajil_model::id::MessageId;
use zajil_model::instance::Instance;
use zajil_model::lane::{Ready, Taken, most_in_flight};
use zajil_model::lifecycle::Event;
use zajil_model::message::{MessageRef, Queue};
use zajil_model::pace::{Company, Pace, PaceSaved, arms_by, to_arm, turn_of_next};
use zajil_model::refusal::{Failure, Reason};
use zajil_model::time::{Mono, Timestamp};
use zajil_storage::StoreError;

use crate::directory::SuppressionSet;
use crate::instance::cap::Cap;
use crate::instance::claims::OpenClaims;
use crate::instance::flights::Flights;
use crate::instance::{InstanceMsg, InstanceState, Me};

/// The wait before messages are tried again whose attempt could not be recorded, or whose
/// transport took no more.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(250);

/// Deaths of an actor in the hand-over of one message, after which it is not tried again.
const POISON_DEATHS: u8 = 2;

/// What goes with a message through the window.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) message: MessageRef,
    pub(crate) first_attempt_at: Option<Timestamp>,
    /// An attempt of it has no known outcome: it may have been sent.
    pub(crate) doubtful: bool,
    /// That attempt was found, and what the channel can tell was not known yet.
    pub(crate) undecided: bool,
    /// Attempts that say nothing against it.
    pub(crate) forgiven: u8,
}

impl Item {
    /// How many of so many attempts count against it.
    pub(crate) const fn counted(&self, attempts: u8) -> u8 {
        attempts.saturating_sub(self.forgiven)
    }
}

/// A message whose attempt is being recorded, or is.
#[derive(Debug)]
pub(crate) struct Armed {
    pub(crate) ready: Ready<Item>,
    pub(crate) attempt: u8,
    /// When it was counted of the day.
    pub(crate) counted_at: Timestamp,
    /// When it was handed over, if it was.
    pub(crate) flown_at: Option<Mono>,
}

/// What is on its way to the transport, and how fast.
pub(crate) struct Outbox {
    pub(crate) pace: Pace,
    pub(super) cap: Cap,
    pub(super) suppressions: Option<Arc<SuppressionSet>>,
    pub(super) armed: VecDeque<Armed>,
    recording: usize,
    pub(super) flights: Flights,
    pub(super) claims: OpenClaims,
    pub(super) blocked_until: Option<Mono>,
}

impl Outbox {
    pub(super) fn new(me: &Me, saved: &PaceSaved, cap: Cap, mono: Mono) -> Self {
        Self {
            pace: Pace::restored(&me.instance.pace, saved, mono),
            cap,
            suppressions: None,
            armed: VecDeque::new(),
            recording: 0,
            flights: Flights::default(),
            claims: OpenClaims::new(me.context.metrics.claims.clone()),
            blocked_until: None,
        }
    }

    pub(super) fn saved(&self) -> PaceSaved {
        PaceSaved {
            factor: Some(self.pace.factor()),
        }
    }

    pub(super) fn rate(&self) -> f64 {
        self.pace.effective_rate()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.armed.is_empty() && self.recording == 0 && self.flights.is_empty()
    }

    /// Whether nothing waits for an answer of the store or the transport.
    pub(super) fn is_quiet(&self) -> bool {
        self.recording == 0 && self.flights.is_empty()
    }

    pub(super) fn has_suppressions(&self) -> bool {
        self.suppressions.is_some()
    }

    /// Until when the daily cap holds everything back.
    pub(super) fn capped_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.cap.until(now)
    }

    /// The pace or the cap was changed.
    pub(super) fn set_pace(&mut self, instance: &Instance, now: Timestamp, mono: Mono) {
        self.pace.set(&instance.pace, mono);
        self.cap.set(instance, now);
    }

    /// Most messages that may be on their way at once.
    pub(super) fn most_in_flight(&self) -> usize {
        most_in_flight(self.rate(), self.flights.answer())
    }

    /// How many more messages to arm now.
    fn wants(&self, now: Timestamp, mono: Mono, company: Company) -> usize {
        if self.is_blocked(mono) || self.capped_until(now).is_some() {
            return 0;
        }
        let room = self.most_in_flight().saturating_sub(self.busy());
        to_arm(
            self.next_turn(mono),
            self.rate(),
            company,
            self.claims.lead(),
        )
        .min(room)
        .min(self.claims.room())
    }

    /// Messages that are armed, or about to be.
    fn waiting(&self) -> usize {
        self.armed.len() + self.recording
    }

    fn busy(&self) -> usize {
        self.waiting() + self.flights.len()
    }

    /// In how long the first message that is not armed has its turn.
    fn next_turn(&self, mono: Mono) -> Duration {
        let next = self.pace.ready_at(mono).since(mono);
        turn_of_next(next, self.waiting(), self.rate())
    }

    /// Whether the pace waits for an attempt to be recorded.
    pub(super) fn waits_for_record(&self, mono: Mono) -> bool {
        self.recording > 0 && self.armed.is_empty() && self.pace.ready_at(mono) <= mono
    }

    pub(super) fn is_blocked(&self, mono: Mono) -> bool {
        self.blocked_until.is_some_and(|until| until > mono)
    }

    /// When an armed message may be handed over; `None` while there is none, or an answer has to
    /// come first.
    pub(super) fn hands_over_at(&self, mono: Mono) -> Option<Mono> {
        let ready = self.pace.ready_at(mono);
        // An attempt that is not recorded when its turn has come is told of: no need to wake for it.
        let none = self.armed.is_empty() && (self.recording == 0 || ready <= mono);
        if none || self.flights.len() >= self.most_in_flight() {
            return None;
        }
        Some(ready.max(self.blocked_until.unwrap_or(mono)))
    }

    /// When a waiting message has to be armed; `None` while an answer has to come first.
    pub(super) fn arms_at(&self, now: Timestamp, mono: Mono) -> Option<Mono> {
        if let Some(until) = self.capped_until(now) {
            return Some(mono + until.since(now));
        }
        let has_room = self.busy() < self.most_in_flight() && self.claims.room() > 0;
        has_room.then(|| {
            let by = arms_by(mono + self.next_turn(mono), self.claims.lead());
            by.max(self.blocked_until.unwrap_or(mono)).max(mono)
        })
    }

    /// When the oldest message in flight is given up on.
    pub(super) fn times_out_at(&self) -> Option<Mono> {
        self.flights.times_out_at()
    }

    fn is_suppressed(&self, ready: &Ready<Item>) -> bool {
        self.suppressions
            .as_ref()
            .is_none_or(|set| set.contains(ready.recipient))
    }

    /// Takes an armed message out that was never handed over.
    pub(super) fn disarm(&mut self, id: MessageId) -> Option<Armed> {
        let place = self.armed.iter().position(|armed| armed.ready.id == id)?;
        self.armed.remove(place)
    }

    /// Takes an armed message out that `named` names.
    pub(super) fn disarm_where(&mut self, named: impl Fn(&Armed) -> bool) -> Option<Armed> {
        let place = self.armed.iter().position(named)?;
        self.armed.remove(place)
    }

    /// When the first armed message expires.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.armed.iter().map(|armed| armed.ready.expires_at).min()
    }
}

impl InstanceState {
    /// Reads the opt-outs of the account; nothing goes before they are there.
    pub(super) fn read_suppressions(&self) {
        let (directory, tell) = (self.me.context.directory.clone(), self.me.teller());
        let account = self.me.instance.account;
        self.me.context.tasks.spawn(async move {
            match directory.suppressions(account).await {
                Ok(set) => tell(InstanceMsg::Suppressions(Some(set))),
                Err(error) => {
                    tracing::error!(%account, %error, "cannot read the opt-outs; nothing is sent");
                    tokio::time::sleep(TRY_AGAIN).await;
                    tell(InstanceMsg::Suppressions(None));
                }
            }
        });
    }

    pub(super) fn on_suppressions(&mut self, set: Option<Arc<SuppressionSet>>) {
        match set {
            Some(set) => self.outbox.suppressions = Some(set),
            None => self.read_suppressions(),
        }
    }

    /// Takes messages from the window whose turn is near, and records their attempts.
    pub(super) fn arm(&mut self, now: Timestamp, mono: Mono) {
        let company = if self.outcomes.is_due(mono) {
            Company::Outcomes
        } else {
            Company::Alone
        };
        let wanted = self.outbox.wants(now, mono, company);
        let mut batch = Vec::new();
        while batch.len() < wanted {
            match self.window.take(now) {
                None => break,
                Some(Taken::Expired(ready)) => self.expired(&ready, now),
                Some(Taken::Go(ready)) => {
                    if let Some(armed) = self.clear(ready, now) {
                        batch.push(armed);
                    }
                }
            }
            if self.outbox.capped_until(now).is_some() {
                break;
            }
        }
        if !batch.is_empty() {
            self.outbox.recording += batch.len();
            self.record(batch);
        }
    }

    /// Whether a message may go at all: opt-outs, poison, its claim, the daily cap.
    fn clear(&mut self, ready: Ready<Item>, now: Timestamp) -> Option<Armed> {
        let mut ready = self.decide(ready, now)?;
        if self.outbox.is_suppressed(&ready) {
            self.window.finished(ready.id);
            self.ended(&ready, Event::Suppressed, now);
            return None;
        }
        if self
            .me
            .suspects
            .lock()
            .deaths
            .get(&ready.id)
            .is_some_and(|n| *n >= POISON_DEATHS)
        {
            self.window.finished(ready.id);
            let failure = Failure {
                reason: Reason::Poison,
                code: 0,
            };
            // Nothing is known of its attempts but that they were deadly: that is what is told.
            self.outcome(ready.id, now, Event::Failed(failure));
            self.inbox.schedule.finished(ready.id);
            return None;
        }
        let attempt = ready.attempts.saturating_add(1);
        if self.outbox.claims.claim(ready.id, attempt).is_err() {
            // The outcome of the attempt before is on its way to the log.
            ready.not_before = now + TRY_AGAIN;
            self.window.retry(ready, now);
            return None;
        }
        if !self.take_of_day(now) {
            self.outbox.claims.release(ready.id);
            self.window.retry(ready, now);
            return None;
        }
        ready.item.first_attempt_at.get_or_insert(now);
        self.outcomes.note(ready.id, now, Event::Attempt(attempt));
        Some(Armed {
            ready,
            attempt,
            counted_at: now,
            flown_at: None,
        })
    }

    /// The attempts are durable: their frames may leave. Or they could not be recorded.
    pub(super) fn on_recorded(&mut self, batch: Vec<Armed>, result: Result<(), StoreError>) {
        let now = self.me.now();
        self.outbox.recording -= batch.len();
        match result {
            Ok(()) => {
                for armed in batch {
                    let armed = self.may_go(armed, now);
                    self.outbox.armed.extend(armed);
                }
                if self.upkeep.draining {
                    self.hold_all_back();
                }
            }
            Err(error) => {
                tracing::warn!(instance = %self.me.id(), %error, "cannot record attempts");
                for mut armed in batch {
                    // Whether it is durable may not be known: its frame does not leave.
                    self.outbox.claims.release(armed.ready.id);
                    self.give_back_of_day(armed.counted_at);
                    armed.ready.not_before = now + TRY_AGAIN;
                    if let Some(armed) = self.may_go(armed, now) {
                        self.window.retry(armed.ready, now);
                    }
                }
            }
        }
    }

    /// A mass cancel: what is armed and was never handed over ends, too.
    pub(super) fn withdraw_armed(&mut self, queue: Option<Queue>, upto: MessageId) {
        let now = self.me.now();
        let (gone, kept) = std::mem::take(&mut self.outbox.armed)
            .into_iter()
            .partition(|armed| {
                armed.ready.id <= upto && queue.is_none_or(|queue| queue == armed.ready.queue)
            });
        self.outbox.armed = kept;
        let gone: VecDeque<Armed> = gone;
        for armed in gone {
            self.withdraw(&armed, now);
        }
    }

    /// An armed message was withdrawn.
    pub(super) fn withdraw(&mut self, armed: &Armed, now: Timestamp) {
        self.window.finished(armed.ready.id);
        self.ended(&armed.ready, Event::Cancelled, now);
    }
}
