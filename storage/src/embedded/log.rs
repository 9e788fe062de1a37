//! The file log: one append-only sequence of records in segments of a fixed size.
//!
//! Everything that a node promises to keep is written here before it is answered; all else that
//! is stored can be rebuilt from it.
//!
//! ```text
//! push ─► committer ─► group ─► write + sync ─► stage.durable        one thread
//!            (queue)     └ place in the segment ◄─ preparer          one thread
//! read ─────────────────────────────► files, through the page cache  any thread
//! ```
//!
//! What is promised, and by what:
//! * A group is durable as a whole or not there: `record` frames it, `recovery` cuts a torn end.
//! * Damage is never taken for an end: behind a torn end there is nothing, or the open refuses.
//! * A segment that is used again shows nothing of its past: every check sum begins with a salt
//!   that belongs to one life of the file.
//! * A full disk is found out while a segment is prepared, never in the middle of a group; then
//!   accepts are refused, and what happened to messages goes on into a reserve.
//! * After a failed write or sync nothing is written any more, and the process is told to end.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;

mod buffer;
mod committer;
mod config;
mod error;
mod failure;
mod preparer;
mod reader;
mod record;
mod recovery;
mod segment;
mod writer;

pub use committer::{
    Class, Committer, GROUP_BYTES, Item, OTHER_SHARE, PushError, QUEUE_BYTES, QUEUE_ITEMS, Stage,
};
pub use config::{Failpoints, GroupWritten, LogConfig, OnFatal, OnGroup};
pub use error::LogError;
pub use record::RECORD_OVERHEAD;
pub use recovery::ReplayError;
pub use segment::{Disk, Medium};
pub use writer::Group;

use failure::Failure;
use preparer::{Plan, Supply};
use reader::Reader;
use segment::{Access, FIRST, FIRST_NUMBER, Listing, Segment, SegmentHeader};
use writer::Writer;

/// The size of a segment, in bytes: at a million messages a second one lasts a second, and at
/// the usual load a period of retention is still hundreds of them.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// The largest payload of a record, in bytes: a quarter of a segment, so that little of one is
/// wasted when the next record does not fit.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// A position in the log: the number of the segment times its size, plus the byte in it. It
/// grows with every record and never names two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before every record.
    pub const ZERO: Self = Self(0);
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an open found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that were replayed.
    pub records: u64,
    /// The last record that was read, replayed or before the start; zero if there was none.
    pub last: Lsn,
    /// Bytes of a group that was being written when the process ended, and were cut.
    pub torn_bytes: u64,
}

/// How the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// It takes records.
    Ready,
    /// The disk is full: accepts are refused. It passes by itself.
    Full,
    /// It failed and takes nothing any more.
    Failed,
}

/// One record to write.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it is, in the words of the caller.
    pub kind: u8,
    /// What it holds.
    pub payload: &'a [u8],
    /// How it is treated when the disk is full.
    pub class: Class,
}

/// A file log that is open. Any thread may read; groups exclude each other. Dropping it ends its
/// thread.
#[derive(Debug)]
pub struct FileLog {
    config: LogConfig,
    access: Access,
    failure: Arc<Failure>,
    supply: Arc<Supply>,
    writer: Mutex<Writer>,
    reader: Reader,
    end: AtomicU64,
    /// The number of the oldest segment; held while segments are retired.
    oldest: Mutex<u64>,
    groups: AtomicU64,
    written: AtomicU64,
    preparer: Option<JoinHandle<()>>,
}

