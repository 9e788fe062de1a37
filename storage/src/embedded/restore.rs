//! Restores: a backup becomes a data directory, whole or not at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zajil_model::time::Clock;

use super::backup::{BYTES, END, FrameReader, PAIRS, SEGMENT, SEGMENT_SIZE, VERSION, segment_name};
use super::item::Answer;
use super::keyspaces::Keyspaces;
use super::open::{LOG, OpenError, PROJECTION};
use super::{EmbeddedConfig, EmbeddedStore, projector};
use crate::codec::{self, varint::Reader};
use crate::kv::{Kv, KvWrite, Space};
use crate::staged::{StageError, StagedFolder};
use crate::transfer::held_row;
use crate::{Entry, RowWrite, StoreError};

/// Why a backup was not restored. The target is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something in the target directory, or it cannot be made.
    #[error(transparent)]
    Target(#[from] StageError),
    /// The file is no backup.
    #[error("{} is no backup", .0.display())]
    NotABackup(PathBuf),
    /// The backup was made by another version.
    #[error("the backup has version {found}; this program reads {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// The backup is damaged or cut off.
    #[error("the backup is damaged at frame {frame}: {detail}")]
    Damaged {
        /// Which frame, from 0.
        frame: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// The system refused something.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was restored does not open.
    #[error("the restored store does not open: {0}")]
    Open(#[from] OpenError),
    /// What was restored cannot be written.
    #[error("cannot write the restored store: {0}")]
    Store(#[from] StoreError),
}

fn failed<'a>(
    operation: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> RestoreError + use<'a> {
    move |source| RestoreError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

/// Makes a data directory of a backup. It is put together beside the target and renamed at the
/// end. The restored store has a row `Meta`/`restored` with the time (microseconds since the
/// Unix epoch, as text), so that nothing is sent before an operator releases it.
///
/// # Errors
/// The target is not empty; the file is no backup, of another version, or damaged; or the system
/// refuses something. Then the target is as it was.
pub fn restore(file: &Path, dir: &Path, clock: Arc<dyn Clock>) -> Result<(), RestoreError> {
    let folder = StagedFolder::begin(dir, ".restoring")?;
    let size = build(file, folder.path())?;
    mark(folder.path(), size, clock)?;
    Ok(folder.name()?)
}

/// Writes the projection and the log; answers the size of a segment.
fn build(file: &Path, part: &Path) -> Result<u64, RestoreError> {
    let input = File::open(file).map_err(failed("open", file))?;
    let (mut frames, version) = FrameReader::begin(input).map_err(failed("read", file))?;
    match version {
        None => return Err(RestoreError::NotABackup(file.to_owned())),
        Some(VERSION) => {}
        Some(found) => return Err(RestoreError::Version { found }),
    }
    let log = part.join(LOG);
    fs::create_dir(&log).map_err(failed("make", &log))?;
    let keyspaces = Keyspaces::open(&part.join(PROJECTION))?;
    let mut segments = Segments {
        dir: &log,
        size: 0,
        open: None,
    };
    loop {
        let frame = frames.count;
        let damaged = |detail: &str| RestoreError::Damaged {
            frame,
            detail: detail.to_owned(),
        };
        let (kind, bytes) = frames.next().map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it ends early"),
            io::ErrorKind::InvalidData => damaged("its check sum is wrong"),
            _ => failed("read", file)(error),
        })?;
        match kind {
            PAIRS => keyspaces.commit(pairs(&bytes)?)?,
            SEGMENT_SIZE => segments.size = number(&bytes).ok_or_else(|| damaged("no size"))?,
            SEGMENT => segments.begin(number(&bytes).ok_or_else(|| damaged("no number"))?)?,
            BYTES => segments.put(&bytes)?,
            END if number(&bytes) == Some(frame) => break,
            END => return Err(damaged("frames are missing")),
            _ => return Err(damaged("an unknown kind of frame")),
        }
    }
    segments.finish()?;
    File::open(&log)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync the names in", &log))?;
    Ok(segments.size)
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

fn pairs(bytes: &[u8]) -> Result<Vec<KvWrite>, StoreError> {
    let mut reader = Reader::new("backup", bytes);
    let space = match reader.small()? {
        0 => Space::Main,
        period => Space::Period(period - 1),
    };
    let mut writes = Vec::new();
    while !reader.is_empty() {
        let (key, value) = (reader.bytes()?.to_vec(), reader.bytes()?.to_vec());
        writes.push(KvWrite {
            space,
            key,
            value: Some(value),
        });
    }
    Ok(writes)
}

/// Writes segments, each filled up with zeros.
struct Segments<'a> {
    dir: &'a Path,
    size: u64,
    open: Option<(File, PathBuf, u64)>,
}

impl Segments<'_> {
    fn begin(&mut self, number: u64) -> Result<(), RestoreError> {
        self.finish()?;
        let path = self.dir.join(segment_name(number));
        let file = File::create_new(&path).map_err(failed("make", &path))?;
        self.open = Some((file, path, 0));
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        if let Some((file, path, at)) = &mut self.open {
            file.write_all_at(bytes, *at)
                .map_err(failed("write", path))?;
            *at += bytes.len() as u64;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), RestoreError> {
        if let Some((file, path, _)) = self.open.take() {
            let filled = file.set_len(self.size).and_then(|()| file.sync_all());
            filled.map_err(failed("write", &path))?;
        }
        Ok(())
    }
}

/// Opens what was restored, which proves that it opens, and marks it.
fn mark(part: &Path, segment_bytes: u64, clock: Arc<dyn Clock>) -> Result<(), RestoreError> {
    let time = clock.now().as_micros().to_string().into_bytes();
    let told = Arc::new(|reason: &str| tracing::error!(reason, "the restored store failed"));
    let config = EmbeddedConfig {
        segment_bytes,
        ..EmbeddedConfig::new(part, clock, told)
    };
    let store = EmbeddedStore::open(config)?;
    let row = Entry::Rows(vec![RowWrite::put(held_row(), time)]);
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    // Nobody else is told, and the receiver below outlives the call.
    let done = move |result| drop(sender.send(result));
    store.push(store.call(codec::encode(vec![row])?, Answer::Append(Box::new(done))));
    receiver.recv().map_err(|_| StoreError::Closed)??;
    store.stop();
    projector::flush_if_room(&store.shared)?;
    Ok(())
}
