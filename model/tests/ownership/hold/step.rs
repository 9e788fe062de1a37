//! What can happen next.

use zajil_model::barrier::Confirmations;
use zajil_model::lease::shard::Owner;
use zajil_model::lease::{NodeRow, NodeState};

use super::guard::{Guard, Rules};
use super::state::{Node, PAUSE, State, node};
use crate::takeover::{Step as Taking, TakeOver};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The row of the barrier is durable.
    Write,
    /// The lease rows are read: these have to confirm.
    List,
    /// A node is asked, or asked again: it applies the row, and confirms if it can.
    Ask(usize),
    /// Its confirmation arrives.
    Confirm(usize),
    /// Its lease row is read again.
    SeeRow(usize),
    /// The client is told that it is done.
    Answer,
    /// A node joins, or comes back as its next life.
    Join(usize),
    /// Its lease is over and it is declared dead; it may not know.
    Depose(usize),
    /// The owner gives the shard up.
    Release(usize),
    /// A node takes the shard, reads the tail and seals.
    Take(usize),
    /// It asks for the row of the barrier, which is read now.
    Read(usize),
    /// The row arrives.
    ReadArrives(usize),
    /// A message passes the check of barriers.
    Clear(usize),
    /// It passes the check of the lease.
    Pass(usize),
    /// It is handed to the transport.
    HandOver(usize),
    /// What was cleared and did not go is taken back.
    TakeBack(usize),
}

/// What might happen; what is not possible yet, [`State::take`] refuses.
pub(crate) fn possible(steps: &mut Vec<Step>) {
    steps.extend([Step::Write, Step::List, Step::Answer]);
    for n in 0..2 {
        steps.extend([Step::Ask(n), Step::Confirm(n), Step::SeeRow(n)]);
        steps.extend([Step::Join(n), Step::Depose(n), Step::Release(n)]);
        steps.extend([Step::Take(n), Step::Read(n), Step::ReadArrives(n)]);
        steps.extend([
            Step::Clear(n),
            Step::Pass(n),
            Step::HandOver(n),
            Step::TakeBack(n),
        ]);
    }
}

fn only_if(holds: bool) -> Option<()> {
    holds.then_some(())
}

impl State {
    /// Carries a step out; `None` when it is not possible.
    pub(crate) fn take(&mut self, step: Step, rules: &Rules) -> Option<()> {
        match step {
            Step::Write => self.write(rules),
            Step::List => self.list(rules),
            Step::Ask(n) => self.ask(n, rules),
            Step::Confirm(n) => {
                let life = self.confirms[n].take()?;
                self.asked.as_mut()?.confirmed(node(n), life);
                Some(())
            }
            Step::SeeRow(n) => {
                let row = self.rows[n]?;
                self.asked.as_mut()?.saw(node(n), &row);
                Some(())
            }
            Step::Answer => self.answer(rules),
            Step::Join(n) => self.join(n),
            Step::Depose(n) => self.depose(n),
            Step::Release(n) => self.release(n),
            Step::Take(n) => self.take_shard(n, rules),
            Step::Read(n) => self.read(n, rules),
            Step::ReadArrives(n) => self.read_arrives(n, rules),
            Step::Clear(n) => self.clear(n, rules),
            Step::Pass(n) => self.pass(n, rules),
            Step::HandOver(n) => self.hand_over(n),
            Step::TakeBack(n) => {
                let node = &mut self.nodes[n];
                only_if(node.known.stands() && node.cleared > 0)?;
                node.cleared = 0;
                Some(())
            }
        }
    }

    fn write(&mut self, rules: &Rules) -> Option<()> {
        only_if(self.row != PAUSE && !rules.lack(Guard::RowFirst))?;
        self.row = PAUSE;
        Some(())
    }

    fn list(&mut self, rules: &Rules) -> Option<()> {
        let early = rules.lack(Guard::ListedAfterRow) || rules.lack(Guard::RowFirst);
        only_if(self.asked.is_none() && (self.row == PAUSE || early))?;
        let rows = (0..2).filter_map(|n| Some((node(n), self.rows[n]?)));
        self.asked = Some(Confirmations::wanted(&rows.collect()));
        Some(())
    }

    fn ask(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let begun = self.row == PAUSE || rules.lack(Guard::RowFirst);
        let asked = self.asked.as_ref()?;
        only_if(begun && asked.missing().any(|(missing, _)| missing == node(n)))?;
        let asked = &mut self.nodes[n];
        only_if(asked.joined)?;
        // Who does not hold the shard has nothing to remember: it reads the row when it takes it.
        let mut known = asked.known;
        known.learn(PAUSE);
        if asked.steps.is_some() {
            asked.known = known;
        }
        let outstanding = usize::from(asked.cleared + asked.passed);
        if rules.may_confirm(&known, PAUSE, outstanding) {
            self.confirms[n] = Some(asked.me.incarnation);
        }
        Some(())
    }

