//! The store that several nodes share: ScyllaDB, or another database of its protocol.
//!
//! ```text
//! append ─► writer of the shard ─► log (one mutation) ─► projection ─► done
//!                                                        memory      └► flush each second ─► kv
//! ```
//!
//! Each shard has a log, a head and a projection of its own; a node holds them for the shards that
//! it owns. The projection is the same as that of the other kinds of store, over a table. What
//! guards it against former owners:
//! * the head is changed by compare-and-set under the epoch, and with it every flush;
//! * a record of the log that a former owner writes after the shard was taken lies above its seal,
//!   and counts nowhere;
//! * what a flush writes carries a timestamp made of epoch and flush, so that a late one loses.
//!
//! Rows live in a table that all nodes read; conditions are decided by the database.
//!
//! The store has threads of its own for the database, so that a busy node does not keep its own
//! leases waiting.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc;

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tokio::runtime::Runtime;
use zajil_model::id::{Epoch, Shard};

mod alive;
mod clock;
mod config;
mod db;
mod failed;
pub mod feed;
mod head;
mod insist;
mod intents;
mod kv;
mod log;
mod merge;
mod redo;
mod retire;
mod rows;
mod schema;
mod serving;
mod shard;
mod source;
mod statements;
mod store;
mod tasks;
#[cfg(test)]
mod testing;
mod tools;
mod view;
mod writer;

pub use clock::LogClock;
pub use config::{
    CqlConfig, CqlOpenError, Credentials, Missing, SHARD_BUDGETS, Timeouts, Unreachable,
};
pub use source::Contents;

use alive::Alive;
use db::Db;
use shard::{Means, Open, ShardProjection};
use writer::Job;

/// Threads for the database: they only pass on what others work out.
const THREADS: usize = 2;

/// Openings of different shards that wait for each other at most: as many locks.
const GATES: usize = 64;

/// A shard that is served.
#[derive(Clone, Debug)]
struct Serving {
    open: Arc<Open>,
    jobs: tokio::sync::mpsc::Sender<Job>,
}

/// What the tasks of a store share.
#[derive(Debug)]
struct Shared {
    db: Arc<Db>,
    means: Means,
    config: CqlConfig,
    shards: RwLock<FxHashMap<Shard, Serving>>,
    /// What is being opened or closed under an epoch: whoever drops it need not wait for that.
    changing: Mutex<FxHashMap<(Shard, Epoch), Arc<Alive>>>,
    /// What was read a moment ago of shards that are not held here.
    views: Mutex<FxHashMap<Shard, Arc<ShardProjection>>>,
    /// Held while a shard is opened or closed.
    gates: Vec<tokio::sync::Mutex<()>>,
    /// The tick up to which readers of the change feed were told that they have seen everything.
    told: Arc<AtomicU64>,
    /// Bytes of appends that wait.
    waiting: Arc<AtomicUsize>,
    closed: AtomicBool,
}

/// A store in a database that other nodes use as well.
pub struct CqlStore {
    shared: Arc<Shared>,
    /// Ended without waiting when the store goes.
    runtime: Mutex<Option<Runtime>>,
    handle: tokio::runtime::Handle,
}

impl fmt::Debug for CqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CqlStore")
            .field("keyspace", &self.shared.config.keyspace)
            .finish_non_exhaustive()
    }
}

impl CqlStore {
    /// Connects to the database, makes the keyspace and its tables where they are missing, and
    /// finishes what writers left that died. It waits for the database, for some seconds at most.
    ///
    /// # Errors
    /// Nobody answers, each contact point with its reason; or the keyspace is not what it should be.
    pub fn open(config: CqlConfig) -> Result<Self, CqlOpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("store-cql")
            .enable_all()
            .build()
            .map_err(CqlOpenError::Threads)?;
        let handle = runtime.handle().clone();
        let (told, connected) = mpsc::sync_channel(1);
        let (own, inner) = (handle.clone(), handle.clone());
        own.spawn(async move {
            // Who opens waits for this.
            told.send(Self::connect(config, inner).await).ok();
        });
        let shared = connected
            .recv()
            .unwrap_or(Err(CqlOpenError::Store(crate::StoreError::Closed)));
        let shared = match shared {
            Ok(shared) => Arc::new(shared),
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        tasks::start(&handle, &shared);
        Ok(Self {
            shared,
            runtime: Mutex::new(Some(runtime)),
            handle,
        })
    }

    async fn connect(
        config: CqlConfig,
        handle: tokio::runtime::Handle,
    ) -> Result<Shared, CqlOpenError> {
        crate::metrics::describe_cql();
        let db = Arc::new(Db::connect(&config).await?);
        intents::finish_abandoned(&db).await?;
        let means = Means {
            db: Arc::clone(&db),
            handle,
            budgets: config.budgets,
            told: Arc::default(),
        };
        Ok(Shared {
            told: Arc::clone(&means.told),
            db,
            means,
            config,
            shards: RwLock::default(),
            changing: Mutex::default(),
            views: Mutex::default(),
            gates: (0..GATES).map(|_| tokio::sync::Mutex::new(())).collect(),
            waiting: Arc::default(),
            closed: AtomicBool::new(false),
        })
    }
}

impl CqlStore {
    /// How many requests of each kind were made: what a message costs is measured by it.
    pub fn requests(&self) -> Vec<(&'static str, u64)> {
        self.shared.db.requests()
    }
}

impl Drop for CqlStore {
    fn drop(&mut self) {
        for serving in self.shared.shards.write().drain() {
            serving.1.open.ground.alive.lose(crate::StoreError::Closed);
        }
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}
