//! Lists: a page of messages over instances and queues, newest first.

use std::collections::BinaryHeap;
use std::time::Duration;

use zajil_model::id::{InstanceId, MessageId, Tick};
use zajil_model::lifecycle::Status;
use zajil_model::message::Queue;

use super::block::Slot;
use super::bodies::ChunkSource;
use super::head::Head;
use super::key::{self, BlockKey, QueueKey};
use super::mark::{Mark, effective};
use super::{Projection, disk};
use crate::StoreError;
use crate::kv::Kv;
use crate::query::{ListFilter, ListPage, ListRequest, MessageRecord};

/// How far the time of an id may lie before the time kept beside it. Ids run ahead of the wall
/// clock and never fall behind by more than the work between the two readings of a clock.
const ID_SLACK: Duration = Duration::from_secs(60);

/// One queue, walked from new to old. Ordered by the id that it comes to next.
#[derive(Debug)]
struct Walk {
    /// The next id to look at is this or lower.
    at: MessageId,
    queue: QueueKey,
    /// The block to look into; `None` until it is searched for.
    block: Option<MessageId>,
    marks: Vec<Mark>,
}

impl PartialEq for Walk {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Walk {}

impl PartialOrd for Walk {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Walk {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.queue).cmp(&(other.at, other.queue))
    }
}

/// A page that is being filled.
struct Page<'a> {
    request: &'a ListRequest,
    skipped: u64,
    messages: Vec<MessageRecord>,
    full: bool,
}

