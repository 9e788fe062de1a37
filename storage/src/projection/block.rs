//! Blocks: some chunks in a row of one queue, with what is known of their messages.
//!
//! A block is what is loaded, kept hot, written and evicted together, so that single messages
//! cost a row per queue and flush and never one each.

use std::sync::Arc;

use zajil_model::id::{AccountId, BatchId, MessageId};
use zajil_model::lifecycle::{MessageState, Status};
use zajil_model::time::Timestamp;

use super::key::BlockKey;
use super::state;
use crate::StoreError;
use crate::codec::varint::{self, Reader};
use crate::codec::{read_account, read_message};

/// A block takes chunks until it holds this many messages: small enough to rewrite at each
/// flush, large enough that a row carries many single messages.
pub(crate) const BLOCK_MESSAGES: u32 = 256;

/// The forms below; a reader refuses others.
const INDEX_VERSION: u8 = 2;
const STATES_VERSION: u8 = 1;

/// A chunk in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The id of its first message.
    pub(crate) first: MessageId,
    /// How many messages it holds.
    pub(crate) count: u32,
    /// Where its record is in the log.
    pub(crate) lsn: u64,
    /// How long the record's payload is.
    pub(crate) len: u32,
    /// When it was accepted.
    pub(crate) created_at: Timestamp,
    /// The bulk request that it came with.
    pub(crate) bulk: Option<BatchId>,
    /// Mass cancels up to this record of the log are in `states`.
    pub(crate) seen: u64,
    /// What is known of its messages; `None` when nothing happened to any: all are pending.
    pub(crate) states: Option<Arc<Vec<MessageState>>>,
}

impl Slot {
    /// The id of its last message.
    pub(crate) fn last(&self) -> MessageId {
        self.first.plus(u64::from(self.count.saturating_sub(1)))
    }

    /// The place of an id in it; `None` for an id of another chunk.
    pub(crate) fn index_of(&self, id: MessageId) -> Option<u32> {
        if id.giver() != self.first.giver() || id < self.first {
            return None;
        }
        let index = u32::try_from(id.tick().0 - self.first.tick().0).ok()?;
        (index < self.count).then_some(index)
    }

    /// The state of a message.
    pub(crate) fn state(&self, index: u32) -> MessageState {
        self.states
            .as_ref()
            .and_then(|states| states.get(index as usize))
            .copied()
            .unwrap_or_default()
    }

    /// The states, to be changed.
    pub(crate) fn states_mut(&mut self) -> &mut Vec<MessageState> {
        let count = self.count as usize;
        let states = self
            .states
            .get_or_insert_with(|| Arc::new(vec![MessageState::default(); count]));
        Arc::make_mut(states)
    }

    /// About how much memory it takes in a block: there it also has an entry in the index by shard,
    /// of about the same size.
    pub(crate) fn bytes(&self) -> usize {
        let states = self.states.as_ref().map_or(0, |states| states.len());
        size_of::<Self>() * 2 + states * size_of::<MessageState>()
    }

    /// How many of its messages are not settled.
    pub(crate) fn unsettled(&self) -> u32 {
        match &self.states {
            None => self.count,
            Some(states) => states
                .iter()
                .filter(|state| !state.status.is_settled())
                .count() as u32,
        }
    }
}

/// Some chunks in a row of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its name.
    pub(crate) key: BlockKey,
    /// Whose they are.
    pub(crate) account: AccountId,
    /// The block before it in the queue.
    pub(crate) prev: Option<MessageId>,
    /// The block after it in the queue.
    pub(crate) next: Option<MessageId>,
    /// The chunks, by their first id.
    pub(crate) slots: Vec<Slot>,
    /// How many messages they hold.
    pub(crate) messages: u32,
    /// How many of them are not settled, mass cancels that are not in the states left out.
    pub(crate) unsettled: u32,
    /// When the first of them expires, settled or not, as [`zajil_model::message::Message::expires_at`] says.
    pub(crate) expires_at: Timestamp,
    /// Whether its chunks have to be written.
    pub(crate) index_dirty: bool,
    /// Whether its states have to be written.
    pub(crate) states_dirty: bool,
}

impl Block {
    /// An empty one.
    pub(crate) const fn new(key: BlockKey, account: AccountId, prev: Option<MessageId>) -> Self {
        Self {
            key,
            account,
            prev,
            next: None,
            slots: Vec::new(),
            messages: 0,
            unsettled: 0,
            expires_at: Timestamp::from_micros(i64::MAX),
            index_dirty: true,
            states_dirty: true,
        }
    }

    /// The place of the chunk that holds an id, and the id's place in that.
    pub(crate) fn find(&self, id: MessageId) -> Option<(usize, u32)> {
        let place = self.places_upto(id).checked_sub(1)?;
        Some((place, self.slots[place].index_of(id)?))
    }

    /// How many chunks begin at an id or before. Most ids are the newest: they cost no search.
    fn places_upto(&self, id: MessageId) -> usize {
        match self.slots.last() {
            Some(last) if last.first <= id => self.slots.len(),
            _ => self.slots.partition_point(|slot| slot.first <= id),
        }
    }

