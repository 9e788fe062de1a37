//! The embedded store: a file log of our own and projections of it, in one directory.
//!
//! ```text
//! append ─► committer ─► log (write, sync) ─► projector ─► done
//!            conditions                        apply        └► flusher ─► fjall, with the position
//! ```
//!
//! A small group is applied by the committer itself: the projector is there so that the next large
//! group is written while the last one is applied.
//!
//! The log is the truth: what is answered is in it and on the disk. The projection is memory
//! over fjall; it is flushed in the background and replayed from the log at open.
//!
//! What becomes of damage, such as a flipped bit or a file that was cut short:
//! * At the very end of the log it cannot be told from a group that was being written when the
//!   process ended: it is cut. Nothing that was answered is lost by a crash.
//! * Before that, in what is still to be replayed and in the segment where the replay begins, it
//!   refuses the open, with the file and the offset. Nothing is changed; what to do (a backup,
//!   another disk) is for people to decide.
//! * In an older segment it is found when it is read. The message, the list or the queue that
//!   needs the chunk gets [`StoreError::Corrupt`](crate::StoreError::Corrupt) with the file and
//!   the offset; all else goes on. A queue waits there: to pass over what was accepted would lose
//!   it unseen.
//! * In fjall's files its own check sums find it. The store then fails, or does not open.
//!
//! What becomes of a disk that fills up: [`space`].

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use zajil_model::id::{Epoch, Shard, Tick};
use zajil_model::time::Clock;

mod backup;
mod item;
mod keyspaces;
pub mod log;
mod open;
mod projector;
mod restore;
mod shared;
pub mod space;
mod stage;
mod store;

pub use open::{OpenError, is_there};
pub use restore::{RestoreError, restore};

use item::Call;
use log::{Committer, Failpoints, FileLog, SEGMENT_BYTES};
use shared::Shared;
use space::{FileSystem, Space};
use stage::Commit;

use crate::projection::Budgets;
use crate::transfer::Source;

/// Groups that may wait for the projector. The committer then waits too, its queue fills, and
/// callers are refused: memory is bounded from end to end.
const GROUPS_AHEAD: usize = 4;

/// How often an export looks whether mass cancels are in the states: they come in steps of some
/// milliseconds.
const SWEEP_LOOK: std::time::Duration = std::time::Duration::from_millis(5);

/// Called once, with the reason, when the store failed for good: the process must end. What was
/// answered is in the log.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Where an embedded store is and how it behaves.
#[derive(Clone)]
pub struct EmbeddedConfig {
    /// The data directory; made if there is none. One process at a time may use it.
    pub dir: PathBuf,
    /// Measures durations.
    pub clock: Arc<dyn Clock>,
    /// Ends the process.
    pub on_fatal: OnFatal,
    /// The size of a segment of the log, in bytes. It never changes for a directory; tests
    /// choose small ones.
    pub segment_bytes: u64,
    /// Whether the log is written past the page cache where the file system can.
    pub direct: bool,
    /// Where a log that is begun has its first record, or behind it: above every place of a change
    /// feed that is imported. One that is there goes on as it is.
    pub log_begins: u64,
    /// What its projection may hold in memory.
    pub budgets: Budgets,
    /// Below this many free bytes on the file system of the directory accepts are refused, until
    /// a quarter more is free; below half of it flushes wait, too. `None` is
    /// [`space::MIN_FREE`], or a twentieth of the file system where that is less.
    pub min_free: Option<u64>,
    /// Tells how much is free.
    pub space: Arc<dyn Space>,
    /// Where crash tests interfere.
    pub failpoints: Failpoints,
}

impl EmbeddedConfig {
    /// A store with the usual sizes.
    pub fn new(dir: impl Into<PathBuf>, clock: Arc<dyn Clock>, on_fatal: OnFatal) -> Self {
        Self {
            dir: dir.into(),
            clock,
            on_fatal,
            segment_bytes: SEGMENT_BYTES,
            direct: true,
            log_begins: 0,
            budgets: Budgets::default(),
            min_free: None,
            space: Arc::new(FileSystem),
            failpoints: Failpoints::default(),
        }
    }
}