impl FileLog {
    /// Opens the log in `config.dir`, or begins one there, and hands every record from `start`
    /// on to `on_record`, in order: position, kind and payload. `start` is a position that
    /// [`Group::commit`] or [`FileLog::end`] answered, or [`Lsn::ZERO`] for the oldest record.
    /// The caller sees to it that nobody else has the directory open.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when there is damage before a group that is whole,
    /// [`LogError::Missing`] when the log does not reach from `start` on,
    /// [`LogError::Refused`] when `on_record` fails, and whatever the system refuses.
    pub fn open(
        config: LogConfig,
        start: Lsn,
        on_record: impl FnMut(Lsn, u8, &[u8]) -> Result<(), ReplayError>,
    ) -> Result<(Self, Recovery), LogError> {
        let listing = Listing::read(&config.dir)?;
        let access = if config.direct {
            Access::probe(&config.dir)?
        } else {
            Access::BUFFERED
        };
        let mut opening = Opening {
            config,
            access,
            spares: listing.spares,
        };
        if listing.segments.is_empty() {
            return opening.begin(start);
        }
        let (dir, size) = (&opening.config.dir, opening.config.segment_bytes);
        let tail = recovery::recover(dir, size, &listing.segments, start, on_record)?;
        let last = *listing.segments.last().expect("the list is not empty");
        let ready = tail.ready.iter().map(|header| opening.segment(*header));
        let ready = ready.collect::<Result<VecDeque<_>, _>>()?;
        let supply = opening.supply(tail.segment.store, ready, last + 1);
        let segment = opening.segment(tail.segment)?;
        let writer = Writer::new(segment, tail.offset, tail.next_group, tail.next_record);
        let log = opening.start(supply, writer, listing.segments[0])?;
        Ok((log, tail.recovery))
    }

