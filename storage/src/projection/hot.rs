//! What the projection holds in memory: hot blocks, heads and counts, and what the next flush
//! has to write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use zajil_model::id::{AccountId, InstanceId, MessageId, Shard};
use zajil_model::message::Queue;
use zajil_model::time::{Day, Timestamp};

use super::Budgets;
use super::block::{Block, Slot};
use super::feed::{Outdated, Placed};
use super::head::{Cell, Head};
use super::key::{self, BlockKey, QueueKey};
use super::mark::Mark;
use super::overlay::Overlay;
use super::shard::ShardEntry;

/// Hot blocks may exceed their budget by this share (an eighth) before some are forgotten.
const EVICT_SLACK: usize = 8;

/// Blocks that are forgotten at once: whoever holds the lock keeps everybody waiting, and a block of
/// single messages takes a twentieth of a millisecond. An append brings less most of the time.
const COOLED_AT_ONCE: usize = 4;

/// Where a schedule begins is written again when it moved on by this much: what a start looks
/// through in vain.
const DUE_NOTED: Duration = Duration::from_secs(600);

/// A block in memory.
#[derive(Debug)]
pub(crate) struct Hot {
    /// The block.
    pub(crate) block: Arc<Block>,
    /// The record of the log that last needed it.
    pub(crate) touched: u64,
}

/// Changes of each account.
pub(crate) type Feeds = FxHashMap<AccountId, Vec<Placed>>;

/// Where the changes of an account are, by record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Teller {
    /// Every row of the feed before the one that begins here is gone.
    pub(crate) first: u64,
    /// None is after this one.
    pub(crate) last: u64,
}

/// Where the schedule of an instance begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DueFrom {
    /// Nothing is due before.
    pub(crate) at: Timestamp,
    /// What is written of that.
    pub(crate) written: Timestamp,
}

/// The memory of a projection.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The last record of the log that is applied.
    pub(crate) applied: u64,
    /// Where a replay begins: the end of the last group that is applied as a whole.
    pub(crate) position: u64,
    /// Hot blocks.
    pub(crate) blocks: BTreeMap<BlockKey, Hot>,
    /// Their chunks, by shard and first id.
    pub(crate) chunks: FxHashMap<Shard, BTreeMap<MessageId, BlockKey>>,
    /// About what hot blocks take, in bytes.
    pub(crate) hot_bytes: usize,
    /// At what number of hot bytes it is worth to look for some to forget.
    pub(crate) evict_at: usize,
    /// Blocks to forget, the one that was not needed for longest last, and when each was needed.
    outdated: Vec<(u64, BlockKey)>,
    /// Blocks to write.
    pub(crate) dirty_blocks: Vec<BlockKey>,
    /// Heads in memory: all with unsettled messages, and some idle ones.
    pub(crate) heads: BTreeMap<QueueKey, Head>,
    /// Counts in memory.
    pub(crate) cells: BTreeMap<(QueueKey, Day), Cell>,
    /// Mass cancels that are not in every state yet.
    pub(crate) marks: FxHashMap<InstanceId, Vec<Mark>>,
    /// Chunks that are not in the index by shard yet.
    pub(crate) fresh_chunks: Vec<ShardEntry>,
    /// Accounts with changes, and where these are.
    pub(crate) tellers: BTreeMap<AccountId, Teller>,
    /// Nothing of the schedule of an instance is due before its time here.
    pub(crate) due_from: FxHashMap<InstanceId, DueFrom>,
    /// Counts what enters the schedule.
    pub(crate) scheduled: u64,
    /// Changes since the last flush.
    pub(crate) feed: Feeds,
    /// Changes that a flush is writing.
    pub(crate) frozen_feed: Arc<Feeds>,
    /// Other keys that changed.
    pub(crate) overlay: Overlay,
    /// Where the accepts of each period begin in the log.
    pub(crate) periods: BTreeMap<u32, u64>,
    /// Ids of periods below this one are gone.
    pub(crate) retired: u32,
    /// Periods to drop when the next flush is done.
    pub(crate) drops: Vec<u32>,
    /// About what the next flush writes, in bytes, other keys left out.
    pub(crate) dirty_bytes: usize,
    /// Whether a flush is being written: nothing is evicted meanwhile.
    pub(crate) flushing: bool,
}

