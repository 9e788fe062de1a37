//! Mass cancels: counted at once, seen at once by every read, written into states afterwards.
//!
//! A cancel of ten million messages is one record. What it withdraws is counted when it is
//! applied; a *mark* makes reads see it; and *sweeps*, each a record of the log so that a replay
//! does the same, write it into the states and the change feed a stretch at a time. A message
//! that something else happens to first gets its cancel before that.

use std::collections::BTreeMap;

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::lifecycle::{Event, MessageState, Status};
use zajil_model::message::Queue;
use zajil_model::time::{Day, Timestamp};

use super::apply::Applier;
use super::block::{Block, Slot, is_waiting};
use super::bodies::ChunkSource;
use super::key::{self, BlockKey, QueueKey};
use crate::StoreError;
use crate::codec::varint::{self, Reader};
use crate::codec::{CancelAll, put_queue, read_message, read_queue};
use crate::kv::Kv;

/// The form of a mark; a reader refuses others.
const VERSION: u8 = 1;

/// Blocks of one sweep: about a millisecond of the projector's time.
const SWEEP_BLOCKS: usize = 16;

/// A mass cancel that is not in every state yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The record of the log.
    pub(crate) lsn: u64,
    /// Only this queue; `None` is all of them.
    pub(crate) queue: Option<Queue>,
    /// Ids above it are not touched.
    pub(crate) upto: MessageId,
    /// When it was asked.
    pub(crate) at: Timestamp,
    /// What sweeps have to do: of each queue, the blocks from one id to another.
    pub(crate) todo: Vec<(Queue, MessageId, MessageId)>,
}

impl Mark {
    fn withdraws(&self, queue: Queue, slot: &Slot, id: MessageId) -> bool {
        self.lsn > slot.seen && self.queue.is_none_or(|only| only == queue) && id <= self.upto
    }

    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self.queue {
            None => out.push(0),
            Some(queue) => {
                out.push(1);
                put_queue(&mut out, queue);
            }
        }
        varint::put(&mut out, self.upto.get());
        varint::put_signed(&mut out, self.at.as_micros());
        varint::put(&mut out, self.todo.len() as u64);
        for (queue, from, to) in &self.todo {
            put_queue(&mut out, *queue);
            varint::put(&mut out, from.get());
            varint::put(&mut out, to.get());
        }
        out
    }

    /// Reads it back.
    pub(crate) fn decode(lsn: u64, bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new("mass cancel", bytes);
        if reader.byte()? != VERSION {
            return Err(reader.fault("unknown version"));
        }
        let queue = match reader.byte()? {
            0 => None,
            _ => Some(read_queue(&mut reader)?),
        };
        let upto = read_message(&mut reader)?;
        let at = Timestamp::from_micros(reader.signed()?);
        let mut todo = Vec::new();
        for _ in 0..reader.small()? {
            let queue = read_queue(&mut reader)?;
            todo.push((
                queue,
                read_message(&mut reader)?,
                read_message(&mut reader)?,
            ));
        }
        Ok(Self {
            lsn,
            queue,
            upto,
            at,
            todo,
        })
    }
}

/// The state of a message with the mass cancels that are not in it yet.
pub(crate) fn effective(marks: &[Mark], queue: Queue, slot: &Slot, index: u32) -> MessageState {
    let mut state = slot.state(index);
    let id = slot.first.plus(u64::from(index));
    for mark in marks {
        if is_waiting(state.status) && mark.withdraws(queue, slot, id) {
            state.apply(Event::Cancelled, mark.at);
        }
    }
    state
}

/// The states of all messages of a chunk, seen the same way.
pub(crate) fn effective_all(marks: &[Mark], queue: Queue, slot: &Slot) -> Vec<MessageState> {
    (0..slot.count)
        .map(|index| effective(marks, queue, slot, index))
        .collect()
}

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
                    withdrawn.push((id, before, mark.at));
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
        for (id, before, at) in withdrawn {
            self.told(account, id, Status::Cancelled, at);
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
