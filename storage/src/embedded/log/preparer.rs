//! Prepares segments before they are needed, so that no write ever waits for the file system to
//! find space, and none fails halfway because there is none.
//!
//! A new file is filled with zeros in small pieces, because unwritten blocks would make every
//! sync write the file system's journal too, and because filling it at once makes the syncs
//! beside it wait. The pieces keep ahead of what is appended at that time. Retired segments are
//! taken first: they need only a new header, whose salt makes all that they hold unreadable.
//! Deleting a segment stalls commits for a tenth of a second on some disks, so surplus ones are
//! shortened step by step before they go.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::buffer::AlignedBuffer;
use super::failure::Failure;
use super::segment::{Access, Medium, PREPARING, Segment, SegmentHeader, segment_name, sync_names};
use super::{Class, Failpoints, LogError};

/// Segments that are ready: one to go on in, and the reserve.
pub(super) const READY: usize = 2;

/// Ready segments that accepts leave alone: what happened to messages is written there when the
/// disk is full (64 MiB are about a million outcomes).
const RESERVE: usize = 1;

/// What is filled at once, in bytes: a write that delays a sync beside it by less than 1 ms.
const PIECE: usize = 256 << 10;

/// How many bytes are filled for each one appended: the next segment is then ready when the one
/// in use is half full.
const LEAD: u64 = 2;

/// The pause after a piece when little is appended: 16 MiB/s.
const PAUSE: Duration = Duration::from_millis(16);

/// The pause after a piece when filling is behind its lead: 256 MiB/s at most. Measured: with
/// 4 ms accepts waited up to 450 ms, with 2 ms none did.
const PAUSE_BEHIND: Duration = Duration::from_millis(1);

/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// By how much a surplus file is shortened at once, in bytes, and how long the disk rests then.
const SHORTEN: u64 = 1 << 20;
const SHORTEN_PAUSE: Duration = Duration::from_millis(10);

/// What preparing a segment needs to know.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) segment_bytes: u64,
    pub(super) store: u64,
    pub(super) access: Access,
    /// Retired segments kept for reuse; more are given back to the file system.
    pub(super) spares: usize,
    pub(super) medium: Arc<dyn Medium>,
    pub(super) failpoints: Failpoints,
}

/// Segments that are ready, and how more become so.
#[derive(Debug)]
pub(super) struct Supply {
    plan: Plan,
    failure: Arc<Failure>,
    state: Mutex<State>,
    changed: Condvar,
    appended: AtomicU64,
}

#[derive(Debug)]
struct State {
    ready: VecDeque<Segment>,
    spares: VecDeque<PathBuf>,
    /// The number of the next segment that is prepared.
    next: u64,
    /// The last attempt found the disk full.
    no_space: bool,
    /// Somebody waits for a segment: filling does not rest meanwhile.
    awaited: bool,
    stopped: bool,
}

impl State {
    fn full(&self) -> bool {
        self.no_space && self.ready.len() <= RESERVE
    }
}

