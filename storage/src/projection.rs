//! The projection of the log: everything that the port can be asked.
//!
//! Records are applied in their order by one thread; reads run beside it. What changed is held
//! in memory and flushed to a key-value store in one batch, with the position of the log that it
//! reflects, so that a start replays little whatever the backlog.

use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};
use zajil_model::id::InstanceId;

use crate::StoreError;
use crate::codec::Record;
use crate::kv::Kv;

mod accept;
mod apply;
mod block;
pub(crate) mod bodies;
mod cancel;
mod contents;
mod count;
pub(crate) mod disk;
pub(crate) mod feed;
mod fetch;
mod flush;
mod head;
mod hot;
pub(crate) mod key;
mod list;
mod mark;
mod moved;
mod overlay;
mod queue;
mod read;
mod retire;
mod schedule;
mod shard;
pub(crate) mod state;
#[cfg(test)]
pub(crate) mod testing;

use apply::Applier;
use bodies::{Bodies, ChunkSource};
use hot::State;
use shard::Newest;

/// What the projection may hold in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// A flush is due when it would write this many bytes.
    pub flush_bytes: usize,
    /// What blocks of states may take, in bytes, but for those that a flush has to write first.
    pub hot_bytes: usize,
    /// What the cache of chunks may take, in bytes: freshly accepted work is drained from it
    /// without a read.
    pub body_bytes: usize,
    /// How many heads and counts of idle queues stay.
    pub idle_heads: usize,
}

impl Default for Budgets {
    /// For a node with 512 MiB: flushes of 32 MiB, 48 MiB of states (300,000 messages that
    /// something happened to), 64 MiB of chunks, and about 4 MiB of heads.
    fn default() -> Self {
        Self {
            flush_bytes: 32 << 20,
            hot_bytes: 48 << 20,
            body_bytes: 64 << 20,
            idle_heads: 16_384,
        }
    }
}

/// Why nothing is applied or flushed after an append that failed half-way.
const HALF: StoreError = StoreError::Invalid("an append was applied by half");

/// The projection of a log.
#[derive(Debug)]
pub(crate) struct Projection<K, C> {
    kv: K,
    budgets: Budgets,
    bodies: Bodies<C>,
    state: RwLock<State>,
    /// Held while an append is applied, and while a flush takes what changed: the state's lock is
    /// let go in between to fetch something, and a flush of half a record would say that all of
    /// it is applied. False once one could not be applied to its end: nothing is flushed any more.
    whole: Mutex<bool>,
    /// Held while a flush is written: one at a time. What the last ones wrote into the index by
    /// shard saves reading it.
    flushes: Mutex<Newest>,
    /// Where a replay would begin now.
    flushed: AtomicU64,
}

/// A record of the log, with where it is.
#[derive(Clone, Debug)]
pub(crate) struct Positioned {
    /// Where it is.
    pub(crate) lsn: u64,
    /// How long its payload is, in bytes.
    pub(crate) len: u32,
    /// What it says.
    pub(crate) record: Record,
}

impl<K: Kv, C: ChunkSource> Projection<K, C> {
    /// Opens what was flushed.
    pub(crate) fn open(kv: K, source: C, budgets: Budgets) -> Result<Self, StoreError> {
        let state = disk::state(&kv)?;
        let flushed = AtomicU64::new(state.position);
        let bodies = Bodies::new(source, budgets.body_bytes);
        Ok(Self {
            kv,
            budgets,
            bodies,
            state: RwLock::new(state),
            whole: Mutex::new(true),
            flushes: Mutex::default(),
            flushed,
        })
    }

    /// The last record that is applied, and the position from which to replay.
    pub(crate) fn stands_at(&self) -> (u64, u64) {
        let state = self.state.read();
        (state.applied, state.position)
    }

    /// Applies the records of an append: reads see all of them or none, but for what has to be
    /// fetched in between. Only one thread at a time may call this.
    pub(crate) fn apply(&self, records: Vec<Positioned>) -> Result<(), StoreError> {
        // No flush begins meanwhile.
        let mut whole = self.whole.lock();
        if !std::mem::take(&mut *whole) {
            return Err(HALF);
        }
        let mut applier = Applier::new(self);
        for record in records {
            applier.apply(record.lsn, record.len, record.record)?;
        }
        if applier.state.hot_bytes > applier.state.evict_at {
            applier.state.evict(&self.budgets);
        }
        *whole = true;
        Ok(())
    }

    /// Everything of the log before this position is applied.
    pub(crate) fn advance(&self, position: u64) {
        self.state.write().position = position;
    }

    /// About how many bytes the next flush writes.
    pub(crate) fn unflushed_bytes(&self) -> usize {
        self.state.read().unflushed_bytes()
    }

    /// How far the flushed part is behind the applied one, in bytes of the log.
    pub(crate) fn lag(&self) -> u64 {
        let flushed = self.flushed.load(std::sync::atomic::Ordering::Acquire);
        self.state.read().position.saturating_sub(flushed)
    }

    /// What may be held in memory.
    pub(crate) const fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// Whether a flush would write anything.
    pub(crate) fn is_behind(&self) -> bool {
        self.lag() > 0 || self.unflushed_bytes() > 0
    }

    /// The periods that hold something, in order.
    pub(crate) fn period_numbers(&self) -> Vec<u32> {
        self.state.read().periods.keys().copied().collect()
    }

    /// How many periods hold something.
    pub(crate) fn kept_periods(&self) -> u32 {
        self.state.read().periods.len() as u32
    }

    /// Instances with a mass cancel that is not in every state yet.
    pub(crate) fn unswept(&self) -> Vec<InstanceId> {
        self.state.read().marks.keys().copied().collect()
    }

    /// Whether every mass cancel is in the states.
    pub(crate) fn is_swept(&self) -> bool {
        self.state.read().marks.is_empty()
    }

    /// The key-value store.
    pub(crate) const fn kv(&self) -> &K {
        &self.kv
    }

    /// Where chunks are kept for good.
    pub(crate) const fn source(&self) -> &C {
        self.bodies.source()
    }
}