    fn answer(&mut self, rules: &Rules) -> Option<()> {
        only_if(self.row == PAUSE || rules.lack(Guard::RowFirst))?;
        only_if(!self.done && rules.is_done(self.asked.as_ref()?))?;
        self.done = true;
        self.row = PAUSE;
        Some(())
    }

    fn join(&mut self, n: usize) -> Option<()> {
        if self.nodes[n].joined {
            self.restarts = self.restarts.checked_sub(1)?;
        }
        let row = NodeRow::joined(self.rows[n].as_ref());
        self.rows[n] = Some(row);
        let me = Owner {
            node: node(n),
            incarnation: row.incarnation,
        };
        self.nodes[n] = Node::new(me);
        Some(())
    }

    fn depose(&mut self, n: usize) -> Option<()> {
        let row = self.rows[n].filter(|row| row.state != NodeState::Dead)?;
        self.rows[n] = row.declared_dead(&row);
        self.nodes[n].deposed = true;
        Some(())
    }

    fn release(&mut self, n: usize) -> Option<()> {
        let life = &mut self.nodes[n];
        let epoch = life.steps?.serves()?;
        only_if(life.cleared + life.passed == 0)?;
        self.shard = self
            .shard
            .released(life.me, epoch, Some(node(1 - n)))
            .ok()?;
        life.steps = None;
        Some(())
    }

    fn take_shard(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let row = self
            .shard
            .owner
            .and_then(|owner| self.rows[owner.node.0 as usize - 1]);
        let life = &mut self.nodes[n];
        only_if(life.joined && !life.deposed && life.steps.is_none())?;
        self.takes = self.takes.checked_sub(1)?;
        self.shard = self.shard.taken(life.me, row.as_ref()).ok()?;
        let mut steps = TakeOver::begun(self.shard.epoch);
        steps.did(Taking::ReadTail);
        steps.did(Taking::Seal);
        life.steps = Some(steps);
        if !rules.lack(Guard::ReadAfterTaking) {
            life.reading = None;
        }
        Some(())
    }

    fn read(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let life = &mut self.nodes[n];
        let taken = life
            .steps
            .is_some_and(|steps| steps.next() == Taking::ReadBarriers);
        let early = rules.lack(Guard::ReadAfterTaking) && life.steps.is_none() && life.joined;
        only_if(life.reading.is_none() && (taken || early))?;
        life.reading = Some(self.row);
        Some(())
    }

    fn read_arrives(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let life = &mut self.nodes[n];
        let steps = life.steps.as_mut()?;
        rules.read(&mut life.known, life.reading.take()?);
        steps.did(Taking::ReadBarriers);
        Some(())
    }

    fn clear(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let life = &mut self.nodes[n];
        only_if(life.steps.is_some_and(|steps| rules.serves(&steps)) && !life.known.stands())?;
        self.messages = self.messages.checked_sub(1)?;
        life.cleared += 1;
        Some(())
    }

    /// Who passes the check after the answer broke the promise, whoever it is.
    fn pass(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let may = rules.may_leave(&self.nodes[n]);
        let life = &mut self.nodes[n];
        only_if(may)?;
        life.cleared = life.cleared.checked_sub(1)?;
        life.passed += 1;
        self.broken |= self.done;
        Some(())
    }

    /// What was past the check of a node that then died may still go; of a living one nothing.
    fn hand_over(&mut self, n: usize) -> Option<()> {
        let life = &mut self.nodes[n];
        life.passed = life.passed.checked_sub(1)?;
        self.broken |= self.done && !life.deposed;
        Some(())
    }

    /// Whether a barrier comes to its answer when nothing else happens any more.
    pub(crate) fn can_be_done(&self, rules: &Rules) -> bool {
        let mut calm = self.clone();
        for _ in 0..2 {
            for step in [Step::Write, Step::List] {
                let _possible = calm.take(step, rules);
            }
            for n in 0..2 {
                let towards = [
                    Step::HandOver(n),
                    Step::HandOver(n),
                    Step::HandOver(n),
                    Step::Ask(n),
                    Step::TakeBack(n),
                    Step::Ask(n),
                    Step::Confirm(n),
                    Step::SeeRow(n),
                ];
                for step in towards {
                    let _possible = calm.take(step, rules);
                }
            }
            let _possible = calm.take(Step::Answer, rules);
        }
        calm.done
    }
}
