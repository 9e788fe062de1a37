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

mod apply;
mod block;
pub(crate) mod bodies;
mod cancel;
mod disk;
mod feed;
mod flush;
mod head;
mod hot;
pub(crate) mod key;
mod list;
mod overlay;
mod read;
mod retire;
mod schedule;
mod shard;
mod state;

use apply::Applier;
use bodies::{BODY_CACHE_BYTES, Bodies, ChunkSource};
use hot::{HOT_BYTES, State};

/// A flush is due when it would write this much.
pub(crate) const FLUSH_BYTES: usize = 32 << 20;

/// Hot blocks may exceed their budget by this share (an eighth) before a walk evicts some.
const EVICT_SLACK: usize = 8;

/// The projection of a log.
#[derive(Debug)]
pub(crate) struct Projection<K, C> {
    kv: K,
    bodies: Bodies<C>,
    state: RwLock<State>,
    /// Held while a flush is written: one at a time.
    flushes: Mutex<()>,
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
    pub(crate) fn open(kv: K, source: C) -> Result<Self, StoreError> {
        let state = disk::state(&kv)?;
        let flushed = AtomicU64::new(state.position);
        let bodies = Bodies::new(source, BODY_CACHE_BYTES);
        Ok(Self {
            kv,
            bodies,
            state: RwLock::new(state),
            flushes: Mutex::new(()),
            flushed,
        })
    }

    /// The last record that is applied, and the position from which to replay.
    pub(crate) fn stands_at(&self) -> (u64, u64) {
        let state = self.state.read();
        (state.applied, state.position)
    }

    /// Applies the records of an append: reads see all of them or none, but for what has to be
    /// fetched in between. Only one thread may call this.
    pub(crate) fn apply(&self, records: Vec<Positioned>) -> Result<(), StoreError> {
        let mut applier = Applier::new(self);
        for record in records {
            applier.apply(record.lsn, record.len, record.record)?;
        }
        if applier.state.hot_bytes > HOT_BYTES + HOT_BYTES / EVICT_SLACK {
            applier.state.evict(HOT_BYTES);
        }
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

    /// Whether a flush would write anything.
    pub(crate) fn is_behind(&self) -> bool {
        self.lag() > 0 || self.unflushed_bytes() > 0
    }

    /// Instances with a mass cancel that is not in every state yet.
    pub(crate) fn unswept(&self) -> Vec<InstanceId> {
        self.state.read().marks.keys().copied().collect()
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
