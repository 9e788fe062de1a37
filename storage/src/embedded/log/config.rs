//! Where a log is, how it behaves, and whom it tells.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zajil_model::time::Clock;

use super::{Disk, LogError, Lsn, Medium, SEGMENT_BYTES};

/// Retired segments kept for reuse when nothing else is said: 1 GiB.
const SPARES: usize = 16;

/// Called once, when the log failed for good: the process must end. It runs on the thread that
/// found the failure, in the middle of a call to the log, so it must not call the log itself.
pub type OnFatal = Arc<dyn Fn(&LogError) + Send + Sync>;

/// Told of every group that became durable, on the thread that wrote it.
pub type OnGroup = Arc<dyn Fn(GroupWritten) + Send + Sync>;

/// A group that became durable.
#[derive(Clone, Copy, Debug)]
pub struct GroupWritten {
    /// How many records it has.
    pub records: u32,
    /// Its size on disk in bytes, padding included.
    pub bytes: u64,
    /// How long the write and its sync took.
    pub took: Duration,
}

/// Where a log is and how it behaves.
#[derive(Clone)]
pub struct LogConfig {
    /// The directory, which holds nothing else.
    pub dir: PathBuf,
    /// The size of a segment, in bytes. It never changes for a log; tests choose small ones.
    pub segment_bytes: u64,
    /// Where a log that is begun has its first record, or behind it.
    pub begins: Lsn,
    /// How many retired segments are kept for reuse; the space of more is given back.
    pub spares: usize,
    /// Whether to write past the page cache where the file system can.
    pub direct: bool,
    /// Measures the syncs.
    pub clock: Arc<dyn Clock>,
    /// What files are written with.
    pub medium: Arc<dyn Medium>,
    /// Where crash tests interfere.
    pub failpoints: Failpoints,
    /// Ends the process.
    pub on_fatal: OnFatal,
    /// Counts and measures.
    pub on_group: OnGroup,
}

impl LogConfig {
    /// A log on the disk with the usual sizes, which tells nobody of failures and groups.
    pub fn new(dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: SEGMENT_BYTES,
            begins: Lsn::ZERO,
            spares: SPARES,
            direct: true,
            clock,
            medium: Arc::new(Disk),
            failpoints: Failpoints::default(),
            on_fatal: Arc::new(|_| {}),
            on_group: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for LogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogConfig")
            .field("dir", &self.dir)
            .field("segment_bytes", &self.segment_bytes)
            .field("spares", &self.spares)
            .field("direct", &self.direct)
            .finish_non_exhaustive()
    }
}

type Hit = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

/// Named steps at which a crash test may end the process, or make the step fail.
#[derive(Clone, Default)]
pub struct Failpoints(Option<Hit>);

impl Failpoints {
    /// A group is about to be written.
    pub const BEFORE_WRITE: &'static str = "before_write";
    /// A group was written and is about to be synced (where writes do not sync by themselves).
    pub const BEFORE_SYNC: &'static str = "before_sync";
    /// A group is durable, and nobody knows yet.
    pub const AFTER_WRITE: &'static str = "after_write";
    /// Items of a durable group were handed on to be answered.
    pub const AFTER_ACK: &'static str = "after_ack";
    /// What is durable is about to be applied to the projection.
    pub const APPLY: &'static str = "apply";
    /// The next segment is about to be taken into use.
    pub const SEGMENT_ROLL: &'static str = "segment_roll";
    /// A segment is filled and has its header, but not its name.
    pub const SEGMENT_PREPARED: &'static str = "segment_prepared";
    /// The projection is about to be flushed.
    pub const FLUSH: &'static str = "flush";
    /// A flush is durable, and the projection does not know it yet.
    pub const FLUSHED: &'static str = "flushed";

    /// Every step.
    pub const ALL: [&'static str; 9] = [
        Self::BEFORE_WRITE,
        Self::BEFORE_SYNC,
        Self::AFTER_WRITE,
        Self::AFTER_ACK,
        Self::APPLY,
        Self::SEGMENT_ROLL,
        Self::SEGMENT_PREPARED,
        Self::FLUSH,
        Self::FLUSHED,
    ];

    /// Calls `hit` with the name of every step; an error makes the step fail.
    pub fn new(hit: impl Fn(&'static str) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hit)))
    }

    /// The step `name` is reached.
    ///
    /// # Errors
    /// What the test wants to happen there.
    pub fn hit(&self, name: &'static str) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |hit| hit(name))
    }
}

impl fmt::Debug for Failpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failpoints")
            .field(&self.0.is_some())
            .finish()
    }
}
