//! What the port asks of rows and single messages.
//!
//! A read takes what it needs from memory under the read lock, lets go of it, and only then
//! goes to the key-value store or the log.

use std::sync::Arc;

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::message::Queue;

use super::block::{Block, Slot};
use super::bodies::ChunkSource;
use super::head::Head;
use super::key::{self, BlockKey, QueueKey};
use super::mark::{Mark, effective};
use super::{Projection, disk, shard};
use crate::kv::{Direction, Kv, Space, Span};
use crate::query::MessageRecord;
use crate::{Row, RowKey, StoreError, Table};

/// Keys that one step of a scan takes from memory and from the key-value store at most.
pub(super) const SCAN_STEP: usize = 256;

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

impl<K: Kv, C: ChunkSource> Projection<K, C> {
    /// A key of the main space.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(known) = self.state.read().overlay.get(key) {
            return Ok(known.cloned());
        }
        self.kv.get(Space::Main, key)
    }

    /// The first `limit` keys of a span of the main space.
    pub(super) fn scan(
        &self,
        span: &Span,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let mut found: Vec<Pair> = Vec::new();
        let mut rest = span.clone();
        while found.len() < limit && rest.from < rest.to {
            let wanted = (limit - found.len()).min(SCAN_STEP);
            let stretch = self.state.read().overlay.stretch(&rest, direction, wanted);
            let mut part = rest.clone();
            match (&stretch.cut, direction) {
                (None, _) => {}
                (Some(cut), Direction::Up) => part.to.clone_from(cut),
                (Some(cut), Direction::Down) => part.from = after(cut),
            }
            let mut merged = stretch.changes;
            let stored = self.stored(&part, direction, wanted)?;
            // What the key-value store holds beyond its last answer is not known, so the step
            // ends there.
            if stored.len() == wanted
                && let Some((last, _)) = stored.last()
            {
                match direction {
                    Direction::Up => part.to = after(last),
                    Direction::Down => part.from.clone_from(last),
                }
            }
            for (key, value) in stored {
                merged.entry(key).or_insert(Some(value));
            }
            merged.retain(|key, _| *key >= part.from && *key < part.to);
            let live = merged
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)));
            match direction {
                Direction::Up => {
                    found.extend(live);
                    rest.from = part.to;
                }
                Direction::Down => {
                    found.extend(live.rev());
                    rest.to = part.from;
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    fn stored(
        &self,
        span: &Span,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let mut pairs = Vec::new();
        self.kv
            .scan(Space::Main, span, direction, &mut |key, value| {
                pairs.push((key.to_vec(), value.to_vec()));
                if pairs.len() < limit {
                    std::ops::ControlFlow::Continue(())
                } else {
                    std::ops::ControlFlow::Break(())
                }
            })?;
        Ok(pairs)
    }

    /// A row of the port.
    pub(crate) fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let value = self.get(&key::row(key))?;
        Ok(value.map(|value| Row {
            key: key.clone(),
            value,
        }))
    }

    /// Rows of a partition, in order.
    pub(crate) fn rows(
        &self,
        table: Table,
        partition: &[u8],
        start: Option<&[u8]>,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Row>, StoreError> {
        let prefix = key::partition(table, partition);
        let mut span = Span::prefix(&prefix);
        if let Some(start) = start {
            let edge = [prefix.as_slice(), start].concat();
            match direction {
                Direction::Up => span.from = after(&edge),
                Direction::Down => span.to = edge,
            }
        }
        let pairs = self.scan(&span, direction, limit)?;
        let row = |(key, value): Pair| Row {
            key: RowKey::new(table, partition, &key[prefix.len()..]),
            value,
        };
        Ok(pairs.into_iter().map(row).collect())
    }

    /// The block that holds an id.
    pub(super) fn locate(&self, id: MessageId) -> Result<Option<BlockKey>, StoreError> {
        let retired = {
            let state = self.state.read();
            if let Some(key) = state.locate(id) {
                return Ok(Some(key));
            }
            state.retired
        };
        let key = shard::locate(&self.kv, id)?;
        Ok(key.filter(|key| key::period_of(key.first) >= retired))
    }

    /// A block, from memory or from the key-value store.
    pub(super) fn block(&self, key: BlockKey) -> Result<Option<Arc<Block>>, StoreError> {
        {
            let state = self.state.read();
            if let Some(hot) = state.blocks.get(&key) {
                return Ok(Some(Arc::clone(&hot.block)));
            }
            if key::period_of(key.first) < state.retired {
                return Ok(None);
            }
        }
        Ok(disk::block(&self.kv, key)?.map(Arc::new))
    }

    /// The mass cancels of an instance that are not in every state yet.
    pub(super) fn marks(&self, instance: InstanceId) -> Vec<Mark> {
        self.state.read().marks_of(instance).to_vec()
    }

    /// The head of a queue.
    pub(super) fn head(&self, key: QueueKey) -> Result<Option<Head>, StoreError> {
        if let Some(head) = self.state.read().heads.get(&key) {
            return Ok(Some(head.clone()));
        }
        self.get(&key::head(key))?
            .map(|bytes| Head::decode(&bytes))
            .transpose()
    }

    /// A message of a block as the port answers it.
    pub(super) fn record(
        &self,
        marks: &[Mark],
        queue: Queue,
        slot: &Slot,
        index: u32,
    ) -> Result<MessageRecord, StoreError> {
        let state = effective(marks, queue, slot, index);
        Ok(MessageRecord {
            chunk: self.bodies.get(slot.lsn, slot.len)?,
            index,
            state,
        })
    }

    /// A message with its state.
    pub(crate) fn message(&self, id: MessageId) -> Result<Option<MessageRecord>, StoreError> {
        let Some(key) = self.locate(id)? else {
            return Ok(None);
        };
        // Marks are taken first: one that is written into the states meanwhile is seen twice,
        // which changes nothing, and never not at all.
        let marks = self.marks(key.queue.instance);
        let Some(block) = self.block(key)? else {
            return Ok(None);
        };
        let Some((place, index)) = block.find(id) else {
            return Ok(None);
        };
        self.record(&marks, key.queue.queue, &block.slots[place], index)
            .map(Some)
    }

    /// The block of a queue that begins at an id or before.
    pub(super) fn seek(
        &self,
        queue: QueueKey,
        upto: MessageId,
    ) -> Result<Option<MessageId>, StoreError> {
        let from = BlockKey {
            queue,
            first: key::lowest(),
        };
        let to = BlockKey { queue, first: upto };
        let hot = {
            let state = self.state.read();
            let hot = state.blocks.range(from..=to).next_back();
            hot.map(|(key, hot)| (key.first, hot.block.next))
        };
        // A hot block whose next one begins above is the one; nothing else can be between.
        if let Some((first, next)) = hot
            && next.is_none_or(|next| next > upto)
        {
            return Ok(Some(first));
        }
        let cold = disk::seek(&self.kv, queue, upto)?.map(|key| key.first);
        Ok(cold.max(hot.map(|(first, _)| first)))
    }
}

/// The lowest key above this one.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