impl<K: Kv, C: ChunkSource> Projection<K, C> {
    /// A page of messages, newest first.
    pub(crate) fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        let before = request.before.unwrap_or_else(key::highest);
        let mut walks = BinaryHeap::new();
        for (queue, head) in self.listed_queues(&request.filter)? {
            if before <= head.first || !self.may_hold(queue, &request.filter)? {
                continue;
            }
            let marks = self.marks(queue.instance);
            if before > head.last {
                walks.push(Walk {
                    at: head.last,
                    queue,
                    block: Some(head.open),
                    marks,
                });
            } else if let Some(at) = before.get().checked_sub(1).and_then(MessageId::new) {
                walks.push(Walk {
                    at,
                    queue,
                    block: None,
                    marks,
                });
            }
        }
        let mut page = Page {
            request,
            skipped: 0,
            messages: Vec::new(),
            full: false,
        };
        while let Some(mut walk) = walks.pop() {
            let bound = walks.peek().map(|other| other.at);
            if self.walk(&mut walk, bound, &mut page)? {
                walks.push(walk);
            }
            if page.full {
                break;
            }
        }
        page.messages.truncate(request.limit);
        let next = page
            .messages
            .last()
            .filter(|_| page.full)
            .map(MessageRecord::id);
        Ok(ListPage {
            messages: page.messages,
            next,
        })
    }

    /// Walks a queue while nothing newer waits in another one; answers whether there is more.
    fn walk(
        &self,
        walk: &mut Walk,
        bound: Option<MessageId>,
        page: &mut Page<'_>,
    ) -> Result<bool, StoreError> {
        let from = page.request.filter.from;
        let found = match walk.block {
            Some(block) => Some(block),
            None => self.seek(walk.queue, walk.at)?,
        };
        let Some(first) = found else { return Ok(false) };
        walk.block = found;
        let Some(block) = self.block(BlockKey {
            queue: walk.queue,
            first,
        })?
        else {
            return Ok(false);
        };
        for slot in block
            .slots
            .iter()
            .rev()
            .filter(|slot| slot.first <= walk.at)
        {
            if from.is_some_and(|from| slot.last().tick() < Tick::at(from - ID_SLACK)) {
                return Ok(false);
            }
            let top = walk.at.min(slot.last());
            for index in (0..slot.count).rev() {
                let id = slot.first.plus(u64::from(index));
                if id > top {
                    continue;
                }
                if bound.is_some_and(|bound| id < bound) {
                    walk.at = id;
                    return Ok(true);
                }
                self.take(walk, slot, index, page)?;
                if page.full {
                    return Ok(false);
                }
            }
        }
        let Some(prev) = block.prev else {
            return Ok(false);
        };
        walk.block = Some(prev);
        // The block before ends somewhere below this one's beginning.
        let Some(at) = first.get().checked_sub(1).and_then(MessageId::new) else {
            return Ok(false);
        };
        walk.at = at;
        Ok(true)
    }

    /// Looks at one message.
    fn take(
        &self,
        walk: &Walk,
        slot: &Slot,
        index: u32,
        page: &mut Page<'_>,
    ) -> Result<(), StoreError> {
        let filter = &page.request.filter;
        if !slot_matches(filter, slot, walk.queue.queue) {
            return Ok(());
        }
        let wanted = |status: Status| filter.status.is_none_or(|only| only == status);
        if !wanted(effective(&walk.marks, walk.queue.queue, slot, index).status) {
            return Ok(());
        }
        let reads_body = filter.recipient.is_some() || filter.client_ref.is_some();
        let passed_over = page.skipped < page.request.skip;
        if reads_body || !passed_over {
            let record = self.record(&walk.marks, walk.queue.queue, slot, index)?;
            if !body_matches(filter, &record) {
                return Ok(());
            }
            if !passed_over {
                page.messages.push(record);
                // One more than asked for tells whether there is a next page.
                page.full = page.messages.len() > page.request.limit;
                return Ok(());
            }
        }
        page.skipped += 1;
        Ok(())
    }

    /// The queues that a filter names.
    fn listed_queues(&self, filter: &ListFilter) -> Result<Vec<(QueueKey, Head)>, StoreError> {
        let mut queues = Vec::new();
        if let Some(batch) = filter.batch {
            // A bulk request's batch id is the tick right before its first message.
            let bulk = MessageId::new(batch.plus(1).get());
            if let Some(found) = bulk.map(|id| self.locate(id)).transpose()?.flatten()
                && filter.instances.contains(&found.queue.instance)
            {
                queues.extend(self.head(found.queue)?.map(|head| (found.queue, head)));
            }
            for instance in &filter.instances {
                let queue = QueueKey {
                    instance: *instance,
                    queue: Queue::Part(batch),
                };
                queues.extend(self.head(queue)?.map(|head| (queue, head)));
            }
            queues.sort_unstable_by_key(|(key, _)| *key);
            queues.dedup_by_key(|(key, _)| *key);
            return Ok(queues);
        }
        for instance in &filter.instances {
            queues.extend(self.queues_of(*instance)?);
        }
        Ok(queues)
    }

    /// The queues of an instance.
    fn queues_of(&self, instance: InstanceId) -> Result<Vec<(QueueKey, Head)>, StoreError> {
        let hot: Vec<(QueueKey, Head)> = {
            let state = self.state.read();
            state
                .queues_of(instance)
                .map(|(key, head)| (key, head.clone()))
                .collect()
        };
        let mut heads = disk::heads(&self.kv, instance)?;
        heads.extend(hot);
        Ok(heads.into_iter().collect())
    }

    /// Whether a queue has anything in the status that a filter asks for.
    fn may_hold(&self, queue: QueueKey, filter: &ListFilter) -> Result<bool, StoreError> {
        use zajil_model::time::Day;
        let Some(status) = filter.status else {
            return Ok(true);
        };
        let days = (queue, Day(i32::MIN))..=(queue, Day(i32::MAX));
        let cells = self.cells(&key::totals_of_queue(queue), days)?;
        Ok(cells.values().any(|cell| cell.counts[status as usize] > 0))
    }
}

fn slot_matches(filter: &ListFilter, slot: &Slot, queue: Queue) -> bool {
    filter.from.is_none_or(|from| slot.created_at >= from)
        && filter.to.is_none_or(|to| slot.created_at < to)
        && filter
            .batch
            .is_none_or(|batch| queue == Queue::Part(batch) || slot.bulk == Some(batch))
}

fn body_matches(filter: &ListFilter, record: &MessageRecord) -> bool {
    let message = record.message();
    filter
        .recipient
        .is_none_or(|recipient| message.recipient == recipient)
        && filter
            .client_ref
            .as_deref()
            .is_none_or(|name| message.client_ref.as_deref() == Some(name))
}
