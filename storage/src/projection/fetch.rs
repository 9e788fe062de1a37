//! What applying needs, brought into memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::time::Day;

use super::apply::Applier;
use super::block::Block;
use super::bodies::ChunkSource;
use super::head::{Cell, Head};
use super::key::{self, BlockKey, QueueKey};
use super::{disk, shard};
use crate::StoreError;
use crate::kv::Kv;

impl<K: Kv, C: ChunkSource> Applier<'_, K, C> {
    /// The block that holds an id.
    pub(super) fn locate(&mut self, id: MessageId) -> Result<Option<BlockKey>, StoreError> {
        if let Some(key) = self.state.locate(id) {
            return Ok(Some(key));
        }
        let key = self.unlocked(|kv| shard::locate(kv, id))?;
        Ok(key.filter(|key| key::period_of(key.first) >= self.state.retired))
    }

    /// The block of a queue that begins at an id or before.
    pub(super) fn seek(
        &mut self,
        queue: QueueKey,
        upto: MessageId,
    ) -> Result<Option<BlockKey>, StoreError> {
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
        let span = (queue, Day(i32::MIN))..=(queue, Day(i32::MAX));
        // First what is in memory: during the scan a flush may write it, and let it go.
        let cells = self.state.cells.range(span);
        let mut days: BTreeSet<Day> = cells.map(|((_, day), _)| *day).collect();
        let written = self.unlocked(|kv| disk::cells(kv, &key::totals_of_queue(queue)))?;
        days.extend(written.into_keys().map(|(_, day)| day));
        Ok(days.into_iter().collect())
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

#[cfg(test)]
mod tests;
