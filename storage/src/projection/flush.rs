//! Flushes: everything that changed goes to the key-value store in one batch, with the position
//! of the log that it reflects.
//!
//! The lock is held only to take what changed (blocks are shared, not copied) and to let go of
//! it afterwards; packing and writing happen beside the work.

use std::sync::Arc;

use zajil_model::time::Day;

use super::block::Block;
use super::bodies::ChunkSource;
use super::disk::Projected;
use super::head::{Cell, Head};
use super::hot::{Feeds, State};
use super::key::{self, QueueKey};
use super::overlay::Changes;
use super::shard::{Newest, ShardEntry};
use super::{HALF, Projection, feed, shard};
use crate::StoreError;
use crate::kv::{Kv, KvWrite, Space};

/// What one flush writes.
struct Flush {
    projected: Projected,
    blocks: Vec<Arc<Block>>,
    /// Which of the two rows of each block changed: chunks, states.
    parts: Vec<(bool, bool)>,
    heads: Vec<(QueueKey, Head)>,
    cells: Vec<((QueueKey, Day), Cell)>,
    chunks: Vec<ShardEntry>,
    feed: Arc<Feeds>,
    changes: Arc<Changes>,
    drops: Vec<u32>,
}

impl Flush {
    /// Takes what changed.
    fn begin(state: &mut State) -> Self {
        state.flushing = true;
        state.dirty_bytes = 0;
        let mut blocks = Vec::new();
        let mut parts = Vec::new();
        for key in std::mem::take(&mut state.dirty_blocks) {
            let Some(hot) = state.blocks.get_mut(&key) else {
                continue;
            };
            let block = Arc::make_mut(&mut hot.block);
            parts.push((block.index_dirty, block.states_dirty));
            (block.index_dirty, block.states_dirty) = (false, false);
            blocks.push(Arc::clone(&hot.block));
        }
        let heads = state
            .heads
            .iter_mut()
            .filter(|(_, head)| head.dirty)
            .map(|(key, head)| {
                head.dirty = false;
                (*key, head.clone())
            });
        let cells = state
            .cells
            .iter_mut()
            .filter(|(_, cell)| cell.dirty)
            .map(|(key, cell)| {
                cell.dirty = false;
                (*key, *cell)
            });
        let (heads, cells) = (heads.collect(), cells.collect());
        state.frozen_feed = Arc::new(std::mem::take(&mut state.feed));
        Self {
            projected: Projected {
                applied: state.applied,
                position: state.position,
                retired: state.retired,
            },
            blocks,
            parts,
            heads,
            cells,
            chunks: std::mem::take(&mut state.fresh_chunks),
            feed: Arc::clone(&state.frozen_feed),
            changes: state.overlay.freeze(),
            drops: std::mem::take(&mut state.drops),
        }
    }

    /// Packs it.
    fn writes<K: Kv>(&self, kv: &K, newest: &mut Newest) -> Result<Vec<KvWrite>, StoreError> {
        let main = |key, value| KvWrite {
            space: Space::Main,
            key,
            value,
        };
        let retired = self.projected.retired;
        let chunks = self
            .chunks
            .iter()
            .filter(|chunk| key::period_of(chunk.first) >= retired);
        let mut writes = shard::writes(kv, newest, chunks.copied().collect())?;
        // Deletions of heads and counts come before what was made anew under the same name.
        writes.extend(
            self.changes
                .iter()
                .map(|(key, value)| main(key.clone(), value.clone())),
        );
        for (block, (index, states)) in self.blocks.iter().zip(&self.parts) {
            let space = key::space_of(block.key.first);
            if *index {
                let key = key::block_index(block.key);
                writes.push(KvWrite {
                    space,
                    key,
                    value: Some(block.encode_index()),
                });
            }
            if *index || *states {
                let key = key::block_states(block.key);
                writes.push(KvWrite {
                    space,
                    key,
                    value: Some(block.encode_states()),
                });
            }
        }
        for (queue, head) in &self.heads {
            writes.push(main(key::head(*queue), Some(head.encode())));
            // A start has them all with one scan.
            let live = (head.unsettled() > 0).then(|| head.encode());
            writes.push(main(key::live(*queue), live));
        }
        for ((queue, day), cell) in &self.cells {
            writes.push(main(key::totals(*queue, *day), Some(cell.encode())));
        }
        for (account, changes) in self.feed.iter() {
            writes.extend(feed::writes(*account, changes));
        }
        writes.push(main(key::PROJECTED.to_vec(), Some(self.projected.encode())));
        Ok(writes)
    }
}

impl<K: Kv, C: ChunkSource> Projection<K, C> {
    /// Writes what changed since the last flush; answers the position from which a replay would
    /// now begin.
    ///
    /// # Errors
    /// The key-value store failed. What was taken is not written and the projection must not be
    /// used any more.
    pub(crate) fn flush(&self) -> Result<u64, StoreError> {
        self.write_out(&mut self.flushes.lock())
    }

