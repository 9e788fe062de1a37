//! What the threads of the embedded store share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use zajil_model::message::Chunk;
use zajil_model::time::Clock;

use super::keyspaces::Keyspaces;
use super::log::{Failpoints, FileLog, Lsn};
use super::space::Guard;
use super::{EmbeddedConfig, OnFatal};
use crate::codec::{self, Record};
use crate::projection::Projection;
use crate::projection::bodies::ChunkSource;
use crate::{StoreError, metrics};

/// Chunks, read back from the log.
#[derive(Debug, Default)]
pub(super) struct LogChunks {
    /// Set once the log is open; until then nothing is read.
    log: OnceLock<Arc<FileLog>>,
}

impl LogChunks {
    /// From now on chunks are read from this log.
    pub(super) fn open(&self, log: Arc<FileLog>) {
        self.log.get_or_init(|| log);
    }

    /// The log.
    pub(super) fn log(&self) -> Result<&Arc<FileLog>, StoreError> {
        self.log.get().ok_or(StoreError::Closed)
    }
}

impl ChunkSource for LogChunks {
    fn chunk(&self, lsn: u64, len: u32) -> Result<Arc<Chunk>, StoreError> {
        let payload = self.log()?.read(Lsn(lsn), len as usize);
        match codec::decode(&payload.map_err(|error| StoreError::from(&error))?)? {
            (_, Record::Accept(chunk)) => Ok(chunk),
            _ => Err(StoreError::Corrupt {
                what: "log",
                detail: format!("no chunk at {lsn}"),
            }),
        }
    }
}

/// What the threads share.
pub(super) struct Shared {
    pub(super) projection: Arc<Projection<Keyspaces, LogChunks>>,
    pub(super) clock: Arc<dyn Clock>,
    /// The last record that is in the projection.
    pub(super) applied: AtomicU64,
    /// Groups that were handed to the projector and are not applied yet.
    pub(super) unapplied: AtomicUsize,
    pub(super) flusher: Flusher,
    pub(super) guard: Arc<Guard>,
    closed: AtomicBool,
    failure: OnceLock<String>,
    on_fatal: OnFatal,
    failpoints: Failpoints,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        projection: Projection<Keyspaces, LogChunks>,
        guard: Arc<Guard>,
        config: &EmbeddedConfig,
    ) -> Self {
        Self {
            applied: AtomicU64::new(projection.stands_at().0),
            projection: Arc::new(projection),
            clock: Arc::clone(&config.clock),
            unapplied: AtomicUsize::new(0),
            flusher: Flusher::default(),
            guard,
            closed: AtomicBool::new(false),
            failure: OnceLock::new(),
            on_fatal: Arc::clone(&config.on_fatal),
            failpoints: config.failpoints.clone(),
        }
    }

    /// The step `name` is reached, at which a crash test may interfere.
    pub(super) fn step(&self, name: &'static str) -> Result<(), StoreError> {
        let hit = self.failpoints.hit(name);
        hit.map_err(|error| StoreError::Io {
            operation: name,
            reason: error.to_string(),
        })
    }

    /// The log.
    pub(super) fn log(&self) -> Result<&Arc<FileLog>, StoreError> {
        self.projection.source().log()
    }

    /// Why the store failed, if it did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Nothing is answered any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Fails when the store failed or was closed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.failure.get().is_some() || self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(())
    }

    /// The store failed for good: the process has to end and begin again from the log.
    pub(super) fn fail(&self, operation: &'static str, error: &StoreError) {
        metrics::failed(operation, error);
        let reason = format!("cannot {operation}: {error}");
        if self.failure.set(reason.clone()).is_ok() {
            tracing::error!(%error, operation, "the store failed for good");
            (self.on_fatal)(&reason);
        }
    }
}

/// When the flush thread works.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    state: Mutex<(Due, Running)>,
    changed: Condvar,
}

/// Whether a flush was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Due {
    #[default]
    Later,
    Now,
}

/// Whether the thread goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Running {
    #[default]
    On,
    Stopped,
}

impl Flusher {
    /// Asks for a flush now.
    pub(super) fn wake(&self) {
        self.state.lock().0 = Due::Now;
        self.changed.notify_one();
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.state.lock().1 = Running::Stopped;
        self.changed.notify_one();
    }

    /// Waits for the next flush; false when there is none to come.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        if *state == (Due::Later, Running::On) {
            // Woken early it flushes early, which does no harm.
            self.changed.wait_for(&mut state, at_most);
        }
        state.0 = Due::Later;
        state.1 == Running::On
    }
}
