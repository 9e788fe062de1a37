//! Opening: lock, projection, replay of the log, a new epoch.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use zajil_model::id::{Epoch, Tick};

use super::EmbeddedConfig;
use super::keyspaces::Keyspaces;
use super::log::{Class, FileLog, LogConfig, LogError, Lsn, Record as LogRecord};
use super::shared::{LogChunks, Shared};
use super::space::{Guard, GuardedDisk, Level};
use crate::codec::{self, Record, encode_alone};
use crate::projection::{Positioned, Projection};
use crate::transfer::{CEILING, EPOCH, STORE};
use crate::{RowKey, StoreError, Table, metrics};

/// The file that is locked.
const LOCK: &str = "lock";

/// The directory of the log.
pub(super) const LOG: &str = "log";

/// The directory of the projection.
pub(super) const PROJECTION: &str = "projection";

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works with it.
    #[error("the data directory {} is already used by another process", .0.display())]
    InUse(PathBuf),
    /// The system refused something.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log does not open, or holds what cannot be.
    #[error("the log does not open: {0}")]
    Log(#[from] LogError),
    /// The projection does not open, or holds what cannot be.
    #[error("the store does not open: {0}")]
    Store(#[from] StoreError),
}

/// Makes the system's refusal an error of opening.
pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io {
        operation,
        path,
        source,
    }
}

/// Whether there is a store in a directory.
pub fn is_there(dir: &Path) -> bool {
    dir.join(LOG).is_dir()
}

/// What opening makes.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) shared: Arc<Shared>,
    pub(super) log: Arc<FileLog>,
    pub(super) epoch: Epoch,
    pub(super) ceiling: Tick,
}

/// Takes the lock of a data directory, making the directory if there is none.
fn lock(dir: &Path) -> Result<File, OpenError> {
    fs::create_dir_all(dir).map_err(io("make", dir))?;
    let path = dir.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(io("lock", &path)(source)),
    }
}

/// Opens everything and begins a new epoch.
pub(super) fn open(config: &EmbeddedConfig) -> Result<Opened, OpenError> {
    let lock = lock(&config.dir)?;
    let keyspaces = Keyspaces::open(&config.dir.join(PROJECTION))?;
    let projection = Projection::open(keyspaces, LogChunks::default(), config.budgets)?;
    let (space, dir) = (Arc::clone(&config.space), config.dir.clone());
    let guard = Guard::new(space, dir, config.min_free)
        .map_err(io("tell the free space of", &config.dir))?;
    let guard = Arc::new(guard);
    let log = Arc::new(replay(config, &guard, &projection)?);
    projection.source().open(Arc::clone(&log));
    projection.advance(log.end().0);

    let shared = Shared::new(projection, guard, config);
    let epoch = Epoch(number(&shared, EPOCH)?.unwrap_or(0)).next();
    let ceiling = Tick(number(&shared, CEILING)?.unwrap_or(0));
    let mut rows = vec![numbered(EPOCH, epoch.0)];
    if number(&shared, STORE)?.is_none() {
        rows.push(numbered(STORE, random()));
    }
    write(&shared, &log, Record::Rows(rows))?;
    tracing::info!(epoch = epoch.0, "the store is open");
    Ok(Opened {
        lock,
        shared: Arc::new(shared),
        log,
        epoch,
        ceiling,
    })
}

/// Opens the log and applies what the projection does not know yet.
fn replay(
    config: &EmbeddedConfig,
    guard: &Arc<Guard>,
    projection: &Projection<Keyspaces, LogChunks>,
) -> Result<FileLog, OpenError> {
    let (applied, position) = projection.stands_at();
    let on_fatal = Arc::clone(&config.on_fatal);
    let log = LogConfig {
        segment_bytes: config.segment_bytes,
        direct: config.direct,
        begins: Lsn(config.log_begins),
        medium: Arc::new(GuardedDisk(Arc::clone(guard))),
        failpoints: config.failpoints.clone(),
        on_fatal: Arc::new(move |error| on_fatal(&error.to_string())),
        on_group: Arc::new(|group| metrics::group_written(group.bytes, group.took)),
        ..LogConfig::new(config.dir.join(LOG), Arc::clone(&config.clock))
    };
    let mut append: Vec<Positioned> = Vec::new();
    let (log, recovery) = FileLog::open(log, Lsn(position), |lsn, _kind, payload| {
        if lsn.0 <= applied {
            return Ok(());
        }
        let (place, record) = codec::decode(payload)?;
        // What is left of an append without its last record was never answered.
        if place.first {
            append.clear();
        }
        append.push(Positioned {
            lsn: lsn.0,
            len: payload.len() as u32,
            record,
        });
        if place.last {
            projection.apply(std::mem::take(&mut append))?;
            let due = projection.unflushed_bytes() > config.budgets.flush_bytes;
            if due && guard.look() < Level::Out {
                projection.flush()?;
            }
        }
        Ok(())
    })?;
    if recovery.records > 0 || recovery.torn_bytes > 0 {
        let (records, torn) = (recovery.records, recovery.torn_bytes);
        tracing::info!(records, torn_bytes = torn, "the log was replayed");
    }
    Ok(log)
}

/// Writes a record before the committer runs.
fn write(shared: &Shared, log: &FileLog, record: Record) -> Result<(), OpenError> {
    let encoded = encode_alone(record);
    let payload = encoded.payload.as_slice();
    let written = LogRecord {
        kind: payload[1],
        payload,
        class: Class::Other,
    };
    let lsn = log.write_group(&[written])?[0];
    let len = payload.len() as u32;
    shared.projection.apply(vec![Positioned {
        lsn: lsn.0,
        len,
        record: encoded.record,
    }])?;
    shared.projection.advance(log.end().0);
    shared.applied.store(lsn.0, Ordering::Release);
    Ok(())
}

fn key(name: &str) -> RowKey {
    RowKey::new(Table::Meta, name, Vec::new())
}

/// A row with a number.
fn numbered(name: &str, number: u64) -> (RowKey, Option<Vec<u8>>) {
    (key(name), Some(number.to_be_bytes().to_vec()))
}

/// The row that keeps the ceiling.
pub(super) fn ceiling_row(ceiling: Tick) -> crate::RowWrite {
    crate::RowWrite::put(key(CEILING), ceiling.0.to_be_bytes().to_vec())
}

fn number(shared: &Shared, name: &'static str) -> Result<Option<u64>, StoreError> {
    let Some(row) = shared.projection.row(&key(name))? else {
        return Ok(None);
    };
    let bytes = row.value.try_into().map_err(|_| StoreError::Corrupt {
        what: "row of the store",
        detail: format!("{name} is not eight bytes long"),
    })?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

/// A number that no other store has, most likely.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