    /// The same, if anything is left to be written once no other flush is on its way.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub(crate) fn flush_if_behind(&self) -> Result<(), StoreError> {
        let mut newest = self.flushes.lock();
        if self.is_behind() {
            self.write_out(&mut newest)?;
        }
        Ok(())
    }

    fn write_out(&self, newest: &mut Newest) -> Result<u64, StoreError> {
        let nothing_half_applied = self.whole.lock();
        if !*nothing_half_applied {
            return Err(HALF);
        }
        let mut state = self.state.write();
        // An earlier one failed, and what it took would be skipped by the position of this one; or it was
        // the last.
        if state.flushing {
            return Err(StoreError::Closed);
        }
        let flush = Flush::begin(&mut state);
        drop((state, nothing_half_applied));
        self.kv.commit(flush.writes(&self.kv, newest)?)?;
        for period in &flush.drops {
            self.kv.drop_period(*period)?;
        }
        let position = flush.projected.position;
        // Otherwise what was taken stays where reads find it, and another flush, which would take the place of
        // this one, fails.
        if self.kv.is_in_place() {
            let mut state = self.state.write();
            state.overlay.thaw();
            state.frozen_feed = Arc::default();
            state.flushing = false;
            state.evict(&self.budgets);
            drop(state);
            drop(flush);
        }
        self.flushed
            .store(position, std::sync::atomic::Ordering::Release);
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Duration;

    use parking_lot::Mutex;
    use zajil_model::lifecycle::{Event, Outcome, Status};

    use super::super::{Budgets, Positioned};
    use super::*;
    use crate::codec::Record;
    use crate::kv::map::MapKv;
    use crate::kv::{Direction, Span, Visit};
    use crate::projection::testing::{Nowhere, START, chunk};

    /// Tells when a block is read, and goes on when it is answered or after a while.
    #[derive(Debug)]
    struct SlowKv {
        inner: MapKv,
        stops: Mutex<Option<(SyncSender<()>, Receiver<()>)>>,
    }

    impl Kv for SlowKv {
        fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            if let Some((reached, go_on)) = self.stops.lock().take() {
                reached.send(()).expect("the test waits for it");
                go_on.recv_timeout(Duration::from_millis(300)).ok();
            }
            self.inner.get(space, key)
        }

        fn scan(
            &self,
            space: Space,
            span: &Span,
            direction: Direction,
            visit: Visit<'_>,
        ) -> Result<(), StoreError> {
            self.inner.scan(space, span, direction, visit)
        }

        fn commit(&self, writes: Vec<KvWrite>) -> Result<(), StoreError> {
            self.inner.commit(writes)
        }

        fn periods(&self) -> Vec<u32> {
            self.inner.periods()
        }

        fn drop_period(&self, period: u32) -> Result<(), StoreError> {
            self.inner.drop_period(period)
        }
    }

    /// A projection that forgets what it flushed.
    fn projection(kv: SlowKv) -> Projection<SlowKv, Nowhere> {
        let budgets = Budgets {
            hot_bytes: 0,
            ..Budgets::default()
        };
        Projection::open(kv, Nowhere, budgets).expect("it holds nothing that is corrupt")
    }

    fn apply(projection: &Projection<SlowKv, Nowhere>, lsn: u64, record: Record) {
        let records = vec![Positioned {
            lsn,
            len: 0,
            record,
        }];
        projection.apply(records).expect("it is applied");
    }

    #[test]
    fn a_flush_never_takes_half_a_record() {
        let (inner, stops) = (MapKv::default(), Mutex::new(None));
        let projection = projection(SlowKv { inner, stops });
        let chunks = [chunk(START, 0), chunk(START, 1)];
        for (lsn, chunk) in (1..).zip(&chunks) {
            apply(&projection, lsn, Record::Accept(Arc::clone(chunk)));
        }
        projection.flush().expect("it is flushed");
        let acked = |id| Outcome {
            id,
            at: START,
            event: Event::Acked,
        };
        // The first is applied when the block of the second is read.
        let outcomes = vec![acked(chunks[0].first), acked(chunks[1].first)];
        apply(&projection, 3, Record::Outcomes(vec![outcomes[0]]));
        let (reached, was_reached) = sync_channel(1);
        let (flushed, go_on) = sync_channel(1);
        *projection.kv.stops.lock() = Some((reached, go_on));

        std::thread::scope(|threads| {
            threads.spawn(|| apply(&projection, 4, Record::Outcomes(outcomes)));
            was_reached.recv().expect("the block is read");
            projection.flush().expect("it is flushed");
            flushed.send(()).ok();
        });

        // The process ends here: what is applied is not applied again.
        let Projection { kv, .. } = projection;
        let again = self::projection(kv);
        assert_eq!(again.stands_at().0, 4);
        for chunk in &chunks {
            let key = again.locate(chunk.first).unwrap().unwrap();
            let block = again.block(key).unwrap().unwrap();
            let (place, index) = block.find(chunk.first).unwrap();
            assert_eq!(block.slots[place].state(index).status, Status::Sent);
        }
    }
}
