//! What every instance actor of a node is given: its ports and what the node shares.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use rustc_hash::FxHashMap;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_cluster::Ownership;
use zajil_model::id::{InstanceId, Shard};
use zajil_model::instance::TransportKind;
use zajil_model::time::Clock;
use zajil_model::wa_id::WaIdKey;
use zajil_storage::Store;
use zajil_transport::TransportFactory;

use crate::directory::Directory;
use crate::ids::ShardClocks;
use crate::instance::handed::Arrivals;
use crate::metrics::Metrics;
use crate::timer::Timer;

/// What the windows of all instances of a node may hold together (`DESIGN.md`, section 4).
pub const WINDOW_BYTES: usize = 64 << 20;

/// Backlogs that are looked through for expired messages at the same time: after a start all of
/// them want to be, and what is read must neither fill the memory nor stand in the way of sending.
pub const SWEEPS_AT_ONCE: usize = 4;

/// The ports and shared parts of a node.
pub struct Context {
    /// Where state is kept.
    pub store: Arc<dyn Store>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Wakes instances.
    pub timer: Timer,
    /// The ways to WhatsApp.
    pub transports: FxHashMap<TransportKind, Arc<dyn TransportFactory>>,
    /// Instances, suppressions and the rest of what accounts set up.
    pub directory: Directory,
    /// What this node may do by its lease.
    pub ownership: Ownership,
    /// The clocks of the shards.
    pub clocks: Arc<ShardClocks>,
    /// Makes WhatsApp ids and reads them back.
    pub wa_key: WaIdKey,
    /// What is spawned, so that a drain can wait for it.
    pub tasks: TaskTracker,
    /// Stops the node's own tasks.
    pub stop: CancellationToken,
    /// What former owners of shards handed over.
    pub arrivals: Arrivals,
    /// Sending is held after a restore.
    pub held: AtomicBool,
    /// Bytes of messages in all windows.
    pub window_bytes: AtomicUsize,
    /// Backlogs that are looked through for what expired.
    pub sweeps: Semaphore,
    /// What is counted.
    pub metrics: Metrics,
    seed: AtomicU64,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// The parts of a [`Context`] that are made by others.
pub struct ContextParts {
    /// Where state is kept.
    pub store: Arc<dyn Store>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Wakes instances.
    pub timer: Timer,
    /// The ways to WhatsApp.
    pub transports: Vec<Arc<dyn TransportFactory>>,
    /// Instances, suppressions and the rest.
    pub directory: Directory,
    /// What this node may do by its lease.
    pub ownership: Ownership,
    /// The clocks of the shards.
    pub clocks: Arc<ShardClocks>,
    /// Makes WhatsApp ids.
    pub wa_key: WaIdKey,
    /// What is spawned.
    pub tasks: TaskTracker,
    /// Stops the node's own tasks.
    pub stop: CancellationToken,
    /// Seeds jitter.
    pub seed: u64,
}

impl fmt::Debug for ContextParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextParts").finish_non_exhaustive()
    }
}

impl Context {
    /// A node's context.
    pub fn new(parts: ContextParts) -> Self {
        Self {
            store: parts.store,
            clock: parts.clock,
            timer: parts.timer,
            transports: parts
                .transports
                .into_iter()
                .map(|t| (t.kind(), t))
                .collect(),
            directory: parts.directory,
            ownership: parts.ownership,
            clocks: parts.clocks,
            wa_key: parts.wa_key,
            tasks: parts.tasks,
            stop: parts.stop,
            arrivals: Arrivals::default(),
            held: AtomicBool::new(false),
            window_bytes: AtomicUsize::new(0),
            sweeps: Semaphore::new(SWEEPS_AT_ONCE),
            metrics: Metrics::new(),
            seed: AtomicU64::new(parts.seed),
        }
    }

    /// Random numbers of its own for one actor.
    pub fn random(&self, instance: InstanceId) -> SmallRng {
        let turn = self.seed.fetch_add(1, Ordering::Relaxed);
        let mut seed = SmallRng::seed_from_u64(turn ^ instance.get().rotate_left(17));
        SmallRng::seed_from_u64(seed.next_u64())
    }

    /// A random number in 0..1.
    pub fn chance(&self) -> f64 {
        let turn = self.seed.fetch_add(1, Ordering::Relaxed);
        SmallRng::seed_from_u64(turn).random()
    }

    /// Whether what this node says of a shard counts: while its lease is good, nobody else can have
    /// taken the shard, and read what there was, before what was asked for was durable.
    pub fn speaks_for(&self, shard: Shard) -> bool {
        let (ownership, now) = (&self.ownership, self.clock.mono());
        let held = |epoch| ownership.may_answer_for(shard, epoch, now);
        ownership.is_alone() || self.clocks.epoch(shard).is_some_and(held)
    }

    /// Whether sending is held after a restore.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Whether all windows together are within their budget.
    pub fn has_window_room(&self) -> bool {
        self.window_bytes.load(Ordering::Relaxed) < WINDOW_BYTES
    }
}
