//! What dispatchers ask: the messages of a queue in order, and those whose time has come.

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::lifecycle::Status;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use super::bodies::{ChunkSource, bytes_of};
use super::head::Head;
use super::key::{self, BlockKey, QueueKey};
use super::mark::effective_all;
use super::read::{SCAN_STEP, after};
use super::{Projection, disk, schedule};
use crate::kv::{Direction, Kv};
use crate::query::MessageRecord;
use crate::{Expiring, QueuedChunk, StoreError};

/// Which chunks of a queue are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Those with something to send.
    Ready,
    /// Each of them.
    All,
}

impl<K: Kv, C: ChunkSource> Projection<K, C> {
    /// Chunks of a queue that hold something to send, after an id.
    pub(crate) fn queued(
        &self,
        queue: QueueKey,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        let Some(head) = self.head(queue)?.filter(|head| head.unsettled() > 0) else {
            return Ok((Vec::new(), None));
        };
        let first = self.start(queue, &head, after)?;
        let part = (after, max_messages, max_bytes);
        self.chunks_from(queue, first, part, Wanted::Ready)
    }

    /// Every chunk of a queue, after an id.
    pub(crate) fn chunks(
        &self,
        queue: QueueKey,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        let Some(mut head) = self.head(queue)? else {
            return Ok((Vec::new(), None));
        };
        let Some(oldest) = self.oldest(queue, &head)? else {
            return Ok((Vec::new(), None));
        };
        head.low = oldest;
        let first = self.start(queue, &head, after)?;
        let part = (after, max_messages, max_bytes);
        self.chunks_from(queue, first, part, Wanted::All)
    }

    /// Chunks from a block on: after an id, so many messages and bytes.
    fn chunks_from(
        &self,
        queue: QueueKey,
        first: MessageId,
        (after, max_messages, max_bytes): (Option<MessageId>, usize, usize),
        wanted: Wanted,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        let marks = self.marks(queue.instance);
        let mut next = Some(first);
        let mut found: Vec<QueuedChunk> = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        while let Some(first) = next {
            let Some(block) = self.block(BlockKey { queue, first })? else {
                break;
            };
            next = block.next;
            if block.unsettled == 0 && wanted == Wanted::Ready {
                continue;
            }
            for slot in block
                .slots
                .iter()
                .filter(|slot| after.is_none_or(|id| slot.last() > id))
            {
                let states = effective_all(&marks, queue.queue, slot);
                let is_ready = |status| matches!(status, Status::Pending | Status::Processing);
                if wanted == Wanted::Ready && !states.iter().any(|state| is_ready(state.status)) {
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

    /// Where messages of a queue that are not settled expire, a block a stretch.
    pub(crate) fn expiries(
        &self,
        queue: QueueKey,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<(Vec<Expiring>, Option<MessageId>), StoreError> {
        let Some(head) = self.head(queue)?.filter(|head| head.unsettled() > 0) else {
            return Ok((Vec::new(), None));
        };
        let mut next = Some(self.start(queue, &head, after)?);
        let mut found = Vec::new();
        for _ in 0..limit {
            let Some(first) = next else { break };
            let Some(block) = self.block(BlockKey { queue, first })? else {
                return Ok((found, None));
            };
            next = block.next;
            let last = block.last();
            if block.unsettled > 0 && after.is_none_or(|id| last > id) {
                found.push(Expiring {
                    first,
                    last,
                    at: block.expires_at,
                });
            }
        }
        let more = next.and_then(|first| MessageId::new(first.get().saturating_sub(1)));
        Ok((found, more))
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

    /// Messages whose time in the schedule has come, and the earliest time of the others.
    pub(crate) fn scheduled(
        &self,
        instance: InstanceId,
        until: Timestamp,
        limit: usize,
    ) -> Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError> {
        let mut found = Vec::new();
        let mut span = key::dues(instance);
        let (entered, from) = {
            let state = self.state.read();
            (state.scheduled, state.due_from.get(&instance).copied())
        };
        if let Some(from) = from {
            span.from = key::due(instance, from.at, key::lowest());
        }
        let mut first = None;
        let next = loop {
            let pairs = self.scan(&span, Direction::Up, SCAN_STEP)?;
            let Some((last, _)) = pairs.last() else {
                break None;
            };
            span.from = after(last);
            if let Some(next) = self.take_due(pairs, until, limit, &mut found, &mut first)? {
                break Some(next);
            }
        };
        if let Some(first) = first {
            let mut state = self.state.write();
            // What came in meanwhile may be due before.
            if state.scheduled == entered {
                state.schedule_begins(instance, first);
            }
        }
        Ok((found, next))
    }

    /// Takes what is due of a stretch of a schedule; answers when the next is, if that is later or
    /// too much. `first` is told when the first of it is due.
    fn take_due(
        &self,
        pairs: Vec<(Vec<u8>, Vec<u8>)>,
        until: Timestamp,
        limit: usize,
        found: &mut Vec<MessageRecord>,
        first: &mut Option<Timestamp>,
    ) -> Result<Option<Timestamp>, StoreError> {
        for (name, places) in pairs {
            let (due, chunk) = key::read_due(&name).ok_or_else(|| disk::corrupt("schedule"))?;
            first.get_or_insert(due);
            for place in schedule::decode(&places)? {
                let id = chunk.plus(u64::from(place));
                let Some(record) = self.waiting_for(id, due)? else {
                    continue;
                };
                if due > until || found.len() >= limit {
                    return Ok(Some(due));
                }
                found.push(record);
            }
        }
        Ok(None)
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