impl Supply {
    pub(super) fn new(
        plan: Plan,
        failure: Arc<Failure>,
        ready: VecDeque<Segment>,
        spares: Vec<PathBuf>,
        next: u64,
    ) -> Self {
        let spares = VecDeque::from(spares);
        let state = State {
            ready,
            spares,
            next,
            no_space: false,
            awaited: false,
            stopped: false,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self {
            plan,
            failure,
            state,
            changed,
            appended: AtomicU64::new(0),
        }
    }

    /// What a failure of the preparing and of the writing have in common.
    pub(super) fn failure(&self) -> Arc<Failure> {
        self.failure.clone()
    }

    /// Takes the next segment, waiting for it unless the disk is full.
    pub(super) fn take(&self, class: Class) -> Result<Segment, LogError> {
        let kept = if class == Class::Accept { RESERVE } else { 0 };
        let mut state = self.state.lock();
        loop {
            self.failure.check()?;
            if state.ready.len() > kept {
                let segment = state.ready.pop_front().expect("one is there");
                state.awaited = false;
                drop(state);
                self.changed.notify_all();
                return Ok(segment);
            }
            if state.no_space {
                return Err(LogError::Full);
            }
            if state.stopped {
                return Err(LogError::Failed("it was closed".into()));
            }
            state.awaited = true;
            self.changed.wait(&mut state);
        }
    }

    /// Whether accepts are refused because the disk is full.
    pub(super) fn full(&self) -> bool {
        self.state.lock().full()
    }

    /// Takes files of retired segments for reuse.
    pub(super) fn give_back(&self, files: Vec<PathBuf>) {
        self.state.lock().spares.extend(files);
        self.changed.notify_all();
    }

    /// So many bytes were appended: filling keeps ahead of it.
    pub(super) fn appended(&self, bytes: u64) {
        self.appended.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Keeps [`READY`] segments ready until it is stopped.
    pub(super) fn run(&self) {
        while let Some(job) = self.next_job() {
            let done = match job {
                Job::Prepare(number) => self.prepare_one(number),
                Job::Shorten(file) => self.shorten(&file),
            };
            if let Err(error) = done {
                // A disk that cannot be written is not tried again.
                self.failure.fail(&error);
                self.stop();
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.stopped || self.failure.check().is_err() {
                return None;
            }
            if state.ready.len() < READY {
                return Some(Job::Prepare(state.next));
            }
            if state.spares.len() > self.plan.spares {
                return state.spares.pop_front().map(Job::Shorten);
            }
            self.changed.wait(&mut state);
        }
    }

    fn prepare_one(&self, number: u64) -> Result<(), LogError> {
        let prepared = self.prepare(number);
        let mut state = self.state.lock();
        match prepared {
            Ok(Some(segment)) => {
                state.ready.push_back(segment);
                state.next = number + 1;
                if std::mem::take(&mut state.no_space) {
                    tracing::info!("there is space for the log again");
                }
            }
            Ok(None) => {}
            Err(error) if error.is_no_space() => {
                if !std::mem::replace(&mut state.no_space, true) {
                    tracing::warn!(%error, "no space for the next segment of the log");
                }
                self.changed.notify_all();
                self.changed.wait_for(&mut state, RETRY);
            }
            Err(error) => return Err(error),
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Makes segment `number` of a spare or of a new file; `None` when it was stopped meanwhile.
    /// What was filled until then is kept and gone on with.
    pub(super) fn prepare(&self, number: u64) -> Result<Option<Segment>, LogError> {
        let spare = self.state.lock().spares.pop_front();
        let source = spare
            .clone()
            .unwrap_or_else(|| self.plan.dir.join(PREPARING));
        let prepared = self.prepare_from(&source, number);
        if let (Some(spare), Err(_) | Ok(None)) = (spare, &prepared) {
            self.state.lock().spares.push_back(spare);
        }
        prepared
    }

    fn prepare_from(&self, source: &Path, number: u64) -> Result<Option<Segment>, LogError> {
        let plan = &self.plan;
        let file = plan
            .access
            .open(source)
            .map_err(LogError::io("open", source))?;
        if !self.fill(&file, source)? {
            return Ok(None);
        }
        let (segment_bytes, store, salt) = (plan.segment_bytes, plan.store, random());
        let header = SegmentHeader {
            number,
            segment_bytes,
            store,
            salt,
        };
        plan.medium
            .write(&file, header.page().as_slice(), 0)
            .map_err(LogError::io("write the header of", source))?;
        self.sync(&file, source)?;
        let point = plan.failpoints.hit(Failpoints::SEGMENT_PREPARED);
        point.map_err(LogError::io("prepare", source))?;
        let path = plan.dir.join(segment_name(number));
        fs::rename(source, &path).map_err(LogError::io("rename", source))?;
        sync_names(&plan.dir)?;
        Ok(Some(Segment { header, path, file }))
    }

    /// Brings a file to the size of a segment, from the length on that it has; false when it was
    /// stopped meanwhile.
    fn fill(&self, file: &fs::File, path: &Path) -> Result<bool, LogError> {
        let plan = &self.plan;
        let length = file
            .metadata()
            .map_err(LogError::io("look at", path))?
            .len();
        if length > plan.segment_bytes {
            file.set_len(plan.segment_bytes)
                .map_err(LogError::io("shorten", path))?;
        }
        let zeros = AlignedBuffer::zeros(PIECE);
        let begun = self.appended.load(Ordering::Relaxed);
        let (mut at, mut filled) = (length, 0);
        if at < plan.segment_bytes {
            // The last piece may be there in part.
            at -= at % PIECE as u64;
        }
        while at < plan.segment_bytes {
            let piece = &zeros.as_slice()[..PIECE.min((plan.segment_bytes - at) as usize)];
            plan.medium
                .fill(file, piece, at)
                .map_err(LogError::io("fill", path))?;
            self.sync(file, path)?;
            at += piece.len() as u64;
            filled += piece.len() as u64;
            if !self.pause(filled, begun) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn sync(&self, file: &fs::File, path: &Path) -> Result<(), LogError> {
        if self.plan.access.direct {
            return Ok(());
        }
        self.plan
            .medium
            .sync(file)
            .map_err(LogError::io("sync", path))
    }

    /// Lets the disk rest after a piece; false when the log is being closed.
    fn pause(&self, filled: u64, begun: u64) -> bool {
        let mut state = self.state.lock();
        if state.stopped {
            return false;
        }
        if !state.ready.is_empty() && !state.awaited {
            let appended = self.appended.load(Ordering::Relaxed) - begun;
            let pause = if filled < LEAD * appended {
                PAUSE_BEHIND
            } else {
                PAUSE
            };
            self.changed.wait_for(&mut state, pause);
        }
        !state.stopped
    }

    /// Gives the space of a surplus file back in steps; stops early when it can be used.
    fn shorten(&self, path: &Path) -> Result<(), LogError> {
        let refused = |operation| LogError::io(operation, path);
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(refused("open"))?;
        let mut length = file.metadata().map_err(refused("look at"))?.len();
        while length > 0 {
            let mut state = self.state.lock();
            if state.stopped || state.ready.len() < READY {
                state.spares.push_front(path.to_owned());
                return Ok(());
            }
            self.changed.wait_for(&mut state, SHORTEN_PAUSE);
            drop(state);
            length = length.saturating_sub(SHORTEN);
            file.set_len(length).map_err(refused("shorten"))?;
        }
        fs::remove_file(path).map_err(refused("remove"))
    }
}

enum Job {
    Prepare(u64),
    Shorten(PathBuf),
}

/// A number that no earlier life of a file had, from the randomness of the standard hasher.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0).max(1)
}
