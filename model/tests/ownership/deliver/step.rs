//! What can happen next.

use zajil_model::lifecycle::Event;
use zajil_model::refusal::{Failure, Reason};

use super::guard::Rules;
use super::state::{Phase, State, WAIT};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Minutes pass.
    Wait,
    /// A node takes the shard, reads what is durable and seals; who had it does not know.
    TakeOver(usize),
    /// The owner makes an attempt: it begins to record it.
    Attempt(usize),
    /// The record is durable.
    Recorded(usize),
    /// The store says whether a durable claim counts.
    Confirmed(usize),
    /// The frame passes the check of the lease.
    Pass(usize),
    /// The frame arrives, and the channel takes it.
    Taken(usize),
    /// The frame arrives, and the channel refuses it.
    Refused(usize),
    /// The frame is lost, or its answer will be.
    Lost(usize, Loss),
    /// The answer of the channel arrives.
    Answered(usize),
    /// No answer comes in time.
    TimedOut(usize),
    /// An outcome is durable.
    Noted(usize),
    /// The time of the message ran out while it waits.
    Expire(usize),
}

/// What gets lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The frame, before the channel saw it.
    Frame,
    /// The answer that it was taken.
    Answer,
}

/// What might happen; what is not possible yet, [`State::take`] refuses.
pub(crate) fn possible(steps: &mut Vec<Step>) {
    steps.push(Step::Wait);
    for n in 0..2 {
        steps.extend([
            Step::TakeOver(n),
            Step::Attempt(n),
            Step::Recorded(n),
            Step::Confirmed(n),
            Step::Pass(n),
        ]);
        steps.extend([
            Step::Taken(n),
            Step::Refused(n),
            Step::Answered(n),
            Step::TimedOut(n),
        ]);
        steps.extend([Step::Lost(n, Loss::Frame), Step::Lost(n, Loss::Answer)]);
        steps.extend([Step::Noted(n), Step::Expire(n)]);
    }
}

/// Uses one up, if any is left.
fn spend(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

impl State {
    /// Carries a step out; `None` when it is not possible.
    pub(crate) fn take(&mut self, step: Step, rules: &Rules) -> Option<()> {
        match step {
            Step::Wait => {
                spend(&mut self.waits)?;
                self.wait()
            }
            Step::TakeOver(n) => {
                spend(&mut self.take_overs)?;
                self.take_over(n, rules)
            }
            Step::Attempt(n) => self.attempt(n, rules),
            Step::Recorded(n) => self.recorded(n, rules),
            Step::Confirmed(n) => self.confirmed(n, rules),
            Step::Pass(n) => self.pass(n, rules),
            Step::Taken(n) => self.arrive(n, rules, Some(Event::Acked)),
            Step::Refused(n) => {
                spend(&mut self.refusals)?;
                self.arrive(n, rules, Some(refused(self)))
            }
            Step::Lost(n, loss) => {
                spend(&mut self.lost)?;
                match loss {
                    Loss::Frame => self.lose(n),
                    Loss::Answer => self.arrive(n, rules, None),
                }
            }
            Step::Answered(n) => self.answered(n),
            Step::TimedOut(n) => self.timed_out(n, rules),
            Step::Noted(n) => self.noted(n, rules),
            Step::Expire(n) => self.expire(n, rules),
        }
    }

    /// What is past the lease check leaves, or its connection dies, before minutes have passed.
    pub(crate) fn wait(&mut self) -> Option<()> {
        let passed = |n: usize| matches!(self.phase(n), Some(Phase::Passed));
        if passed(0) || passed(1) {
            return None;
        }
        self.now = self.now + WAIT;
        Some(())
    }
}

fn refused(state: &State) -> Event {
    Event::Refused {
        failure: Failure {
            reason: Reason::Temporary,
            code: 503,
        },
        retry_at: state.now,
    }
}
