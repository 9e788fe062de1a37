//! Marks: mass cancels that are not in every state yet, and how reads see them.

use zajil_model::id::MessageId;
use zajil_model::lifecycle::{Event, MessageState};
use zajil_model::message::Queue;
use zajil_model::time::Timestamp;

use super::block::{Slot, is_waiting};
use crate::StoreError;
use crate::codec::varint::{self, Reader};
use crate::codec::{put_queue, read_message, read_queue};

/// The form of a mark; a reader refuses others.
const VERSION: u8 = 1;

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
    /// Whether it ends a message of a chunk, should that still wait.
    pub(super) fn withdraws(&self, queue: Queue, slot: &Slot, id: MessageId) -> bool {
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

#[cfg(test)]
mod tests {
    use zajil_model::id::{AccountId, InstanceId};
    use zajil_model::lifecycle::Status;

    use super::super::block::Block;
    use super::super::key::{BlockKey, QueueKey};
    use super::*;

    fn id(number: u64) -> MessageId {
        MessageId::new(number << 10).expect("small")
    }

    fn slot(seen: u64) -> Slot {
        let created_at = Timestamp::from_seconds(0);
        Slot {
            first: id(5),
            count: 3,
            lsn: 7,
            len: 1,
            created_at,
            bulk: None,
            seen,
            states: None,
        }
    }

    fn mark(lsn: u64) -> Mark {
        let at = Timestamp::from_seconds(9);
        Mark {
            lsn,
            queue: None,
            upto: id(6),
            at,
            todo: Vec::new(),
        }
    }

    #[test]
    fn a_cancel_that_is_in_the_states_already_is_not_seen_again() {
        let pending = effective(&[mark(10)], Queue::Normal, &slot(10), 0);
        let cancelled = effective(&[mark(10), mark(11)], Queue::Normal, &slot(10), 0);
        let above = effective(&[mark(11)], Queue::Normal, &slot(10), 2);

        assert_eq!(pending.status, Status::Pending);
        assert_eq!(cancelled.status, Status::Cancelled);
        assert_eq!(above.status, Status::Pending);
    }

    #[test]
    fn a_block_comes_back_with_what_was_seen_of_cancels() {
        let instance = InstanceId::new(3).expect("small");
        let queue = QueueKey {
            instance,
            queue: Queue::Normal,
        };
        let key = BlockKey {
            queue,
            first: id(5),
        };
        let account = AccountId::new(1).expect("small");
        let mut block = Block::new(key, account, Some(id(2)));
        let mut slot = slot(10);
        slot.states_mut()[1].apply(Event::Acked, Timestamp::from_seconds(12));
        block.insert(slot, Timestamp::from_seconds(70));
        (block.index_dirty, block.states_dirty) = (false, false);

        let states = block.encode_states();
        let back = Block::decode(key, &block.encode_index(), Some(&states));

        assert_eq!(back, Ok(block));
    }
}
