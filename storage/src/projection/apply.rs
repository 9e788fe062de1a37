//! How records of the log change the projection.
//!
//! One thread applies, under the write lock. What is not in memory is read with the lock let go;
//! since nobody else changes anything, what was read is still so when the lock is held again.

use parking_lot::RwLockWriteGuard;
use zajil_model::id::{AccountId, MessageId};
use zajil_model::lifecycle::{MessageState, Outcome, Status};
use zajil_model::time::{Day, Timestamp};

use super::Projection;
use super::bodies::ChunkSource;
use super::hot::{State, Teller};
use super::key::{self, BlockKey, QueueKey};
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
            Record::Known(states) => states
                .into_iter()
                .try_for_each(|(id, known)| self.known(id, known)),
            Record::Told(account, changes) => {
                self.told_before(account, changes);
                Ok(())
            }
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

    fn outcome(&mut self, outcome: Outcome) -> Result<(), StoreError> {
        let changed = self.change(outcome.id, |state| {
            state.apply(outcome.event, outcome.at);
        })?;
        if let Some((account, status)) = changed {
            self.told(account, outcome.id, status, outcome.at);
        }
        Ok(())
    }

    /// Changes what is known of a message, and what follows from it; answers whose it is and its
    /// new status, if that is another one.
    pub(super) fn change(
        &mut self,
        id: MessageId,
        change: impl FnOnce(&mut MessageState),
    ) -> Result<Option<(AccountId, Status)>, StoreError> {
        let Some(key) = self.locate(id)? else {
            return Ok(None);
        };
        let Some((place, index)) = self.block(key)?.and_then(|block| block.find(id)) else {
            return Ok(None);
        };
        if self.state.marks.contains_key(&key.queue.instance) {
            self.materialize(key, place)?;
            self.block(key)?;
        }
        let Some(hot) = self.state.blocks.get(&key) else {
            return Ok(None);
        };
        let (account, slot) = (hot.block.account, &hot.block.slots[place]);
        let (chunk, day, before) = (slot.first, slot.created_at.day(), slot.state(index));
        let untouched = slot.states.is_none();
        let mut after = before;
        change(&mut after);
        if after == before {
            return Ok(None);
        }
        if untouched {
            let grown = slot.count as usize * size_of::<MessageState>();
            self.state.hot_bytes += grown;
            self.state.dirty_bytes += grown;
        }
        let settled = !before.status.is_settled() && after.status.is_settled();
        let Some(block) = self.state.block_mut(key) else {
            return Ok(None);
        };
        block.slots[place].states_mut()[index as usize] = after;
        block.states_dirty = true;
        block.unsettled = block.unsettled.saturating_sub(u32::from(settled));
        let is_other = after.status != before.status;
        if is_other {
            self.shift(key.queue, day, before.status, after.status)?;
        }
        self.reschedule(key.queue.instance, chunk, id, before, after)?;
        if settled {
            self.settle_block(key)?;
        }
        Ok(is_other.then_some((account, after.status)))
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
        let place = self.next_place();
        self.place(account, place, StatusChange { id, status, at });
    }

    /// The last record of the feed of an account.
    pub(super) fn last_told(&self, account: AccountId) -> u64 {
        let teller = self.state.tellers.get(&account);
        teller.map_or(0, |teller| teller.last)
    }

    /// The place of the next change that the record makes.
    pub(super) fn next_place(&mut self) -> Cursor {
        let place = Cursor {
            record: self.record,
            within: self.within,
        };
        self.within += 1;
        place
    }

    /// The record that is being applied.
    pub(super) const fn record(&self) -> u64 {
        self.record
    }

    /// Puts a change at a place of the feed, behind all that is in it.
    pub(super) fn place(&mut self, account: AccountId, place: Cursor, change: StatusChange) {
        self.state.dirty_bytes += CHANGE_BYTES;
        if let Some(teller) = self.state.tellers.get_mut(&account) {
            teller.last = place.record;
        } else {
            let first = Some(place.record.to_be_bytes().to_vec());
            self.state.overlay.put(key::teller(account), first);
            let teller = Teller {
                first: place.record,
                last: place.record,
            };
            self.state.tellers.insert(account, teller);
        }
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
}
