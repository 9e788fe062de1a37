//! Mass cancels: counted at once, seen at once by every read, written into states afterwards.
//!
//! A cancel of ten million messages is one record. What it withdraws is counted when it is
//! applied; a *mark* makes reads see it; and *sweeps*, each a record of the log so that a replay
//! does the same, write it into the states and the change feed a stretch at a time. A message
//! that something else happens to first gets its cancel before that.

use std::collections::BTreeMap;

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::lifecycle::{Event, MessageState, Status};
use zajil_model::time::Day;

use super::apply::Applier;
use super::block::{Block, is_waiting};
use super::bodies::ChunkSource;
use super::key::{self, BlockKey, QueueKey};
use super::mark::{Mark, effective};
use crate::StoreError;
use crate::codec::CancelAll;
use crate::kv::Kv;

/// Blocks of one sweep: about a millisecond of the projector's time.
const SWEEP_BLOCKS: usize = 16;

/// Scheduled and pending messages, by the day of their acceptance.
type Waiting = BTreeMap<Day, [u64; 2]>;

impl<K: Kv, C: ChunkSource> Applier<'_, K, C> {
    /// Counts what a mass cancel withdraws, and marks it.
    pub(super) fn cancel_all(&mut self, lsn: u64, cancel: &CancelAll) -> Result<(), StoreError> {
        let mut todo = Vec::new();
        for queue in self.queues_of(cancel.instance)? {
            if cancel.queue.is_some_and(|only| only != queue.queue) {
                continue;
            }
            let Some(head) = self.head(queue)? else {
                continue;
            };
            let (low, last, waiting) = (head.low, head.last, head.waiting());
            if waiting == 0 {
                continue;
            }
            let above = if cancel.upto < last {
                self.waiting_above(queue, cancel.upto)?
            } else {
                Waiting::new()
            };
            self.count_withdrawn(queue, &above)?;
            todo.push((queue.queue, low, cancel.upto.min(last)));
        }
        if !todo.is_empty() {
            let (queue, upto, at) = (cancel.queue, cancel.upto, cancel.at);
            let mark = Mark {
                lsn,
                queue,
                upto,
                at,
                todo,
            };
            self.state
                .overlay
                .put(key::mark(cancel.instance, lsn), Some(mark.encode()));
            self.state
                .marks
                .entry(cancel.instance)
                .or_default()
                .push(mark);
        }
        Ok(())
    }

    /// What waits in a queue with ids above `upto`: few, because a cancel names the newest id.
    fn waiting_above(&mut self, queue: QueueKey, upto: MessageId) -> Result<Waiting, StoreError> {
        let mut found = Waiting::new();
        let mut next = self.head(queue)?.map(|head| head.open);
        while let Some(first) = next {
            let key = BlockKey { queue, first };
            let Some(block) = self.block(key)? else { break };
            let marks = self.state.marks_of(queue.instance);
            for slot in block.slots.iter().filter(|slot| slot.last() > upto) {
                let day = found.entry(slot.created_at.day()).or_default();
                let above = (0..slot.count).filter(|i| slot.first.plus(u64::from(*i)) > upto);
                for state in above.map(|i| effective(marks, queue.queue, slot, i)) {
                    if is_waiting(state.status) {
                        day[state.status as usize] += 1;
                    }
                }
            }
            next = block.prev.filter(|_| first > upto);
        }
        Ok(found)
    }

    /// Counts everything that waits in a queue as cancelled, but not what is above.
    fn count_withdrawn(&mut self, queue: QueueKey, above: &Waiting) -> Result<(), StoreError> {
        for day in self.days_of(queue)? {
            let kept = above.get(&day).copied().unwrap_or_default();
            for status in [Status::Scheduled, Status::Pending] {
                let cell = self.cell(queue, day)?;
                let gone = cell.counts[status as usize].saturating_sub(kept[status as usize]);
                if gone > 0 {
                    cell.shift(status, Status::Cancelled, gone);
                    if let Some(head) = self.head(queue)? {
                        head.sub(status, gone);
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes marks into the states of a chunk of a hot block.
    pub(super) fn materialize(&mut self, key: BlockKey, place: usize) -> Result<(), StoreError> {
        let Some(newest) = self
            .state
            .marks_of(key.queue.instance)
            .last()
            .map(|mark| mark.lsn)
        else {
            return Ok(());
        };
        let marks = self.state.marks_of(key.queue.instance).to_vec();
        let Some(block) = self.state.block_mut(key) else {
            return Ok(());
        };
        let slot = &mut block.slots[place];
        let day = slot.created_at.day();
        if slot.seen >= newest {
            return Ok(());
        }
        let untouched = slot.states.is_none();
        let mut withdrawn = Vec::new();
        for mark in &marks {
            for index in 0..slot.count {
                let (id, before) = (slot.first.plus(u64::from(index)), slot.state(index));
                if is_waiting(before.status) && mark.withdraws(key.queue.queue, slot, id) {
                    let state = &mut slot.states_mut()[index as usize];
                    state.apply(Event::Cancelled, mark.at);
                    withdrawn.push((id, before, state.status, mark.at));
                }
            }
        }
        slot.seen = newest;
        let grown = if untouched && slot.states.is_some() {
            slot.count as usize
        } else {
            0
        };
        let (chunk, count) = (slot.first, withdrawn.len() as u32);
        block.unsettled = block.unsettled.saturating_sub(count);
        block.states_dirty = true;
        let account = block.account;
        self.state.hot_bytes += grown * size_of::<MessageState>();
        self.state.dirty_bytes += grown * size_of::<MessageState>();
        for (id, before, status, at) in withdrawn {
            self.told(account, id, status, at);
            if status != Status::Cancelled {
                // It may have gone, and was counted with the others.
                self.cell(key.queue, day)?
                    .shift(Status::Cancelled, status, 1);
            }
            if let Some(due) = before
                .next_at
                .filter(|_| before.status == Status::Scheduled)
            {
                self.unschedule(key.queue.instance, due, chunk, id)?;
            }
        }
        self.settle_block(key)
    }

    /// Does the next stretch of the oldest mass cancel of an instance.
    pub(super) fn sweep(&mut self, instance: InstanceId) -> Result<(), StoreError> {
        let Some(mark) = self.state.marks_of(instance).first() else {
            return Ok(());
        };
        let (lsn, task) = (mark.lsn, mark.todo.first().copied());
        let mut rest = None;
        if let Some((queue, from, to)) = task {
            let queue = QueueKey { instance, queue };
            rest = self.sweep_blocks(queue, from, to)?;
        }
        let Some(marks) = self.state.marks.get_mut(&instance) else {
            return Ok(());
        };
        let mark = &mut marks[0];
        match (rest, mark.todo.first_mut()) {
            (Some(next), Some(task)) => task.1 = next,
            (None, Some(_)) => drop(mark.todo.remove(0)),
            (_, None) => {}
        }
        let value = if mark.todo.is_empty() {
            marks.remove(0);
            None
        } else {
            Some(mark.encode())
        };
        if marks.is_empty() {
            self.state.marks.remove(&instance);
        }
        self.state.overlay.put(key::mark(instance, lsn), value);
        Ok(())
    }

    /// Sweeps some blocks of a queue; answers the block to go on with.
    fn sweep_blocks(
        &mut self,
        queue: QueueKey,
        from: MessageId,
        to: MessageId,
    ) -> Result<Option<MessageId>, StoreError> {
        let mut next = Some(from);
        for _ in 0..SWEEP_BLOCKS {
            let Some(first) = next.filter(|first| *first <= to) else {
                return Ok(None);
            };
            let key = BlockKey { queue, first };
            let Some(block) = self.block(key)? else {
                return Ok(None);
            };
            next = block.next;
            for place in 0..block.slots.len() {
                if self.withdraws_any(key, &block, place) {
                    self.block(key)?;
                    self.materialize(key, place)?;
                }
            }
        }
        Ok(next.filter(|first| *first <= to))
    }

    /// Whether a mark is still to be written into a chunk.
    fn withdraws_any(&self, key: BlockKey, block: &Block, place: usize) -> bool {
        let slot = &block.slots[place];
        let marks = self.state.marks_of(key.queue.instance);
        marks
            .iter()
            .any(|mark| mark.withdraws(key.queue.queue, slot, slot.first))
            && (0..slot.count).any(|index| is_waiting(slot.state(index).status))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use zajil_model::lifecycle::Outcome;
    use zajil_model::refusal::{Failure, Reason};

    use super::*;
    use crate::TotalsFilter;
    use crate::codec::Record;
    use crate::kv::map::MapKv;
    use crate::projection::testing::{Nowhere, START, chunk};
    use crate::projection::{Budgets, Positioned, Projection};

    fn status(projection: &Projection<MapKv, Nowhere>, id: MessageId) -> Status {
        let key = projection.locate(id).unwrap().unwrap();
        let marks = projection.marks(key.queue.instance);
        let block = projection.block(key).unwrap().unwrap();
        let (place, index) = block.find(id).unwrap();
        effective(&marks, key.queue.queue, &block.slots[place], index).status
    }

    type Opened = Projection<MapKv, Nowhere>;

    fn opened() -> Opened {
        Projection::open(MapKv::default(), Nowhere, Budgets::default()).unwrap()
    }

    /// Applies a record of the log.
    fn apply(projection: &Opened, lsn: u64, record: Record) {
        let records = vec![Positioned {
            lsn,
            len: 0,
            record,
        }];
        projection.apply(records).unwrap();
    }

    fn counted(projection: &Opened, instance: InstanceId, status: Status) -> u64 {
        let filter = TotalsFilter {
            instances: vec![instance],
            ..TotalsFilter::default()
        };
        projection.totals(&filter).unwrap().of(status)
    }

    #[test]
    fn what_may_have_gone_is_no_longer_known_after_a_cancel_and_not_cancelled() {
        let waiting = chunk(START, 0);
        let (instance, doubtful) = (waiting.instance, waiting.id(3));
        let projection = opened();
        apply(&projection, 1, Record::Accept(Arc::clone(&waiting)));
        for (lsn, event) in [
            (2, Event::Attempt(1)),
            (3, Event::Attempt(2)),
            (4, Event::Due),
        ] {
            let outcome = Outcome {
                id: doubtful,
                at: START,
                event,
            };
            apply(&projection, lsn, Record::Outcomes(vec![outcome]));
        }

        let all = CancelAll {
            account: waiting.account,
            instance,
            queue: None,
            upto: waiting.last(),
            at: START,
        };
        apply(&projection, 5, Record::CancelAll(all));
        assert_eq!(status(&projection, doubtful), Status::Unknown);
        apply(&projection, 6, Record::Sweep(instance));

        assert_eq!(status(&projection, doubtful), Status::Unknown);
        assert_eq!(counted(&projection, instance, Status::Unknown), 1);
        assert_eq!(counted(&projection, instance, Status::Cancelled), 255);
    }

    /// What came back, or came, after a mass cancel is none of its business, whether its sweep
    /// comes at once, or after a restart.
    #[test]
    fn a_cancel_takes_only_what_waited_when_it_was_asked() {
        for restarts in [false, true] {
            let (old, new) = (chunk(START, 0), chunk(START, 1));
            let (instance, under_way) = (old.instance, old.id(3));
            let mut projection = opened();
            let mut lsn = 0;
            let mut apply = |projection: &Opened, record| {
                lsn += 1;
                super::tests::apply(projection, lsn, record);
            };
            let outcome = |event| {
                let (id, at) = (under_way, START);
                Record::Outcomes(vec![Outcome { id, at, event }])
            };
            let failure = Failure {
                reason: Reason::Temporary,
                code: 503,
            };
            let retry_at = START + Duration::from_secs(9);

            apply(&projection, Record::Accept(Arc::clone(&old)));
            apply(&projection, outcome(Event::Attempt(1)));
            apply(
                &projection,
                Record::CancelAll(CancelAll {
                    account: old.account,
                    instance,
                    queue: None,
                    upto: new.last(),
                    at: START,
                }),
            );
            apply(&projection, outcome(Event::Refused { failure, retry_at }));
            apply(&projection, Record::Accept(Arc::clone(&new)));
            if restarts {
                projection.flush().unwrap();
                let Projection { kv, .. } = projection;
                projection = Projection::open(kv, Nowhere, Budgets::default()).unwrap();
            }
            for _ in 0..2 {
                let marked = !projection.unswept().is_empty();
                assert_eq!(status(&projection, under_way), Status::Pending, "{marked}");
                assert_eq!(status(&projection, new.first), Status::Pending, "{marked}");
                assert_eq!(
                    status(&projection, old.first),
                    Status::Cancelled,
                    "{marked}"
                );
                apply(&projection, Record::Sweep(instance));
            }

            assert!(projection.unswept().is_empty());
            assert_eq!(counted(&projection, instance, Status::Cancelled), 255);
            assert_eq!(counted(&projection, instance, Status::Pending), 257);
        }
    }
}
