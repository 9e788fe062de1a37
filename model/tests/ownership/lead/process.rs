//! What a node does: each step asks the rules, and writes what they answer.

use zajil_model::id::{MessageId, Shard, Tick};
use zajil_model::lease::holder::Found;
use zajil_model::lease::watch::LEAST_READS;
use zajil_model::time::Timestamp;

use super::guard::{Guard, Rules};
use super::state::{Answer, Chunk, Held, State, node};
use super::step::spend;
use crate::takeover::Step as Taking;

/// Far below every tick, so that ids follow one another.
const EARLY: Timestamp = Timestamp::from_seconds(0);

impl State {
    pub(crate) fn renewal_lands(&mut self, n: usize, which: usize, rules: &Rules) -> Option<()> {
        let on_their_way = &mut self.store.renewals[n];
        if which >= on_their_way.len() {
            return None;
        }
        let renewal = on_their_way.remove(which);
        let before = self.store.rows[n];
        self.store.rows[n] = rules.land(before, &renewal);
        let life = &mut self.nodes[n];
        if life.renewal == Some(renewal) && life.answer.is_none() {
            let applied = self.store.rows[n] != before;
            life.answer = Some(if applied {
                Answer::Applied
            } else {
                Answer::Row(before)
            });
        }
        Some(())
    }

    pub(crate) fn renewal_answered(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let life = &mut self.nodes[n];
        let (answer, renewal) = (life.answer.take()?, life.renewal.take()?);
        if rules.follow(life, &renewal, answer, self.now) == Found::Fenced {
            life.held = None;
        }
        Some(())
    }

    pub(crate) fn renewal_doubted(&mut self, n: usize) -> Option<()> {
        self.nodes[n].renewal?;
        if self.nodes[n].answer.is_some() {
            return None;
        }
        self.nodes[n].answer = Some(Answer::Row(self.store.rows[n]));
        spend(&mut self.left.lost_answers)
    }

    pub(crate) fn ask_row(&mut self, n: usize) -> Option<()> {
        let life = &mut self.nodes[n];
        let idle = life.reading.is_none() && life.lease().may_send(self.now);
        idle.then(|| life.reading = Some(self.now))
    }

    pub(crate) fn row_read(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let row = self.store.rows[1 - n];
        let life = &mut self.nodes[n];
        let asked = life.reading.take()?;
        if life.seen.replace(row) != Some(row) {
            for _ in 0..LEAST_READS {
                rules.observe(&mut life.watch, row, asked, self.now);
            }
        }
        Some(())
    }

    pub(crate) fn challenge(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let life = &self.nodes[n];
        let row = &mut self.store.rows[1 - n];
        if !life.lease().may_send(self.now) {
            return None;
        }
        *row = rules.dead(life, node(1 - n), row, self.now)?;
        Some(())
    }

    pub(crate) fn ask_for_the_shard(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let shard = self.store.shard;
        let owner_row = shard
            .owner
            .map(|owner| self.store.rows[owner.node.0 as usize - 1]);
        let life = &mut self.nodes[n];
        let held = life.held.as_ref().map(|held| held.steps.epoch());
        let holds = held.is_some_and(|epoch| shard.admits(epoch));
        if holds || self.store.changes[n].is_some() || !life.lease().may_send(self.now) {
            return None;
        }
        let taken = rules.taken(&shard, life.me, owner_row.as_ref()).ok()?;
        spend(&mut self.left.takes)?;
        life.held = None;
        life.changing = true;
        self.store.changes[n] = Some((shard, taken));
        Some(())
    }

    pub(crate) fn release(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let life = &mut self.nodes[n];
        let epoch = rules.serves(&life.held.as_ref()?.steps)?;
        let next = Some(node(1 - n));
        let shard = self.store.shard;
        let released = shard.released(life.me, epoch, next).ok()?;
        if self.store.changes[n].is_some() {
            return None;
        }
        spend(&mut self.left.releases)?;
        if !rules.lack(Guard::StoppedBeforeRelease) {
            life.held = None;
        }
        self.store.changes[n] = Some((shard, released));
        Some(())
    }

