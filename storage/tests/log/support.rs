//! A log in a directory of its own, small enough that a test sees many segments.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use zajil_model::time::{Clock, Mono, Timestamp};
use zajil_storage::embedded::log::{
    Class, Disk, FileLog, LogConfig, LogError, Lsn, Medium, Record, Recovery,
};

/// Fourteen pages for groups, a page for the header, and one that stays empty.
pub(crate) const SEGMENT: u64 = 64 << 10;

/// A clock that stands still: the log only measures with it.
#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn mono(&self) -> Mono {
        Mono::default()
    }
}

/// A record as it is replayed.
pub(crate) type Replayed = (Lsn, u8, Vec<u8>);

pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory for the test")
}

pub(crate) fn config(dir: &Path) -> LogConfig {
    let clock = Arc::new(Stopped);
    LogConfig {
        segment_bytes: SEGMENT,
        ..LogConfig::new(dir.join("log"), clock)
    }
}

pub(crate) fn buffered(dir: &Path) -> LogConfig {
    LogConfig {
        direct: false,
        ..config(dir)
    }
}

/// Opens a log and collects what is replayed.
pub(crate) fn try_open(
    config: LogConfig,
    start: Lsn,
) -> Result<(FileLog, Recovery, Vec<Replayed>), LogError> {
    let mut replayed = Vec::new();
    let (log, recovery) = FileLog::open(config, start, |lsn, kind, payload| {
        replayed.push((lsn, kind, payload.to_vec()));
        Ok(())
    })?;
    Ok((log, recovery, replayed))
}

pub(crate) fn open(config: LogConfig) -> (FileLog, Recovery, Vec<Replayed>) {
    try_open(config, Lsn::ZERO).expect("the log opens")
}

/// Writes one group of outcomes and answers what a replay must show.
pub(crate) fn write(log: &FileLog, payloads: &[&[u8]]) -> Vec<Replayed> {
    let records: Vec<_> = payloads.iter().map(|payload| other(payload)).collect();
    let positions = log.write_group(&records).expect("the group is written");
    let replayed = |(lsn, payload): (Lsn, &&[u8])| (lsn, 1, payload.to_vec());
    positions.into_iter().zip(payloads).map(replayed).collect()
}

pub(crate) fn other(payload: &[u8]) -> Record<'_> {
    Record {
        kind: 1,
        payload,
        class: Class::Other,
    }
}

pub(crate) fn accept(payload: &[u8]) -> Record<'_> {
    Record {
        kind: 2,
        payload,
        class: Class::Accept,
    }
}

pub(crate) fn segment_file(dir: &Path, number: u64) -> PathBuf {
    dir.join("log").join(format!("{number:012}.seg"))
}

/// Waits for another thread to bring something about.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it never came about that {what}");
}

/// A disk on which so many bytes can still be taken.
#[derive(Debug)]
pub(crate) struct SmallDisk(pub(crate) AtomicU64);

impl Medium for SmallDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        Disk.write(file, bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        Disk.sync(file)
    }

    fn fill(&self, file: &File, zeros: &[u8], at: u64) -> io::Result<()> {
        let length = zeros.len() as u64;
        let left = |space: u64| space.checked_sub(length);
        if self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
            .is_err()
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Disk.fill(file, zeros, at)
    }
}

/// A disk that can be told to fail.
#[derive(Debug, Default)]
pub(crate) struct FaultyDisk {
    pub(crate) syncs_fail: AtomicBool,
    /// The next write leaves only so many bytes behind (and one that begins a file is let pass).
    pub(crate) tears_at: AtomicU64,
    pub(crate) tears: AtomicBool,
    pub(crate) attempts: AtomicU64,
}

impl Medium for FaultyDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if at == 0 || !self.tears.load(Ordering::SeqCst) {
            return Disk.write(file, bytes, at);
        }
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let kept = self.tears_at.load(Ordering::SeqCst).min(bytes.len() as u64) as usize;
        file.write_all_at(&bytes[..kept], at)?;
        Err(io::Error::other("the disk was torn away"))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.syncs_fail.load(Ordering::SeqCst) {
            self.attempts.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::other("the sync failed"));
        }
        Disk.sync(file)
    }

    fn fill(&self, file: &File, zeros: &[u8], at: u64) -> io::Result<()> {
        Disk.fill(file, zeros, at)
    }
}
