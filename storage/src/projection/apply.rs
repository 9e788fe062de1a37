//! How records of the log change the projection.
//!
//! One thread applies, under the write lock. What is not in memory is read with the lock let go;
//! since nobody else changes anything, what was read is still so when the lock is held again.

use std::sync::Arc;

use parking_lot::RwLockWriteGuard;
use zajil_model::id::{AccountId, InstanceId, MessageId};
use zajil_model::lifecycle::{MessageState, Outcome, Status};
use zajil_model::message::Chunk;
use zajil_model::time::{Day, Timestamp};

use super::Projection;
use super::block::{BLOCK_MESSAGES, Block, Slot};
use super::bodies::ChunkSource;
use super::disk;
use super::head::{Cell, Head};
use super::hot::State;
use super::key::{self, BlockKey, QueueKey};
use super::shard::ShardEntry;
use crate::StoreError;
use crate::codec::{Record, RowChange};
use crate::kv::Kv;
use crate::query::{Cursor, StatusChange};

/// Blocks that one settled message may move the low end of its queue past.
const LOW_STEPS: usize = 256;

/// What a change of the feed takes in memory and on disk, about.
const CHANGE_BYTES: usize = 64;

/// Applies records, with the lock held.
pub(crate) struct Applier<'a, K: Kv, C: ChunkSource> {
    pub(super) state: RwLockWriteGuard<'a, State>,
    pub(super) projection: &'a Projection<K, C>,
    /// The record that is being applied.
    record: u64,
    /// Changes that it made so far.
    within: u32,
}

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

impl<'a, K: Kv, C: ChunkSource> Applier<'a, K, C> {
    /// Takes the lock.
    pub(super) fn new(projection: &'a Projection<K, C>) -> Self {
        Self {
            state: projection.state.write(),
            projection,
            record: 0,
            within: 0,
        }
    }

    /// Applies one record, whose payload of `len` bytes is at `lsn`.
    pub(super) fn apply(&mut self, lsn: u64, len: u32, record: Record) -> Result<(), StoreError> {
        (self.record, self.within) = (lsn, 0);
        self.state.applied = lsn;
        match record {
            Record::Accept(chunk) => self.accept(lsn, len, chunk),
            Record::Outcomes(outcomes) => outcomes
                .into_iter()
                .try_for_each(|outcome| self.outcome(outcome)),
            Record::CancelAll(cancel) => self.cancel_all(lsn, &cancel),
            Record::Rows(rows) => {
                rows.into_iter().for_each(|row| self.row(row));
                Ok(())
            }
            Record::Sweep(instance) => self.sweep(instance),
            Record::Retire(period) => self.retire(period),
        }
    }

    /// Does something with the key-value store while the lock is let go.
    pub(super) fn unlocked<T>(
        &mut self,
        read: impl FnOnce(&K) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let kv = &self.projection.kv;
        RwLockWriteGuard::unlocked(&mut self.state, || read(kv))
    }

    fn row(&mut self, (row, value): RowChange) {
        self.state.overlay.put(key::row(&row), value);
    }