    pub(crate) fn change_lands(&mut self, n: usize) -> Option<()> {
        let (from, to) = self.store.changes[n].take()?;
        let applied = self.store.shard == from;
        let life = &mut self.nodes[n];
        if std::mem::take(&mut life.changing) {
            life.held = applied.then(|| Held::taken(to.epoch));
        }
        if applied {
            self.store.shard = to;
            self.owners.extend(to.owner.map(|owner| (to.epoch, owner)));
        }
        Some(())
    }

    pub(crate) fn change_doubted(&mut self, n: usize) -> Option<()> {
        let life = &mut self.nodes[n];
        if !life.changing {
            return None;
        }
        spend(&mut self.left.lost_answers)?;
        life.changing = false;
        Some(())
    }

    pub(crate) fn read_tail(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let held = self.nodes[n].held.as_mut()?;
        if held.steps.next() != Taking::ReadTail {
            return None;
        }
        if !rules.lack(Guard::TailRead) {
            let epoch = held.steps.epoch();
            let before = self.store.log.iter().filter(|chunk| chunk.epoch < epoch);
            held.tail = before.copied().collect();
        }
        held.seals = self.store.seals.clone();
        held.clock = rules.clock(self.store.ceiling, &held.tail);
        held.steps.did(Taking::ReadTail);
        Some(())
    }

    pub(crate) fn seal(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let life = &mut self.nodes[n];
        let held = life.held.as_mut()?;
        if held.steps.next() != Taking::Seal {
            return None;
        }
        let epoch = held.steps.epoch();
        if !self.store.shard.admits(epoch) && !rules.lack(Guard::SealFenced) {
            life.held = None;
            return Some(());
        }
        if !rules.lack(Guard::Sealed) {
            let tail = held.tail.iter().map(|chunk| (chunk.epoch, chunk.id));
            held.seals.seal_below(epoch, tail);
            self.store.seals = held.seals.clone();
        }
        let counts = |chunk: &&Chunk| !held.seals.is_void(chunk.epoch, chunk.id);
        held.counted = held.tail.iter().filter(counts).copied().collect();
        held.steps.did(Taking::Seal);
        held.steps.did(Taking::ReadBarriers);
        Some(())
    }

    pub(crate) fn raise(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let life = &mut self.nodes[n];
        let held = life.held.as_mut()?;
        let epoch = rules.serves(&held.steps)?;
        let wants = held.clock.last() == held.clock.ceiling() && self.left.requests > 0;
        if !wants {
            return None;
        }
        let raised = Tick(held.clock.ceiling().0 + 1);
        if !rules.lack(Guard::CeilingDurable) {
            if !self.store.shard.admits(epoch) {
                life.held = None;
                return Some(());
            }
            self.store.ceiling = raised;
        }
        held.clock.raise(raised);
        Some(())
    }

    pub(crate) fn accept(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let held = self.nodes[n].held.as_mut()?;
        let epoch = rules.serves(&held.steps)?;
        if held.append.is_some() {
            return None;
        }
        let tick = held.clock.take(1, EARLY)?;
        spend(&mut self.left.requests)?;
        let id = MessageId::give(tick, Shard::of(0));
        let given = |chunk: &Chunk| chunk.id == id;
        let store = &mut self.store;
        self.given_twice |= store.log.iter().chain(&store.appends).any(given);
        let chunk = *held.append.insert(Chunk { epoch, id });
        store.appends.insert(chunk);
        Some(())
    }

    pub(crate) fn append_answered(&mut self, n: usize, rules: &Rules) -> Option<()> {
        let life = &mut self.nodes[n];
        let chunk = life.held.as_ref()?.append?;
        if !self.store.log.contains(&chunk) && !rules.lack(Guard::AnsweredWhenDurable) {
            return None;
        }
        let held = life.held.as_ref()?;
        if rules.may_answer(life, held, &chunk, self.now) {
            self.accepted.insert(chunk);
        }
        life.held.as_mut()?.append.take().map(|_| ())
    }
}