impl State {
    /// The hot block that holds an id.
    pub(crate) fn locate(&self, id: MessageId) -> Option<BlockKey> {
        let chunks = self.chunks.get(&id.giver())?;
        let (_, key) = chunks.range(..=id).next_back()?;
        let block = &self.blocks.get(key)?.block;
        block.find(id).map(|_| *key)
    }

    /// The mass cancels of an instance that are not in every state yet, oldest first.
    pub(crate) fn marks_of(&self, instance: InstanceId) -> &[Mark] {
        self.marks.get(&instance).map_or(&[], Vec::as_slice)
    }

    /// Puts a block into memory.
    pub(crate) fn warm(&mut self, block: Block) {
        self.hot_bytes += block.bytes();
        for slot in &block.slots {
            self.index(slot, block.key);
        }
        let touched = self.applied;
        if block.is_dirty() {
            self.dirty_blocks.push(block.key);
        }
        self.blocks.insert(
            block.key,
            Hot {
                block: Arc::new(block),
                touched,
            },
        );
    }

    /// Puts a chunk into the index of hot ones.
    pub(crate) fn index(&mut self, slot: &Slot, key: BlockKey) {
        self.chunks
            .entry(slot.first.giver())
            .or_default()
            .insert(slot.first, key);
    }

    /// A hot block, to be changed; it is written by the next flush.
    pub(crate) fn block_mut(&mut self, key: BlockKey) -> Option<&mut Block> {
        let hot = self.blocks.get_mut(&key)?;
        hot.touched = self.applied;
        if !hot.block.is_dirty() {
            self.dirty_blocks.push(key);
            self.dirty_bytes += hot.block.bytes();
        }
        Some(Arc::make_mut(&mut hot.block))
    }

    /// Forgets a block.
    pub(crate) fn cool(&mut self, key: BlockKey) {
        if let Some(hot) = self.blocks.remove(&key) {
            self.hot_bytes = self.hot_bytes.saturating_sub(hot.block.bytes());
            for slot in &hot.block.slots {
                if let Some(chunks) = self.chunks.get_mut(&slot.first.giver()) {
                    chunks.remove(&slot.first);
                }
            }
        }
    }

    /// About what the next flush writes, in bytes.
    pub(crate) const fn unflushed_bytes(&self) -> usize {
        self.dirty_bytes + self.overlay.bytes()
    }

    /// Forgets what is written and was not needed for longest, down to the budgets, some of it at a
    /// time: called again, it goes on.
    pub(crate) fn evict(&mut self, budgets: &Budgets) {
        if self.flushing {
            return;
        }
        let goes_on = !self.outdated.is_empty();
        self.cool_outdated(budgets.hot_bytes);
        if goes_on {
            return;
        }
        if self.heads.len() > budgets.idle_heads {
            self.heads
                .retain(|_, head| head.dirty || head.unsettled() > 0);
        }
        if self.cells.len() > budgets.idle_heads {
            self.cells.retain(|_, cell| cell.dirty);
        }
    }

    fn cool_outdated(&mut self, budget: usize) {
        let slack = budget / EVICT_SLACK;
        if self.outdated.is_empty() && self.hot_bytes > budget {
            self.outdated = self.clean_blocks();
        }
        // What large appends bring does not outrun it.
        let is_behind = self.hot_bytes > budget + 2 * slack;
        let at_once = if is_behind {
            usize::MAX
        } else {
            COOLED_AT_ONCE
        };
        for _ in 0..at_once {
            // An eighth more than needed, so that the walk for them is rare.
            if self.hot_bytes <= budget - slack {
                self.outdated.clear();
            }
            let Some((touched, key)) = self.outdated.pop() else {
                break;
            };
            let hot = self.blocks.get(&key);
            if hot.is_some_and(|hot| hot.touched == touched && !hot.block.is_dirty()) {
                self.cool(key);
            }
        }
        self.evict_at = if self.outdated.is_empty() {
            // What is left is needed or not written yet: to look again pays when there is more.
            self.hot_bytes.max(budget) + slack
        } else {
            0
        };
    }