    /// Puts a chunk where its id says. `expires_at`: when the first of its messages does.
    pub(crate) fn insert(&mut self, slot: Slot, expires_at: Timestamp) {
        self.expires_at = self.expires_at.min(expires_at);
        self.messages += slot.count;
        self.unsettled += slot.unsettled();
        self.index_dirty = true;
        self.states_dirty = true;
        let place = self.places_upto(slot.first);
        self.slots.insert(place, slot);
    }

    /// The id of its last message.
    pub(crate) fn last(&self) -> MessageId {
        self.slots.last().map_or(self.key.first, Slot::last)
    }

    /// Whether it has to be written.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.index_dirty || self.states_dirty
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        256 + self.slots.iter().map(Slot::bytes).sum::<usize>()
    }

    /// Its chunks as bytes.
    pub(crate) fn encode_index(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.slots.len() * 16);
        out.push(INDEX_VERSION);
        varint::put(&mut out, self.account.get());
        varint::put(&mut out, self.prev.map_or(0, MessageId::get));
        varint::put(&mut out, self.next.map_or(0, MessageId::get));
        varint::put_signed(&mut out, self.expires_at.as_micros());
        varint::put(&mut out, self.slots.len() as u64);
        let (mut first, mut lsn, mut at) = (0_u64, 0_i64, 0_i64);
        for slot in &self.slots {
            varint::put(&mut out, slot.first.get() - first);
            varint::put(&mut out, u64::from(slot.count));
            varint::put_signed(&mut out, slot.lsn as i64 - lsn);
            varint::put(&mut out, u64::from(slot.len));
            varint::put_signed(&mut out, slot.created_at.as_micros() - at);
            varint::put(&mut out, slot.bulk.map_or(0, BatchId::get));
            (first, lsn, at) = (
                slot.first.get(),
                slot.lsn as i64,
                slot.created_at.as_micros(),
            );
        }
        out
    }

    /// Its states as bytes.
    pub(crate) fn encode_states(&self) -> Vec<u8> {
        let touched = self.slots.iter().filter(|slot| slot.states.is_some());
        let touched: usize = touched.map(|slot| slot.count as usize).sum();
        // What waits takes two bytes a chunk: a flush of millions that do takes no room for more.
        let mut out = Vec::with_capacity(16 + self.slots.len() * 4 + touched * 8);
        out.push(STATES_VERSION);
        for slot in &self.slots {
            varint::put(&mut out, slot.seen.saturating_sub(slot.lsn));
            match &slot.states {
                None => out.push(0),
                Some(states) => {
                    out.push(1);
                    state::encode(&mut out, states, slot.created_at);
                }
            }
        }
        out
    }

    /// Reads a block back from its two rows.
    pub(crate) fn decode(
        key: BlockKey,
        index: &[u8],
        states: Option<&[u8]>,
    ) -> Result<Self, StoreError> {
        let mut reader = Reader::new("block", index);
        if reader.byte()? != INDEX_VERSION {
            return Err(reader.fault("unknown version"));
        }
        let account = read_account(&mut reader)?;
        let prev = Some(read_message(&mut reader)?).filter(|id| id.get() != 0);
        let next = Some(read_message(&mut reader)?).filter(|id| id.get() != 0);
        let expires_at = Timestamp::from_micros(reader.signed()?);
        let count = reader.small()? as usize;
        let mut block = Self::new(key, account, prev);
        (block.next, block.expires_at) = (next, expires_at);
        let (mut first, mut lsn, mut at) = (0_u64, 0_i64, 0_i64);
        for _ in 0..count {
            first = first.wrapping_add(reader.number()?);
            let count = reader.small()?;
            lsn = lsn.wrapping_add(reader.signed()?);
            let len = reader.small()?;
            at = at.wrapping_add(reader.signed()?);
            let bulk = BatchId::new(reader.number()?).filter(|id| id.get() != 0);
            let id = MessageId::new(first).ok_or_else(|| reader.fault("an id out of range"))?;
            block.slots.push(Slot {
                first: id,
                count,
                lsn: lsn as u64,
                len,
                created_at: Timestamp::from_micros(at),
                bulk,
                seen: lsn as u64,
                states: None,
            });
        }
        if let Some(states) = states {
            block.read_states(states)?;
        }
        block.messages = block.slots.iter().map(|slot| slot.count).sum();
        block.unsettled = block.slots.iter().map(Slot::unsettled).sum();
        block.index_dirty = false;
        block.states_dirty = false;
        Ok(block)
    }

    fn read_states(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut reader = Reader::new("states", bytes);
        if reader.byte()? != STATES_VERSION {
            return Err(reader.fault("unknown version"));
        }
        for slot in &mut self.slots {
            slot.seen = slot.lsn + reader.number()?;
            if reader.byte()? != 0 {
                let states = state::decode(&mut reader, slot.count as usize, slot.created_at)?;
                slot.states = Some(Arc::new(states));
            }
        }
        Ok(())
    }
}

/// Whether a message in this status may be withdrawn by a mass cancel.
pub(crate) const fn is_waiting(status: Status) -> bool {
    matches!(status, Status::Scheduled | Status::Pending)
}