    /// Begins a group with room for records of `bytes` together: their payloads and
    /// [`RECORD_OVERHEAD`] for each. It waits while another group lives.
    ///
    /// # Errors
    /// [`LogError::Full`] when there is no space for this class, [`LogError::TooLarge`] when no
    /// group can hold so much, [`LogError::Failed`] when the log is failed.
    pub fn group(&self, bytes: usize, class: Class) -> Result<Group<'_>, LogError> {
        Group::begin(self, bytes, class)
    }

    /// Writes records as one group, waits until it is durable, and answers their positions. If
    /// one of them is an accept the group is one.
    ///
    /// # Errors
    /// As [`FileLog::group`] and [`Group::commit`].
    pub fn write_group(&self, records: &[Record<'_>]) -> Result<Vec<Lsn>, LogError> {
        let bytes = records
            .iter()
            .map(|record| record.payload.len() + RECORD_OVERHEAD)
            .sum();
        let accepts = records.iter().any(|record| record.class == Class::Accept);
        let mut group = self.group(bytes, if accepts { Class::Accept } else { Class::Other })?;
        let positions = records
            .iter()
            .map(|record| group.push(record.kind, record.payload))
            .collect::<Result<_, _>>()?;
        group.commit()?;
        Ok(positions)
    }

    /// The most that the records of one group can take, in bytes.
    pub fn group_limit(&self) -> usize {
        writer::group_limit(self.config.segment_bytes)
    }

    /// Reads the payload, `len` bytes long, of the durable record at `lsn`, from any thread.
    ///
    /// # Errors
    /// [`LogError::Missing`] when it was retired or is not durable yet, [`LogError::Corrupt`]
    /// when it is not what was written, or what the system refuses.
    pub fn read(&self, lsn: Lsn, len: usize) -> Result<Bytes, LogError> {
        if lsn < self.oldest() || lsn >= self.end() {
            return Err(LogError::Missing(lsn));
        }
        // What was retired meanwhile may be gone, or overwritten: that is no damage.
        self.reader.read(lsn, len).map_err(|error| match error {
            _ if lsn < self.oldest() => LogError::Missing(lsn),
            error => error,
        })
    }

    /// Gives the segments that lie wholly below `below` back for reuse, except the one with the
    /// last group; answers how many. What lies below can no longer be the start of an open.
    ///
    /// # Errors
    /// What the system refuses; what was not given back stays in the log.
    pub fn retire(&self, below: Lsn) -> Result<u64, LogError> {
        let size = self.config.segment_bytes;
        let upto = (below.0 / size).min(self.end().0 / size);
        let mut oldest = self.oldest.lock();
        let first = *oldest;
        let mut files = Vec::new();
        while *oldest < upto {
            let path = self.config.dir.join(segment::segment_name(*oldest));
            let spare = self.config.dir.join(segment::spare_name(*oldest));
            std::fs::rename(&path, &spare).map_err(LogError::io("retire", &path))?;
            files.push(spare);
            *oldest += 1;
        }
        let count = *oldest - first;
        self.reader.forget(*oldest);
        drop(oldest);
        if count > 0 {
            segment::sync_names(&self.config.dir)?;
            self.supply.give_back(files);
        }
        Ok(count)
    }

    /// Declares the log failed for good, as a failed write does.
    pub fn fail(&self, reason: &str) {
        self.failure.fail(&LogError::Failed(reason.to_owned()));
    }

    /// How it is.
    pub fn state(&self) -> LogState {
        match self.failure.check() {
            Err(_) => LogState::Failed,
            Ok(()) if self.supply.full() => LogState::Full,
            Ok(()) => LogState::Ready,
        }
    }

    /// The position before the oldest record.
    pub fn oldest(&self) -> Lsn {
        Lsn(*self.oldest.lock() * self.config.segment_bytes + FIRST)
    }

    /// The position behind the last durable record.
    pub fn end(&self) -> Lsn {
        Lsn(self.end.load(Ordering::Acquire))
    }

    /// Bytes from the oldest record to the end.
    pub fn bytes(&self) -> u64 {
        self.end().0 - self.oldest().0
    }

    /// Segments that hold records, the one in use included.
    pub fn segments(&self) -> u64 {
        self.end().0 / self.config.segment_bytes - *self.oldest.lock() + 1
    }

    /// The size of its segments, in bytes.
    pub fn segment_bytes(&self) -> u64 {
        self.config.segment_bytes
    }

    /// Groups written since the open.
    pub fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Bytes written since the open, padding included.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether it is written past the page cache.
    pub fn is_direct(&self) -> bool {
        self.access.direct
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    fn hit(&self, name: &'static str, writer: &Writer) -> Result<(), LogError> {
        let point = self.config.failpoints.hit(name);
        point.map_err(LogError::io(name, &writer.segment.path))
    }
}

impl Drop for FileLog {
    fn drop(&mut self) {
        self.supply.stop();
        if let Some(Err(_panic)) = self.preparer.take().map(JoinHandle::join) {
            tracing::error!("the thread that prepares segments panicked");
        }
    }
}

/// What is known while a log is being opened.
struct Opening {
    config: LogConfig,
    access: Access,
    spares: Vec<PathBuf>,
}

impl Opening {
    /// Begins a log in an empty directory.
    fn begin(mut self, start: Lsn) -> Result<(FileLog, Recovery), LogError> {
        if start != Lsn::ZERO {
            return Err(LogError::Missing(start));
        }
        let number = FIRST_NUMBER + self.config.begins.0.div_ceil(self.config.segment_bytes);
        let supply = self.supply(preparer::random(), VecDeque::new(), number + 1);
        let segment = supply.prepare(number)?.expect("nobody stops it yet");
        let writer = Writer::new(segment, FIRST, 0, 0);
        Ok((self.start(supply, writer, number)?, Recovery::default()))
    }

    fn segment(&self, header: SegmentHeader) -> Result<Segment, LogError> {
        let path = self.config.dir.join(segment::segment_name(header.number));
        let file = self
            .access
            .open(&path)
            .map_err(LogError::io("open", &path))?;
        Ok(Segment { header, path, file })
    }

    fn supply(&mut self, store: u64, ready: VecDeque<Segment>, next: u64) -> Supply {
        let plan = Plan {
            dir: self.config.dir.clone(),
            segment_bytes: self.config.segment_bytes,
            store,
            access: self.access,
            spares: self.config.spares,
            medium: self.config.medium.clone(),
            failpoints: self.config.failpoints.clone(),
        };
        let failure = Arc::new(Failure::new(self.config.on_fatal.clone()));
        Supply::new(plan, failure, ready, std::mem::take(&mut self.spares), next)
    }

    fn start(self, supply: Supply, writer: Writer, oldest: u64) -> Result<FileLog, LogError> {
        let supply = Arc::new(supply);
        let preparing = supply.clone();
        let preparer = std::thread::Builder::new()
            .name("log-prepare".into())
            .spawn(move || preparing.run())
            .map_err(LogError::io("start the preparer of", &self.config.dir))?;
        let end = writer.segment.header.lsn(writer.offset);
        Ok(FileLog {
            reader: Reader::new(self.config.dir.clone(), self.config.segment_bytes),
            access: self.access,
            failure: supply.failure(),
            supply,
            writer: Mutex::new(writer),
            end: AtomicU64::new(end.0),
            oldest: Mutex::new(oldest),
            groups: AtomicU64::new(0),
            written: AtomicU64::new(0),
            preparer: Some(preparer),
            config: self.config,
        })
    }
}
