//! What an owner does, and what the channel does with its frames.

use zajil_model::lease::shard::{Claim, Claims};
use zajil_model::lease::{NodeRow, NodeState};
use zajil_model::lifecycle::{Event, MessageState, Status};
use zajil_model::retry::RESEND_WITHIN;
use zajil_model::time::Timestamp;

use super::guard::{Guard, Rules};
use super::state::{Phase, START, Sender, State, TTL, message, owner};

impl State {
    pub(crate) fn phase(&self, n: usize) -> Option<Phase> {
        self.nodes[n].as_ref().map(|sender| sender.phase)
    }

    fn at(&mut self, n: usize, phase: Phase) -> Option<&mut Sender> {
        self.nodes[n]
            .as_mut()
            .filter(|sender| sender.phase == phase)
    }

    fn is_over(&self) -> bool {
        self.now.since(START) >= TTL
    }

    pub(crate) fn take_over(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let gone = NodeRow {
            state: NodeState::Dead,
            ..NodeRow::joined(None)
        };
        self.shard = self.shard.taken(owner(n), Some(&gone)).ok()?;
        let mut sender = Sender {
            epoch: self.shard.epoch,
            view: self.stored,
            claims: self.claims.clone(),
            phase: Phase::Idle,
        };
        if rules.lack(Guard::OpenClaimsRead) {
            sender.claims = Claims::default();
        }
        for claim in sender.claims.open() {
            sender.view.apply(Event::Attempt(claim.attempt), self.now);
        }
        if sender.view.status == Status::Processing {
            sender.phase = doubt(&sender.view, self.now, self.is_over(), rules);
        }
        self.nodes[n] = Some(sender);
        Some(())
    }

    pub(crate) fn attempt(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let (over, now) = (self.is_over(), self.now);
        let sender = self.at(n, Phase::Idle)?;
        if over || sender.view.status.is_settled() {
            return None;
        }
        let attempts = sender.view.attempts;
        if rules.channel.idempotent {
            sender.view.apply(Event::Attempt(attempts + 1), now);
        } else {
            let claim = sender.claims.claim(message(), attempts).ok()?;
            sender.view.apply(Event::Attempt(claim.attempt), now);
        }
        sender.phase = if rules.goes_unrecorded() {
            Phase::Recorded
        } else {
            Phase::Recording
        };
        Some(())
    }

    /// A plain append of a deposed owner lands, and is void; its claims are refused.
    pub(crate) fn recorded(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let sender = self.nodes[n]
            .as_mut()
            .filter(|sender| sender.phase == Phase::Recording)?;
        sender.phase = Phase::Recorded;
        let attempt = Event::Attempt(sender.view.attempts);
        if rules.channel.idempotent {
            if self.shard.admits(sender.epoch) {
                self.stored.apply(attempt, self.now);
            }
        } else {
            self.write_claims(n, rules);
        }
        Some(())
    }

    pub(crate) fn checkpoint(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let claims = self.at(n, Phase::Idle)?.claims.clone();
        if claims == self.claims {
            return None;
        }
        self.write_claims(n, rules);
        Some(())
    }

    /// Whose claims are refused knows that it was deposed.
    fn write_claims(&mut self, n: usize, rules: &Rules) {
        let sender = self.nodes[n].take();
        let sender = sender.filter(|sender| rules.admits_claims(&self.shard, sender.epoch));
        if let Some(sender) = &sender {
            self.claims = sender.claims.clone();
        }
        self.nodes[n] = sender;
    }

    pub(crate) fn pass(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let (shard, now) = (self.shard, self.now);
        let sender = self.at(n, Phase::Recorded)?;
        let deposed = !shard.admits(sender.epoch);
        if !rules.may_leave(deposed, sender.epoch) {
            return None;
        }
        sender.phase = if rules.may_go_again(&sender.view, now) {
            Phase::Passed
        } else {
            Phase::Noting(Event::Unknown)
        };
        Some(())
    }

    pub(crate) fn lose(&mut self, n: usize) -> Option<()> {
        self.at(n, Phase::Passed)?.phase = Phase::Flying(None);
        Some(())
    }

    /// The frame is at the channel, which takes it or refuses it; its answer may not come back.
    pub(crate) fn arrive(&mut self, n: usize, rules: &Rules, answer: Option<Event>) -> Option<()> {
        let sender = self.at(n, Phase::Passed)?;
        sender.phase = Phase::Flying(answer);
        let (attempt, epoch) = (sender.view.attempts, sender.epoch);
        self.late_frame |= !self.shard.admits(epoch);
        self.attempt_twice |= !self.arrived.insert(attempt);
        if matches!(answer, Some(Event::Refused { .. })) {
            return Some(());
        }
        let remembers = |at| self.now.since(at) < RESEND_WITHIN;
        let knows = rules.channel.idempotent && !rules.lack(Guard::SameId);
        if !(knows && self.arrived_at.is_some_and(remembers)) {
            self.shown += 1;
        }
        self.arrived_at.get_or_insert(self.now);
        Some(())
    }

    pub(crate) fn answered(&mut self, n: usize) -> Option<()> {
        let sender = self.nodes[n].as_mut()?;
        let Phase::Flying(Some(answer)) = sender.phase else {
            return None;
        };
        sender.phase = Phase::Noting(answer);
        Some(())
    }

    pub(crate) fn timed_out(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let (over, now) = (self.is_over(), self.now);
        let sender = self.at(n, Phase::Flying(None))?;
        sender.phase = doubt(&sender.view, now, over, rules);
        Some(())
    }

    /// An outcome of a deposed owner is void.
    pub(crate) fn noted(&mut self, n: usize) -> Option<()> {
        let sender = self.nodes[n].as_mut()?;
        let Phase::Noting(event) = sender.phase else {
            return None;
        };
        sender.phase = Phase::Idle;
        sender.view.apply(event, self.now);
        let attempt = sender.view.attempts;
        sender.claims.answered(Claim {
            id: message(),
            attempt,
        });
        if self.shard.admits(sender.epoch) {
            let recorded = self.stored.attempts < attempt;
            // A claim stands for its attempt until its outcome does.
            if recorded && self.claims.open().any(|claim| claim.attempt == attempt) {
                self.stored.apply(Event::Attempt(attempt), self.now);
            }
            self.stored.apply(event, self.now);
        }
        Some(())
    }

    pub(crate) fn expire(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let over = self.is_over();
        let sender = self.nodes[n].as_mut()?;
        let waits = matches!(sender.phase, Phase::Idle | Phase::Recorded);
        if !over || !waits || sender.view.status.is_settled() {
            return None;
        }
        sender.phase = Phase::Noting(rules.expired(&sender.view));
        Some(())
    }
}

/// What follows from an attempt without an answer.
fn doubt(view: &MessageState, now: Timestamp, over: bool, rules: &Rules) -> Phase {
    if !over && rules.repeats(view, now) {
        Phase::Idle
    } else {
        Phase::Noting(Event::Unknown)
    }
}