impl fmt::Debug for EmbeddedConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedConfig")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// Ceilings of ticks. One is kept for all shards; what each was given is remembered.
#[derive(Debug)]
struct Ceilings {
    /// No process gave an id above it before this one.
    before: Tick,
    /// The highest that is on its way to the disk, or on it.
    written: Tick,
    /// What this process may give, by shard.
    raised: FxHashMap<Shard, Tick>,
}

/// The threads of an open store.
#[derive(Debug)]
struct Threads {
    projector: JoinHandle<()>,
    flusher: JoinHandle<()>,
    watcher: JoinHandle<()>,
}

/// A store in a directory of this machine.
#[derive(Debug)]
pub struct EmbeddedStore {
    dir: PathBuf,
    shared: Arc<Shared>,
    log: Arc<FileLog>,
    committer: Arc<Committer<Call>>,
    epoch: Epoch,
    ceilings: Mutex<Ceilings>,
    threads: Mutex<Option<Threads>>,
    /// Held while files are copied or retired: never both.
    keeping: Arc<Mutex<()>>,
    /// Locked for as long as the store is open.
    lock: File,
}

impl EmbeddedStore {
    /// Opens a store, or begins one, and replays what its projection does not know yet.
    ///
    /// # Errors
    /// Another process uses the directory; the system refuses something; or what is stored is
    /// damaged in a way that no crash explains.
    pub fn open(config: EmbeddedConfig) -> Result<Self, OpenError> {
        let opened = open::open(&config)?;
        let (sender, receiver) = sync_channel(GROUPS_AHEAD);
        let commit = Commit::new(Arc::clone(&opened.shared), sender);
        let committer = Arc::new(Committer::start(&opened.log, commit)?);
        let projector = {
            let (shared, committer) = (Arc::clone(&opened.shared), Arc::clone(&committer));
            spawn("store-project", move || {
                projector::project(&shared, &committer, &receiver)
            })?
        };
        let flusher = {
            let shared = Arc::clone(&opened.shared);
            spawn("store-flush", move || projector::flush_on_time(&shared))?
        };
        let watcher = {
            let guard = Arc::clone(&opened.shared.guard);
            spawn("store-space", move || guard.watch())?
        };
        let (before, written) = (opened.ceiling, opened.ceiling);
        Ok(Self {
            dir: config.dir,
            shared: opened.shared,
            log: opened.log,
            committer,
            epoch: opened.epoch,
            ceilings: Mutex::new(Ceilings {
                before,
                written,
                raised: FxHashMap::default(),
            }),
            threads: Mutex::new(Some(Threads {
                projector,
                flusher,
                watcher,
            })),
            keeping: Arc::default(),
            lock: opened.lock,
        })
    }

    /// The data directory.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Everything that is in it, to be exported. Nobody writes it meanwhile. It waits until mass
    /// cancels are in the states, so that the change feed tells of them.
    ///
    /// # Errors
    /// The store failed.
    pub fn source(&self) -> Result<Source, crate::StoreError> {
        while !self.shared.projection.unswept().is_empty() {
            self.shared.check()?;
            std::thread::sleep(SWEEP_LOOK);
        }
        let ceiling = self.ceilings.lock().written;
        Ok(Source {
            kind: "embedded",
            parts: vec![self.shared.projection.clone()],
            rows: self.shared.projection.clone(),
            ceilings: Shard::all().map(|shard| (shard, ceiling)).collect(),
        })
    }

    /// Writes what waits and ends the threads.
    fn stop(&self) {
        self.committer.close();
        let Some(threads) = self.threads.lock().take() else {
            return;
        };
        self.shared.guard.stop();
        for thread in [threads.projector, threads.flusher, threads.watcher] {
            if thread.join().is_err() {
                let error = crate::StoreError::Invalid("one of them panicked");
                self.shared.fail("run its threads", &error);
            }
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.stop();
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the data directory stays locked until the process ends");
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(open::io("start the thread", name.as_ref()))
}
