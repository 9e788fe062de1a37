//! What an owner does, and what the channel does with its frames.

use zajil_model::lease::shard::Claims;
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
            claims: Claims::default(),
            phase: Phase::Idle,
        };
        if sender.view.status == Status::Processing && !rules.lack(Guard::OpenClaimsRead) {
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
            let claim = sender.claims.claim(message(), attempts + 1).ok()?;
            sender.view.apply(Event::Attempt(claim.attempt), now);
        }
        sender.phase = if rules.goes_unrecorded() {
            Phase::Recorded
        } else {
            Phase::Recording
        };
        Some(())
    }

    /// An append of a deposed owner lands, and is void.
    pub(crate) fn recorded(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let now = self.now;
        let shard = self.shard;
        let sender = self.at(n, Phase::Recording)?;
        sender.phase = if rules.channel.idempotent {
            Phase::Recorded
        } else {
            Phase::Claiming
        };
        let attempt = Event::Attempt(sender.view.attempts);
        if shard.admits(sender.epoch) {
            self.stored.apply(attempt, now);
        }
        Some(())
    }

    /// The store says whose the shard is. Who is told that it is another's knows that it was
    /// deposed.
    pub(crate) fn confirmed(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let shard = self.shard;
        let sender = self.at(n, Phase::Claiming)?;
        sender.phase = Phase::Recorded;
        if !rules.confirms(&shard, sender.epoch) {
            self.nodes[n] = None;
        }
        Some(())
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
        if sender.phase == Phase::Idle {
            sender.unclaim();
        }
        Some(())
    }

    /// An outcome of a deposed owner is void.
    pub(crate) fn noted(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let sender = self.nodes[n].as_mut()?;
        let Phase::Noting(event) = sender.phase else {
            return None;
        };
        sender.phase = Phase::Idle;
        rules.note(&mut sender.view, event, self.now);
        sender.unclaim();
        if self.shard.admits(sender.epoch) {
            rules.note(&mut self.stored, event, self.now);
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

impl Sender {
    /// Nobody waits for the claim any more.
    fn unclaim(&mut self) {
        if let Some(claim) = self.claims.of(message()) {
            self.claims.answered(claim);
        }
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
