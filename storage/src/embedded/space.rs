//! How much room the file system of the data has, found out before it runs out.
//!
//! The log finds a full disk while it prepares a segment, and waits. fjall does not: a journal, a
//! table or a compaction that meets a full disk poisons it, and only a restart helps. So the store
//! looks at the free space itself and stops while there is still room for all that has begun:
//!
//! | free | accepts | outcomes and rows | flushes, new segments |
//! | --- | --- | --- | --- |
//! | `min_free` and more | taken | taken | go on |
//! | less | refused | taken | go on |
//! | less than half of it | refused | taken, into the segments that are ready | wait |
//!
//! Each step is undone when a quarter more than its mark is free, so that a disk at the edge does
//! not make the store change its mind all the time.
//!
//! What this does not cover: somebody else who takes all of `min_free` between two looks while a
//! compaction runs. Then the store fails, the process ends, and it opens again once there is room;
//! nothing that was answered is lost.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::log::{Disk, Medium};
use crate::metrics;

/// What has to be free when nothing else is said, in bytes. Half of it is for what goes on when
/// accepts are refused already (two segments of the log, and flushes), the other half for what
/// fjall has begun by then: a journal of 128 MiB, or a compaction that writes some tables of
/// 64 MiB before it drops the old ones.
pub const MIN_FREE: u64 = 512 << 20;

/// On a small file system it is this share of it instead (a twentieth), which is less below
/// 10 GiB: most of a small disk must still be usable.
const MIN_FREE_SHARE: u64 = 20;

/// The share of a mark (a quarter) by which it must be exceeded before what it stopped goes on.
const BACK_SHARE: u64 = 4;

/// How often the free space is looked at: a writer of 1 GB/s takes half of [`MIN_FREE`] meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The room of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What may still be taken, in bytes.
    pub free: u64,
    /// What there is in all, in bytes.
    pub size: u64,
}

/// Tells how much room there is.
pub trait Space: fmt::Debug + Send + Sync {
    /// The room of the file system that holds `dir`.
    ///
    /// # Errors
    /// What the system says; what was known before then goes on to count.
    fn room(&self, dir: &Path) -> io::Result<Room>;
}

/// The file system itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

impl Space for FileSystem {
    fn room(&self, dir: &Path) -> io::Result<Room> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(Room {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            size: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }
}

/// What the free space allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Everything.
    Enough,
    /// All but accepts.
    Low,
    /// Only what needs no more room.
    Out,
}

impl Level {
    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Enough,
            1 => Self::Low,
            _ => Self::Out,
        }
    }
}

/// Where the levels begin, in bytes.
#[derive(Clone, Copy, Debug)]
struct Marks {
    low: u64,
    out: u64,
}

impl Marks {
    fn new(min_free: Option<u64>, size: u64) -> Self {
        let low = min_free.unwrap_or_else(|| MIN_FREE.min(size / MIN_FREE_SHARE));
        Self { low, out: low / 2 }
    }

    fn level(self, before: Level, free: u64) -> Level {
        let is_below =
            |mark: u64, was_below| free < mark + if was_below { mark / BACK_SHARE } else { 0 };
        if is_below(self.out, before == Level::Out) {
            Level::Out
        } else if is_below(self.low, before >= Level::Low) {
            Level::Low
        } else {
            Level::Enough
        }
    }
}

