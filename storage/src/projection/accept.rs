//! How accepted chunks find their place.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use zajil_model::id::MessageId;
use zajil_model::lifecycle::{MessageState, Status};
use zajil_model::message::Chunk;

use super::apply::Applier;
use super::block::{BLOCK_MESSAGES, Block, Slot};
use super::bodies::ChunkSource;
use super::head::Head;
use super::key::{self, BlockKey, QueueKey};
use super::shard::ShardEntry;
use crate::StoreError;
use crate::kv::Kv;

/// Where a chunk goes.
enum Home {
    /// Into this block.
    Block(BlockKey),
    /// Into a new block behind the newest one of its queue.
    Behind(MessageId),
    /// Into a new block before the oldest one of its queue.
    Before(MessageId),
    /// Into the first block of a new queue.
    First,
}

impl<K: Kv, C: ChunkSource> Applier<'_, K, C> {
    /// Takes a chunk in.
    pub(super) fn accept(
        &mut self,
        lsn: u64,
        len: u32,
        chunk: Arc<Chunk>,
    ) -> Result<(), StoreError> {
        let queue = QueueKey {
            instance: chunk.instance,
            queue: chunk.queue,
        };
        let (first, count, last) = (chunk.first, chunk.len(), chunk.last());
        let home = self.home(queue, first, count)?;
        let target = self.make_block(queue, &chunk, &home)?;
        let slot = new_slot(lsn, len, &chunk);
        let expires_at = chunk.earliest_expiry().unwrap_or(chunk.created_at);
        let Some(block) = self.state.block_mut(target) else {
            return Ok(());
        };
        if block.find(first).is_some() {
            return Ok(());
        }
        block.insert(slot.clone(), expires_at);
        let grown = slot.bytes();
        self.state.hot_bytes += grown;
        self.state.dirty_bytes += grown;
        self.state.index(&slot, target);
        self.state.fresh_chunks.push(ShardEntry {
            first,
            count,
            block: target,
        });
        self.count_accepted(queue, &slot, last)?;
        self.schedule_accepted(queue, &slot)?;
        let period = key::period_of(first);
        if let Entry::Vacant(vacant) = self.state.periods.entry(period) {
            vacant.insert(lsn);
            let start = Some(lsn.to_be_bytes().to_vec());
            self.state.overlay.put(key::period_start(period), start);
        }
        self.projection.bodies.keep(lsn, chunk);
        Ok(())
    }

    fn home(&mut self, queue: QueueKey, first: MessageId, count: u32) -> Result<Home, StoreError> {
        let Some(head) = self.head(queue)? else {
            return Ok(Home::First);
        };
        let (oldest, open, last) = (head.first, head.open, head.last);
        if first <= last {
            // Chunks of a queue come in the order of their ids; one that does not is put
            // where its id says.
            return Ok(match self.seek(queue, first)? {
                Some(key) => Home::Block(key),
                None => Home::Before(oldest),
            });
        }
        let key = BlockKey { queue, first: open };
        let fits = self.block(key)?.is_some_and(|block| {
            block.messages + count <= BLOCK_MESSAGES
                && key::period_of(open) == key::period_of(first)
        });
        Ok(if fits {
            Home::Block(key)
        } else {
            Home::Behind(open)
        })
    }

    /// Makes the block that a chunk goes into, if it has to be made.
    fn make_block(
        &mut self,
        queue: QueueKey,
        chunk: &Chunk,
        home: &Home,
    ) -> Result<BlockKey, StoreError> {
        let (key, account) = (
            BlockKey {
                queue,
                first: chunk.first,
            },
            chunk.account,
        );
        match *home {
            Home::Block(key) => {
                self.block(key)?;
                return Ok(key);
            }
            Home::First => {
                self.state.warm(Block::new(key, account, None));
                self.state
                    .heads
                    .insert(queue, Head::new(account, chunk.first));
            }
            Home::Behind(open) => {
                self.state.warm(Block::new(key, account, Some(open)));
                let before = BlockKey { queue, first: open };
                self.block(before)?;
                if let Some(block) = self.state.block_mut(before) {
                    block.next = Some(chunk.first);
                    block.index_dirty = true;
                }
                if let Some(head) = self.head(queue)? {
                    head.open = chunk.first;
                    head.dirty = true;
                }
            }
            Home::Before(oldest) => {
                let mut block = Block::new(key, account, None);
                block.next = Some(oldest);
                self.state.warm(block);
                let after = BlockKey {
                    queue,
                    first: oldest,
                };
                self.block(after)?;
                if let Some(block) = self.state.block_mut(after) {
                    block.prev = Some(chunk.first);
                    block.index_dirty = true;
                }
                if let Some(head) = self.head(queue)? {
                    head.first = chunk.first;
                }
            }
        }
        self.block(key)?;
        Ok(key)
    }

    fn count_accepted(
        &mut self,
        queue: QueueKey,
        slot: &Slot,
        last: MessageId,
    ) -> Result<(), StoreError> {
        let scheduled = slot.states.as_ref().map_or(0, |states| {
            states
                .iter()
                .filter(|state| state.status == Status::Scheduled)
                .count() as u64
        });
        let pending = u64::from(slot.count) - scheduled;
        let block = self.state.locate(slot.first);
        if let Some(head) = self.head(queue)? {
            let idle = head.unsettled() == 0;
            let block = block.map_or(slot.first, |key| key.first);
            if idle || block < head.low {
                head.low = block;
            }
            head.last = head.last.max(last);
            head.dirty = true;
            head.add(Status::Scheduled, scheduled);
            head.add(Status::Pending, pending);
        }
        let cell = self.cell(queue, slot.created_at.day())?;
        cell.counts[Status::Scheduled as usize] += scheduled;
        cell.counts[Status::Pending as usize] += pending;
        cell.dirty = true;
        Ok(())
    }
}

/// A chunk as a block keeps it. Nothing is kept of its messages unless some are scheduled.
fn new_slot(lsn: u64, len: u32, chunk: &Chunk) -> Slot {
    let states: Vec<MessageState> = (0..chunk.messages.len())
        .map(|index| crate::initial_state(chunk, index))
        .collect();
    let untouched = states.iter().all(|state| *state == MessageState::default());
    Slot {
        first: chunk.first,
        count: chunk.len(),
        lsn,
        len,
        created_at: chunk.created_at,
        bulk: chunk.bulk,
        seen: lsn,
        states: (!untouched).then(|| Arc::new(states)),
    }
}