    fn accept(&mut self, lsn: u64, len: u32, chunk: Arc<Chunk>) -> Result<(), StoreError> {
        let queue = QueueKey {
            instance: chunk.instance,
            queue: chunk.queue,
        };
        let (first, count, last) = (chunk.first, chunk.len(), chunk.last());
        let home = self.home(queue, first, count)?;
        let target = self.make_block(queue, &chunk, &home)?;
        let slot = new_slot(lsn, len, &chunk);
        let Some(block) = self.state.block_mut(target) else {
            return Ok(());
        };
        if block.find(first).is_some() {
            return Ok(());
        }
        let before = block.bytes();
        block.insert(slot.clone());
        let grown = block.bytes() - before;
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
        if !self.state.periods.contains_key(&period) {
            self.state.periods.insert(period, lsn);
            self.state
                .overlay
                .put(key::period_start(period), Some(lsn.to_be_bytes().to_vec()));
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

    fn outcome(&mut self, outcome: Outcome) -> Result<(), StoreError> {
        let Some(key) = self.locate(outcome.id)? else {
            return Ok(());
        };
        let Some((place, index)) = self.block(key)?.and_then(|block| block.find(outcome.id)) else {
            return Ok(());
        };
        if self.state.marks.contains_key(&key.queue.instance) {
            self.materialize(key, place)?;
            self.block(key)?;
        }
        let Some(hot) = self.state.blocks.get(&key) else {
            return Ok(());
        };
        let (account, slot) = (hot.block.account, &hot.block.slots[place]);
        let (chunk, day, before) = (slot.first, slot.created_at.day(), slot.state(index));
        let untouched = slot.states.is_none();
        let mut after = before;
        after.apply(outcome.event, outcome.at);
        if after == before {
            return Ok(());
        }
        if untouched {
            let grown = slot.count as usize * size_of::<MessageState>();
            self.state.hot_bytes += grown;
            self.state.dirty_bytes += grown;
        }
        let settled = !before.status.is_settled() && after.status.is_settled();
        let Some(block) = self.state.block_mut(key) else {
            return Ok(());
        };
        block.slots[place].states_mut()[index as usize] = after;
        block.states_dirty = true;
        block.unsettled = block.unsettled.saturating_sub(u32::from(settled));
        if after.status != before.status {
            self.shift(key.queue, day, before.status, after.status)?;
            self.told(account, outcome.id, after.status, outcome.at);
        }
        self.reschedule(key.queue.instance, chunk, outcome.id, before, after)?;
        if settled {
            self.settle_block(key)
        } else {
            Ok(())
        }
    }

    fn shift(
        &mut self,
        queue: QueueKey,
        day: Day,
        from: Status,
        to: Status,
    ) -> Result<(), StoreError> {
        if let Some(head) = self.head(queue)? {
            head.sub(from, 1);
            head.add(to, 1);
        }
        self.cell(queue, day)?.shift(from, to, 1);
        Ok(())
    }

    /// Puts a change into the feed.
    pub(super) fn told(
        &mut self,
        account: AccountId,
        id: MessageId,
        status: Status,
        at: Timestamp,
    ) {
        let place = Cursor {
            record: self.record,
            within: self.within,
        };
        self.within += 1;
        self.state.dirty_bytes += CHANGE_BYTES;
        let change = StatusChange { id, status, at };
        self.state
            .feed
            .entry(account)
            .or_default()
            .push((place, change));
    }

    /// Moves the low end of a queue up when its lowest block is settled.
    pub(super) fn settle_block(&mut self, key: BlockKey) -> Result<(), StoreError> {
        if self.block(key)?.is_none_or(|block| block.unsettled > 0) {
            return Ok(());
        }
        let Some(head) = self.head(key.queue)? else {
            return Ok(());
        };
        if head.unsettled() == 0 {
            head.low = head.open;
            head.dirty = true;
            return Ok(());
        }
        if head.low != key.first {
            return Ok(());
        }
        let mut low = key.first;
        for _ in 0..LOW_STEPS {
            let block = self.block(BlockKey {
                queue: key.queue,
                first: low,
            })?;
            let Some(block) = block.filter(|block| block.unsettled == 0) else {
                break;
            };
            let Some(next) = block.next else { break };
            low = next;
        }
        if let Some(head) = self.head(key.queue)? {
            head.low = low;
            head.dirty = true;
        }
        Ok(())
    }

    /// The block that holds an id.
    fn locate(&mut self, id: MessageId) -> Result<Option<BlockKey>, StoreError> {
        if let Some(key) = self.state.locate(id) {
            return Ok(Some(key));
        }
        let key = self.unlocked(|kv| super::shard::locate(kv, id))?;
        Ok(key.filter(|key| key::period_of(key.first) >= self.state.retired))
    }

    /// The block of a queue that begins at an id or before.
    fn seek(&mut self, queue: QueueKey, upto: MessageId) -> Result<Option<BlockKey>, StoreError> {
        let from = BlockKey {
            queue,
            first: key::lowest(),
        };
        let to = BlockKey { queue, first: upto };
        let hot = self
            .state
            .blocks
            .range(from..=to)
            .next_back()
            .map(|(key, _)| *key);
        let cold = self.unlocked(|kv| disk::seek(kv, queue, upto))?;
        Ok(hot.max(cold))
    }

    /// A block, brought into memory.
    pub(super) fn block(&mut self, key: BlockKey) -> Result<Option<Arc<Block>>, StoreError> {
        let applied = self.state.applied;
        if let Some(hot) = self.state.blocks.get_mut(&key) {
            hot.touched = applied;
            return Ok(Some(Arc::clone(&hot.block)));
        }
        if key::period_of(key.first) < self.state.retired {
            return Ok(None);
        }
        let Some(block) = self.unlocked(|kv| disk::block(kv, key))? else {
            return Ok(None);
        };
        self.state.warm(block.clone());
        Ok(Some(Arc::new(block)))
    }

    /// The head of a queue, brought into memory.
    pub(super) fn head(&mut self, key: QueueKey) -> Result<Option<&mut Head>, StoreError> {
        if !self.state.heads.contains_key(&key) {
            if self.is_deleted(&key::head(key)) {
                return Ok(None);
            }
            let Some(head) = self.unlocked(|kv| disk::head(kv, key))? else {
                return Ok(None);
            };
            self.state.heads.insert(key, head);
        }
        Ok(self.state.heads.get_mut(&key))
    }

    /// The counts of a day of a queue, brought into memory.
    pub(super) fn cell(&mut self, queue: QueueKey, day: Day) -> Result<&mut Cell, StoreError> {
        if !self.state.cells.contains_key(&(queue, day)) {
            let known = match self.is_deleted(&key::totals(queue, day)) {
                true => None,
                false => self.unlocked(|kv| disk::cell(kv, queue, day))?,
            };
            let cell = known.unwrap_or_default();
            self.state.cells.insert((queue, day), cell);
        }
        Ok(self.state.cells.entry((queue, day)).or_default())
    }

    /// Whether a key of the main space was deleted since the last flush.
    fn is_deleted(&self, key: &[u8]) -> bool {
        self.state.overlay.get(key) == Some(None)
    }

    /// The days of a queue that have counts.
    pub(super) fn days_of(&mut self, queue: QueueKey) -> Result<Vec<Day>, StoreError> {
        let mut days = self.unlocked(|kv| disk::cells(kv, &key::totals_of_queue(queue)))?;
        let span = (queue, Day(i32::MIN))..=(queue, Day(i32::MAX));
        days.extend(
            self.state
                .cells
                .range(span)
                .map(|(key, cell)| (*key, *cell)),
        );
        Ok(days.into_keys().map(|(_, day)| day).collect())
    }

    /// The queues of an instance.
    pub(super) fn queues_of(&mut self, instance: InstanceId) -> Result<Vec<QueueKey>, StoreError> {
        let mut queues = self.unlocked(|kv| disk::heads(kv, instance))?;
        queues.extend(
            self.state
                .queues_of(instance)
                .map(|(key, head)| (key, head.clone())),
        );
        Ok(queues.into_keys().collect())
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
