//! What can happen next.

use std::time::Duration;

use zajil_model::lease::holder::Holder;
use zajil_model::lease::shard::Owner;
use zajil_model::lease::{NodeRow, NodeState, Standing};
use zajil_model::time::Mono;

use super::Scene;
use super::guard::{Guard, Rules};
use super::state::{CHALLENGER, Chunk, Life, State, node};

/// How far time goes at once: two of these end a lease, three are a silence that proves it.
const TICK: Duration = Duration::from_millis(2_500);

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Time goes on for everybody.
    Tick,
    /// A process ends at once, and joins as its next life.
    Restart(usize),
    /// Its lease is over, and it is declared dead; it may not know for as long as it likes.
    Depose(usize),
    /// It asks for a renewal of its lease.
    Renew(usize),
    /// One of its renewals reaches the store, maybe long after.
    RenewalLands(usize, usize),
    /// Its answer comes back.
    RenewalAnswered(usize),
    /// The answer is not waited for: the row is read.
    RenewalDoubted(usize),
    /// It asks for the row of its peer.
    AskRow(usize),
    /// The row is read.
    RowRead(usize),
    /// It declares its peer dead.
    Challenge(usize),
    /// It asks for the shard.
    Take(usize),
    /// It asks to give the shard to its peer.
    Release(usize),
    /// A change of the shard row reaches the store, maybe long after.
    ChangeLands(usize),
    /// The answer to it is not waited for.
    ChangeDoubted(usize),
    /// A new owner reads ceiling and tail.
    ReadTail(usize),
    /// It writes the seal.
    Seal(usize),
    /// An owner raises the ceiling of its ids.
    Raise(usize),
    /// It gives an id and begins to append.
    Accept(usize),
    /// An append is at a quorum, maybe long after.
    AppendLands(Chunk),
    /// Its owner hears of it.
    AppendAnswered(usize),
    /// Its owner goes on without having heard; only where the rule against it is left out.
    AppendGivenUp(usize),
}

/// What might happen; what is not possible yet, [`State::take`] refuses.
pub(crate) fn possible(state: &State, scene: Scene, steps: &mut Vec<Step>) {
    steps.extend(state.store.appends.iter().copied().map(Step::AppendLands));
    for (n, life) in state.nodes.iter().enumerate() {
        steps.extend([Step::Restart(n), Step::Take(n)]);
        match scene {
            Scene::Leases => of_leases(n, steps),
            Scene::Log => steps.push(Step::Depose(n)),
        }
        if life.held.is_some() {
            of_an_owner(n, steps);
        }
    }
}

fn of_leases(n: usize, steps: &mut Vec<Step>) {
    if n == CHALLENGER {
        let challenger = [Step::AskRow(n), Step::RowRead(n), Step::Challenge(n)];
        steps.extend(challenger);
        steps.extend([Step::Tick, Step::ChangeLands(n), Step::ChangeDoubted(n)]);
    } else {
        steps.extend([
            Step::Renew(n),
            Step::RenewalLands(n, 0),
            Step::RenewalLands(n, 1),
        ]);
        steps.extend([Step::RenewalAnswered(n), Step::RenewalDoubted(n)]);
    }
}

fn of_an_owner(n: usize, steps: &mut Vec<Step>) {
    let of_an_owner = [
        Step::Release(n),
        Step::ReadTail(n),
        Step::Seal(n),
        Step::Raise(n),
        Step::Accept(n),
        Step::AppendAnswered(n),
        Step::AppendGivenUp(n),
    ];
    steps.extend(of_an_owner);
}

/// Uses one up, if any is left.
pub(crate) fn spend(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

impl State {
    /// Carries a step out; `None` when it is not possible, and then this state is of no more use.
    pub(crate) fn take(&mut self, step: Step, rules: &Rules) -> Option<()> {
        match step {
            Step::Tick => {
                spend(&mut self.left.ticks)?;
                self.now = self.now + TICK;
                Some(())
            }
            Step::Restart(n) => self.restart(n),
            Step::Depose(n) => self.depose(n),
            Step::Renew(n) => self.renew(n),
            Step::RenewalLands(n, which) => self.renewal_lands(n, which, rules),
            Step::RenewalAnswered(n) => self.renewal_answered(n, rules),
            Step::RenewalDoubted(n) => self.renewal_doubted(n),
            Step::AskRow(n) => self.ask_row(n),
            Step::RowRead(n) => self.row_read(n, rules),
            Step::Challenge(n) => self.challenge(n, rules),
            Step::Take(n) => self.ask_for_the_shard(n, rules),
            Step::Release(n) => self.release(n, rules),
            Step::ChangeLands(n) => self.change_lands(n),
            Step::ChangeDoubted(n) => self.change_doubted(n),
            Step::ReadTail(n) => self.read_tail(n, rules),
            Step::Seal(n) => self.seal(n, rules),
            Step::Raise(n) => self.raise(n, rules),
            Step::Accept(n) => self.accept(n, rules),
            Step::AppendLands(chunk) => {
                self.store.appends.remove(&chunk);
                self.store.log.insert(chunk);
                Some(())
            }
            Step::AppendAnswered(n) => self.append_answered(n, rules),
            Step::AppendGivenUp(n) => self.append_given_up(n, rules),
        }
    }

    /// What is not looked at closely in a scene follows at once.
    pub(crate) fn answer_at_once(&mut self, step: Step, scene: Scene, rules: &Rules) {
        let _done = match (scene, step) {
            (Scene::Leases, Step::ReadTail(n)) => self.seal(n, rules),
            (Scene::Log, Step::Take(n) | Step::Release(n)) => self.change_lands(n),
            _ => None,
        };
    }

    fn depose(&mut self, n: usize) -> Option<()> {
        let (row, life) = (&mut self.store.rows[n], &mut self.nodes[n]);
        let known = *life.holder.row();
        *row = row.declared_dead(&known).filter(|dead| dead != row)?;
        life.holder = Holder::joined(known, Mono::default());
        spend(&mut self.left.depositions)
    }

    fn restart(&mut self, n: usize) -> Option<()> {
        spend(&mut self.left.restarts)?;
        let row = NodeRow::joined(Some(&self.store.rows[n]));
        self.store.rows[n] = row;
        let me = Owner {
            node: node(n),
            incarnation: row.incarnation,
        };
        self.nodes[n] = Life::new(me, row, self.now);
        Some(())
    }

    fn renew(&mut self, n: usize) -> Option<()> {
        let (now, life) = (self.now, &mut self.nodes[n]);
        if life.renewal.is_some() || life.lease().standing(now) == Standing::Fenced {
            return None;
        }
        spend(&mut self.left.renewals)?;
        let renewal = life.holder.ask(NodeState::Alive, now);
        life.renewal = Some(renewal);
        self.store.renewals[n].push(renewal);
        Some(())
    }

    fn append_given_up(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let held = self.nodes[n].held.as_mut()?;
        if !rules.lack(Guard::RepeatedBeforeNext) {
            return None;
        }
        held.append.take().map(|_| ())
    }
}
