//! What the port asks of single messages, queues, the schedule and the feed.
//!
//! A read takes what it needs from memory under the read lock, lets go of it, and only then
//! goes to the key-value store or the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use zajil_model::id::{AccountId, BatchId, InstanceId, MessageId};
use zajil_model::lifecycle::Status;
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::{Day, Timestamp};

use super::block::{Block, Slot};
use super::bodies::{ChunkSource, bytes_of};
use super::cancel::{Mark, effective, effective_all};
use super::head::{Cell, Head};
use super::key::{self, BlockKey, QueueKey};
use super::{Projection, disk, feed, schedule, shard};
use crate::kv::{Direction, Kv, Space, Span};
use crate::query::{ChangePage, Cursor, MessageRecord, Totals, TotalsFilter};
use crate::{QueuedChunk, Row, RowKey, StoreError, Table, Work};

/// Keys that one step of a scan takes from memory and from the key-value store at most.
const SCAN_STEP: usize = 256;

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

    /// Chunks of a queue that hold something to send, after an id.
    pub(crate) fn queued(
        &self,
        queue: QueueKey,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        let marks = self.marks(queue.instance);
        let Some(head) = self.head(queue)? else {
            return Ok((Vec::new(), None));
        };
        if head.unsettled() == 0 {
            return Ok((Vec::new(), None));
        }
        let mut next = Some(self.start(queue, &head, after)?);
        let mut found: Vec<QueuedChunk> = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        while let Some(first) = next {
            let Some(block) = self.block(BlockKey { queue, first })? else {
                break;
            };
            next = block.next;
            if block.unsettled == 0 {
                continue;
            }
            for slot in block
                .slots
                .iter()
                .filter(|slot| after.is_none_or(|id| slot.last() > id))
            {
                let states = effective_all(&marks, queue.queue, slot);
                let is_ready = |status| matches!(status, Status::Pending | Status::Processing);
                if !states.iter().any(|state| is_ready(state.status)) {
                    continue;
                }
                let chunk = self.bodies.get(slot.lsn, slot.len)?;
                messages += states.len();
                bytes += bytes_of(&chunk);
                if let Some(last) = found.last()
                    && (messages > max_messages || bytes > max_bytes)
                {
                    let last = last.chunk.last();
                    return Ok((found, Some(last)));
                }
                found.push(QueuedChunk { chunk, states });
            }
        }
        Ok((found, None))
    }

    /// The block of a queue from which to go on after an id.
    fn start(
        &self,
        queue: QueueKey,
        head: &Head,
        after: Option<MessageId>,
    ) -> Result<MessageId, StoreError> {
        let Some(after) = after else {
            return Ok(head.low);
        };
        let known = self.locate(after)?.filter(|key| key.queue == queue);
        let found = match known {
            Some(key) => Some(key.first),
            None => self.seek(queue, after)?,
        };
        Ok(found.map_or(head.low, |first| first.max(head.low)))
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

    /// Messages whose time in the schedule has come, and the earliest time of the others.
    pub(crate) fn scheduled(
        &self,
        instance: InstanceId,
        until: Timestamp,
        limit: usize,
    ) -> Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError> {
        let mut found = Vec::new();
        let mut span = key::dues(instance);
        loop {
            let pairs = self.scan(&span, Direction::Up, SCAN_STEP)?;
            let Some((last, _)) = pairs.last() else {
                return Ok((found, None));
            };
            span.from = after(last);
            for (name, places) in pairs {
                let (due, chunk) = key::read_due(&name).ok_or_else(|| disk::corrupt("schedule"))?;
                for place in schedule::decode(&places)? {
                    let id = chunk.plus(u64::from(place));
                    let Some(record) = self.waiting_for(id, due)? else {
                        continue;
                    };
                    if due > until || found.len() >= limit {
                        return Ok((found, Some(due)));
                    }
                    found.push(record);
                }
            }
        }
    }

    /// A message, if it still waits for this time.
    fn waiting_for(
        &self,
        id: MessageId,
        due: Timestamp,
    ) -> Result<Option<MessageRecord>, StoreError> {
        let record = self.message(id)?;
        Ok(record.filter(|record| {
            record.state.status == Status::Scheduled && record.state.next_at == Some(due)
        }))
    }

    /// Every queue with something unsettled.
    pub(crate) fn work(&self) -> Vec<Work> {
        let state = self.state.read();
        let live = state.heads.iter().filter(|(_, head)| head.unsettled() > 0);
        live.map(|(key, head)| Work {
            instance: key.instance,
            queue: key.queue,
            unsettled: head.unsettled(),
        })
        .collect()
    }

    /// The counts of a span, by queue and day.
    pub(super) fn cells(
        &self,
        span: &Span,
        hot: std::ops::RangeInclusive<(QueueKey, Day)>,
    ) -> Result<BTreeMap<(QueueKey, Day), Cell>, StoreError> {
        let (hot, deleted) = {
            let state = self.state.read();
            let hot: Vec<_> = state
                .cells
                .range(hot)
                .map(|(key, cell)| (*key, *cell))
                .collect();
            let changes = state
                .overlay
                .stretch(span, Direction::Up, usize::MAX - 1)
                .changes;
            let gone = changes.into_iter().filter(|(_, value)| value.is_none());
            (
                hot,
                gone.filter_map(|(key, _)| key::read_totals(&key))
                    .collect::<Vec<_>>(),
            )
        };
        let mut cells = disk::cells(&self.kv, span)?;
        cells.retain(|key, _| !deleted.contains(key));
        cells.extend(hot);
        Ok(cells)
    }

    /// Exact counts by status.
    pub(crate) fn totals(&self, filter: &TotalsFilter) -> Result<Totals, StoreError> {
        let mut totals = Totals::default();
        for instance in &filter.instances {
            let instance = *instance;
            let (span, first, last) = match filter.batch {
                Some(batch) => {
                    let queue = QueueKey {
                        instance,
                        queue: Queue::Part(batch),
                    };
                    (key::totals_of_queue(queue), queue, queue)
                }
                None => {
                    let newest = BatchId::new(key::highest().get()).expect("below the limit");
                    let first = QueueKey {
                        instance,
                        queue: Queue::High,
                    };
                    let last = QueueKey {
                        instance,
                        queue: Queue::Part(newest),
                    };
                    (key::totals_of_instance(instance), first, last)
                }
            };
            let cells = self.cells(&span, (first, Day(i32::MIN))..=(last, Day(i32::MAX)))?;
            let mut sum = [0; Status::COUNT];
            for ((_, day), cell) in cells {
                let inside = filter.from.is_none_or(|from| day >= from)
                    && filter.to.is_none_or(|to| day < to);
                if inside {
                    sum.iter_mut()
                        .zip(cell.counts)
                        .for_each(|(sum, count)| *sum += count);
                }
            }
            if sum.iter().any(|count| *count > 0) {
                totals
                    .all
                    .iter_mut()
                    .zip(sum)
                    .for_each(|(all, count)| *all += count);
                totals.by_instance.push((instance, sum));
            }
        }
        Ok(totals)
    }

    /// Changes of an account from a place on.
    pub(crate) fn changes(
        &self,
        account: AccountId,
        from: Option<Cursor>,
        limit: usize,
    ) -> Result<ChangePage, StoreError> {
        let start = from.unwrap_or_default();
        let mut fresh = Vec::new();
        {
            let state = self.state.read();
            for source in [state.frozen_feed.get(&account), state.feed.get(&account)] {
                let changes = source.map_or(&[][..], Vec::as_slice);
                let begin = changes.partition_point(|(place, _)| *place < start);
                fresh.extend(changes[begin..].iter().take(limit - fresh.len().min(limit)));
            }
        }
        let below = fresh.first().map(|(place, _)| *place);
        let mut changes = feed::read(&self.kv, account, start, below, limit)?;
        changes.extend(fresh);
        changes.truncate(limit);
        let next = changes.last().map(|(place, _)| Cursor {
            record: place.record,
            within: place.within + 1,
        });
        Ok(ChangePage {
            changes: changes.into_iter().map(|(_, change)| change).collect(),
            next: next.or(from),
        })
    }

    /// Recipients of a part, in order of acceptance, after an id.
    pub(crate) fn recipients(
        &self,
        queue: QueueKey,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<(MessageId, Phone)>, StoreError> {
        let Some(mut head) = self.head(queue)? else {
            return Ok(Vec::new());
        };
        head.low = head.first;
        let mut next = Some(self.start(queue, &head, after)?);
        let mut found = Vec::new();
        while let Some(first) = next {
            let Some(block) = self.block(BlockKey { queue, first })? else {
                break;
            };
            next = block.next;
            for slot in block
                .slots
                .iter()
                .filter(|slot| after.is_none_or(|id| slot.last() > id))
            {
                let chunk = self.bodies.get(slot.lsn, slot.len)?;
                for (index, message) in chunk.messages.iter().enumerate() {
                    let id = chunk.id(index);
                    if after.is_none_or(|after| id > after) {
                        found.push((id, message.recipient));
                    }
                }
                if found.len() >= limit {
                    found.truncate(limit);
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }
}

/// The lowest key above this one.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
