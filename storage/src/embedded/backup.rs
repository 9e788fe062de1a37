//! Backups: a consistent copy of a store in one file, taken while it works.
//!
//! The projection is copied from a snapshot, the log from its oldest record to its end at that
//! moment: whatever the snapshot does not reflect is replayed from the copy of the log.
//!
//! ```text
//! magic  version  (kind  length  bytes  crc)*
//! ```

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::keyspaces::Keyspaces;
use super::projector;
use super::shared::Shared;
use crate::StoreError;
use crate::codec::varint;
use crate::kv::Space;
use crate::staged::{StageError, StagedFile};

/// What a backup begins with.
pub(super) const MAGIC: &[u8; 8] = b"ZAJILBAK";

/// The form below; a restore refuses others.
pub(super) const VERSION: u32 = 1;

/// Keys and values of the projection.
pub(super) const PAIRS: u8 = 1;

/// The size of a segment, in bytes.
pub(super) const SEGMENT_SIZE: u8 = 2;

/// The number of a segment; its bytes follow.
pub(super) const SEGMENT: u8 = 3;

/// Bytes of the segment; the rest of it is zero.
pub(super) const BYTES: u8 = 4;

/// The end: how many frames came before it.
pub(super) const END: u8 = 5;

/// A frame is about this long: what a copy holds in memory.
const FRAME_BYTES: usize = 1 << 20;

/// No frame is longer than this; a longer length is damage.
pub(super) const FRAME_LIMIT: usize = 64 << 20;

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |error| StoreError::Io {
        operation,
        reason: error.to_string(),
    }
}

/// The name of a segment, as the log gives it.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:012}.seg")
}

/// Writes frames.
struct Frames {
    out: BufWriter<File>,
    count: u64,
}

impl Frames {
    fn begin(file: File) -> Result<Self, StoreError> {
        let mut out = BufWriter::new(file);
        out.write_all(MAGIC).map_err(failed("write the backup"))?;
        out.write_all(&VERSION.to_le_bytes())
            .map_err(failed("write the backup"))?;
        Ok(Self { out, count: 0 })
    }

    fn put(&mut self, kind: u8, bytes: &[u8]) -> Result<(), StoreError> {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), bytes);
        let mut write = || {
            self.out.write_all(&[kind])?;
            self.out.write_all(&(bytes.len() as u32).to_le_bytes())?;
            self.out.write_all(bytes)?;
            self.out.write_all(&crc.to_le_bytes())
        };
        write().map_err(failed("write the backup"))?;
        self.count += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<File, StoreError> {
        self.put(END, &self.count.to_le_bytes())?;
        let file = self.out.into_inner();
        file.map_err(|error| failed("write the backup")(error.into_error()))
    }
}

/// Writes a backup. Nothing is retired meanwhile.
pub(super) fn write(shared: &Shared, file: &Path) -> Result<(), StoreError> {
    projector::flush_if_room(shared)?;
    let (staged, opened) = StagedFile::begin(file).map_err(refused)?;
    let written = copy(shared, opened)?;
    staged.name(&written).map_err(refused)
}

fn refused(error: StageError) -> StoreError {
    match error {
        StageError::Exists(_) | StageError::NotEmpty(_) => {
            StoreError::Invalid("the backup's file exists already")
        }
        StageError::Io { source, .. } => failed("write the backup")(source),
    }
}

fn copy(shared: &Shared, file: File) -> Result<File, StoreError> {
    let mut frames = Frames::begin(file)?;
    let (snapshot, spaces) = shared.projection.kv().snapshot();
    for (space, keyspace) in spaces {
        let mut pairs = head_of(space);
        Keyspaces::dump(&snapshot, &keyspace, |key, value| {
            varint::put_bytes(&mut pairs, key);
            varint::put_bytes(&mut pairs, value);
            if pairs.len() >= FRAME_BYTES {
                frames.put(PAIRS, &pairs)?;
                pairs = head_of(space);
            }
            Ok(())
        })?;
        frames.put(PAIRS, &pairs)?;
    }
    copy_log(shared, &mut frames)?;
    frames.finish()
}

fn head_of(space: Space) -> Vec<u8> {
    let mut out = Vec::new();
    match space {
        Space::Main => varint::put(&mut out, 0),
        Space::Period(period) => varint::put(&mut out, u64::from(period) + 1),
    }
    out
}

/// Copies the log up to its end now. What is written meanwhile is left out.
fn copy_log(shared: &Shared, frames: &mut Frames) -> Result<(), StoreError> {
    let log = shared.log()?;
    let (size, end) = (log.segment_bytes(), log.end().0);
    frames.put(SEGMENT_SIZE, &size.to_le_bytes())?;
    let mut buffer = vec![0; FRAME_BYTES];
    for number in log.oldest().0 / size..=end / size {
        let path = log.dir().join(segment_name(number));
        let file = File::open(&path).map_err(failed("open a segment of the log"))?;
        frames.put(SEGMENT, &number.to_le_bytes())?;
        let used = if number == end / size {
            end % size
        } else {
            size
        };
        let mut at = 0;
        while at < used {
            let piece = (used - at).min(FRAME_BYTES as u64) as usize;
            let bytes = &mut buffer[..piece];
            file.read_exact_at(bytes, at)
                .map_err(failed("read a segment of the log"))?;
            frames.put(BYTES, bytes)?;
            at += piece as u64;
        }
    }
    Ok(())
}

/// Reads the frames of a backup.
pub(super) struct FrameReader {
    input: BufReader<File>,
    pub(super) count: u64,
}

impl FrameReader {
    /// Begins to read; the version, or `None` when it is no backup.
    pub(super) fn begin(file: File) -> io::Result<(Self, Option<u32>)> {
        let mut input = BufReader::new(file);
        let mut magic = [0; 12];
        let version = match input.read_exact(&mut magic) {
            Ok(()) if magic.starts_with(MAGIC) => Some(u32::from_le_bytes([
                magic[8], magic[9], magic[10], magic[11],
            ])),
            Ok(()) => None,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Self { input, count: 0 }, version))
    }

    /// The next frame; damage is an error of kind `InvalidData` or `UnexpectedEof`.
    pub(super) fn next(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.input.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > FRAME_LIMIT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes)?;
        let mut crc = [0; 4];
        self.input.read_exact(&mut crc)?;
        let found = crc32c::crc32c_append(crc32c::crc32c(&head[..1]), &bytes);
        if found != u32::from_le_bytes(crc) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.count += 1;
        Ok((head[0], bytes))
    }
}