    /// The blocks that are written, the one that was not needed for longest last.
    fn clean_blocks(&self) -> Vec<(u64, BlockKey)> {
        let clean = self.blocks.iter().filter(|(_, hot)| !hot.block.is_dirty());
        let mut clean: Vec<_> = clean.map(|(key, hot)| (hot.touched, *key)).collect();
        clean.sort_unstable_by(|one, next| next.cmp(one));
        clean
    }

    /// The queues of an instance that are in memory.
    pub(crate) fn queues_of(
        &self,
        instance: InstanceId,
    ) -> impl Iterator<Item = (QueueKey, &Head)> {
        let from = QueueKey {
            instance,
            queue: Queue::High,
        };
        self.heads
            .range(from..)
            .take_while(move |(key, _)| key.instance == instance)
            .map(|(key, head)| (*key, head))
    }

    /// Takes old rows of an account out of the feed.
    pub(crate) fn trim(&mut self, account: AccountId, found: Outdated) {
        let Some(teller) = self.tellers.get_mut(&account) else {
            return;
        };
        if found.keys.is_empty() {
            return;
        }
        // Without a row left it begins with what is not flushed yet.
        teller.first = found.next.unwrap_or(teller.first);
        let first = teller.first.to_be_bytes().to_vec();
        found
            .keys
            .into_iter()
            .for_each(|key| self.overlay.put(key, None));
        self.overlay.put(key::teller(account), Some(first));
    }

    /// Something of an instance enters its schedule.
    pub(crate) fn enters_schedule(&mut self, instance: InstanceId, due: Timestamp) {
        self.scheduled += 1;
        let known = self.due_from.get(&instance).copied();
        if known.is_none_or(|known| due < known.at) {
            self.schedule_begins(instance, due);
        }
    }

    /// The schedule of an instance begins at a time.
    pub(crate) fn schedule_begins(&mut self, instance: InstanceId, at: Timestamp) {
        let known = self.due_from.get(&instance).copied();
        let later = known.map(|known| known.written + DUE_NOTED);
        let is_written =
            known.is_some_and(|known| at >= known.written) && later.is_some_and(|later| at < later);
        let written = match known {
            Some(known) if is_written => known.written,
            _ => {
                let value = at.as_micros().to_be_bytes().to_vec();
                self.overlay.put(key::due_from(instance), Some(value));
                at
            }
        };
        self.due_from.insert(instance, DueFrom { at, written });
    }

    /// The period of the oldest block with something unsettled, or with a mass cancel that is not
    /// in its states yet.
    pub(crate) fn oldest_live_period(&self) -> Option<u32> {
        let live = self.heads.values().filter(|head| head.unsettled() > 0);
        let live = live.map(|head| key::period_of(head.low));
        let todo = self.marks.values().flatten().flat_map(|mark| &mark.todo);
        let unswept = todo.map(|(_, from, _)| key::period_of(*from));
        live.chain(unswept).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Nowhere, START, chunk};
    use super::super::{Positioned, Projection};
    use super::*;
    use crate::codec::Record;
    use crate::kv::map::MapKv;

    /// What a block with one chunk counts as.
    const BLOCK_BYTES: usize = 256 + 2 * size_of::<Slot>();

    #[test]
    fn what_nobody_needs_is_forgotten_a_little_at_a_time() {
        let budgets = Budgets {
            hot_bytes: 64 * BLOCK_BYTES,
            ..Budgets::default()
        };
        let projection = Projection::open(MapKv::default(), Nowhere, budgets).unwrap();
        let blocks = || projection.state.read().blocks.len();

        let (mut most, mut at_once) = (0, 0);
        for number in 0..500 {
            let before = blocks();
            let record = Record::Accept(chunk(START, number));
            let lsn = number + 1;
            let len = 0;
            projection
                .apply(vec![Positioned { lsn, len, record }])
                .unwrap();
            let between = blocks();
            projection.flush().unwrap();
            most = most.max(between);
            at_once = at_once
                .max((before + 1).saturating_sub(between))
                .max(between - blocks());
        }

        assert_eq!(at_once, COOLED_AT_ONCE);
        assert!(most <= 64 + 64 / EVICT_SLACK * 2, "{most} blocks");
    }
}