/// Looks at the free space, and knows what it allows.
#[derive(Debug)]
pub(super) struct Guard {
    space: Arc<dyn Space>,
    dir: PathBuf,
    marks: Marks,
    free: AtomicU64,
    level: AtomicU8,
    /// Held during a look, which may take as long as the disk does.
    looking: Mutex<()>,
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Guard {
    /// Looks for the first time.
    pub(super) fn new(
        space: Arc<dyn Space>,
        dir: PathBuf,
        min_free: Option<u64>,
    ) -> io::Result<Self> {
        let size = space.room(&dir)?.size;
        let guard = Self {
            space,
            dir,
            marks: Marks::new(min_free, size),
            free: AtomicU64::new(u64::MAX),
            level: AtomicU8::new(Level::Enough as u8),
            looking: Mutex::default(),
            stopped: Mutex::new(false),
            changed: Condvar::new(),
        };
        guard.look();
        Ok(guard)
    }

    /// What the free space allowed at the last look.
    pub(super) fn level(&self) -> Level {
        Level::from_number(self.level.load(Ordering::Acquire))
    }

    /// Looks now.
    pub(super) fn look(&self) -> Level {
        let _one_at_a_time = self.looking.lock();
        let before = self.level();
        let free = match self.space.room(&self.dir) {
            Ok(room) => room.free,
            Err(error) => {
                tracing::debug!(%error, "cannot tell how much space is free");
                return before;
            }
        };
        self.free.store(free, Ordering::Relaxed);
        metrics::free_space(free);
        let now = self.marks.level(before, free);
        self.level.store(now as u8, Ordering::Release);
        let Marks { low, out } = self.marks;
        match now {
            _ if now == before => {}
            Level::Enough => tracing::info!(free, "there is space again: accepts are taken"),
            Level::Low => tracing::warn!(free, low, "little space is left: accepts are refused"),
            Level::Out => tracing::warn!(free, out, "hardly any space is left: flushes wait"),
        }
        now
    }

    /// Looks from time to time until it is stopped.
    pub(super) fn watch(&self) {
        let mut stopped = self.stopped.lock();
        while !*stopped {
            self.changed.wait_for(&mut stopped, LOOK_EVERY);
            self.look();
        }
    }

    /// Ends [`Self::watch`].
    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    /// Why accepts are refused, for people.
    pub(super) fn reason(&self) -> String {
        let (free, low) = (self.free.load(Ordering::Relaxed), self.marks.low);
        let mib = |bytes: u64| bytes >> 20;
        format!(
            "the disk is nearly full: {} MiB are free, and accepts need {} MiB",
            mib(free),
            mib(low.div_ceil(1 << 20) << 20)
        )
    }

    /// Whether so many bytes may be taken for the log.
    fn spares(&self, bytes: u64) -> bool {
        let level = self.look();
        let left = self.free.load(Ordering::Relaxed).saturating_sub(bytes);
        level < Level::Out && left >= self.marks.out
    }
}

/// The disk, of which the log takes no more than the guard allows.
#[derive(Debug)]
pub(super) struct GuardedDisk(pub(super) Arc<Guard>);

impl Medium for GuardedDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        Disk.write(file, bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        Disk.sync(file)
    }

    fn fill(&self, file: &File, zeros: &[u8], at: u64) -> io::Result<()> {
        if !self.0.spares(zeros.len() as u64) {
            let reason = "what is free is left to work that has begun";
            return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
        }
        Disk.fill(file, zeros, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_small_file_system_keeps_a_smaller_share_free_unless_it_is_said() {
        let low = |min_free, size| Marks::new(min_free, size).low;

        assert_eq!(low(None, 1_000 << 30), MIN_FREE);
        assert_eq!(low(None, 200 * MIB), 10 * MIB);
        assert_eq!(low(Some(32 * MIB), 200 * MIB), 32 * MIB);
        assert_eq!(low(Some(32 * MIB), 1_000 << 30), 32 * MIB);
    }

    #[test]
    fn a_level_is_left_only_with_a_quarter_more_than_its_mark() {
        let marks = Marks::new(Some(100), 1_000);
        let after = |steps: &[u64]| {
            let step = |level, free: &u64| marks.level(level, *free);
            steps.iter().fold(Level::Enough, step)
        };

        assert_eq!(after(&[100]), Level::Enough);
        assert_eq!(after(&[99]), Level::Low);
        assert_eq!(after(&[99, 124]), Level::Low);
        assert_eq!(after(&[99, 125]), Level::Enough);
        assert_eq!(after(&[49]), Level::Out);
        assert_eq!(after(&[49, 61]), Level::Out);
        assert_eq!(after(&[49, 62]), Level::Low);
        assert_eq!(after(&[49, 124]), Level::Low);
        assert_eq!(after(&[49, 125]), Level::Enough);
    }
}
