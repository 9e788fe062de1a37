//! The frames of an export: each item compressed and check-summed, behind a magic and a version.
//!
//! ```text
//! magic  version  (length  crc  bytes)*
//! ```
//!
//! The check sum of a frame begins with its number, so that none can be missing, twice, or in
//! another place.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::error::{ExportError, ImportError};
use super::format::Item;

/// What an export begins with.
const MAGIC: &[u8; 8] = b"ZAJILEXP";

/// The form below; a reader refuses others.
pub(super) const VERSION: u32 = 1;

/// No frame is longer than this, packed or not; a longer length is damage. The largest that is
/// written is a row that is large by itself.
const FRAME_LIMIT: usize = 64 << 20;

fn sum_of(number: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), bytes)
}

/// Writes frames.
#[derive(Debug)]
pub(super) struct FrameWriter {
    out: BufWriter<File>,
    /// Frames so far.
    pub(super) count: u64,
    /// The check sum of all of them.
    pub(super) sum: u32,
}

impl FrameWriter {
    pub(super) fn begin(file: File) -> Result<Self, ExportError> {
        let mut out = BufWriter::new(file);
        let begun = out.write_all(MAGIC);
        let begun = begun.and_then(|()| out.write_all(&VERSION.to_le_bytes()));
        begun.map_err(ExportError::Write)?;
        Ok(Self {
            out,
            count: 0,
            sum: 0,
        })
    }

    pub(super) fn put(&mut self, item: &Item) -> Result<(), ExportError> {
        let plain = rmp_serde::to_vec_named(item)
            .map_err(|error| ExportError::Write(io::Error::other(error)))?;
        let bytes = lz4_flex::compress_prepend_size(&plain);
        let mut write = || {
            self.out.write_all(&(bytes.len() as u32).to_le_bytes())?;
            let sum = sum_of(self.count, &bytes);
            self.out.write_all(&sum.to_le_bytes())?;
            self.out.write_all(&bytes)
        };
        write().map_err(ExportError::Write)?;
        self.sum = crc32c::crc32c_append(self.sum, &bytes);
        self.count += 1;
        Ok(())
    }

    /// Everything is on its way to the file.
    pub(super) fn finish(self) -> Result<File, ExportError> {
        let file = self.out.into_inner();
        file.map_err(|error| ExportError::Write(error.into_error()))
    }
}

/// Reads frames back.
#[derive(Debug)]
pub(super) struct FrameReader<'a> {
    path: &'a Path,
    input: BufReader<File>,
    /// Frames so far.
    pub(super) count: u64,
    /// The check sum of all of them.
    pub(super) sum: u32,
}

impl<'a> FrameReader<'a> {
    /// Begins to read an export of a version that is known.
    pub(super) fn begin(path: &'a Path) -> Result<Self, ImportError> {
        let broken = |source| ImportError::Read {
            path: path.to_owned(),
            source,
        };
        let mut input = BufReader::new(File::open(path).map_err(broken)?);
        let mut head = [0; 12];
        match input.read_exact(&mut head) {
            Ok(()) if head.starts_with(MAGIC) => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(broken(error));
            }
            Ok(()) | Err(_) => return Err(ImportError::NotAnExport(path.to_owned())),
        }
        let [.., a, b, c, d] = head;
        match u32::from_le_bytes([a, b, c, d]) {
            VERSION => Ok(Self {
                path,
                input,
                count: 0,
                sum: 0,
            }),
            found => Err(ImportError::Version { found }),
        }
    }

    /// That the frame which was read last is wrong.
    pub(super) fn damaged(&self, detail: impl Into<String>) -> ImportError {
        ImportError::Damaged {
            frame: self.count.saturating_sub(1),
            detail: detail.into(),
        }
    }

    /// The next item.
    pub(super) fn next(&mut self) -> Result<Item, ImportError> {
        self.count += 1;
        let mut head = [0; 8];
        self.fill(&mut head)?;
        let [a, b, c, d, sum @ ..] = head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > FRAME_LIMIT {
            return Err(self.damaged("its length cannot be"));
        }
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        if u32::from_le_bytes(sum) != sum_of(self.count - 1, &bytes) {
            return Err(self.damaged("its check sum is wrong"));
        }
        let item = self.unpack(&bytes)?;
        if !matches!(item, Item::End(_)) {
            self.sum = crc32c::crc32c_append(self.sum, &bytes);
        }
        Ok(item)
    }

    fn unpack(&self, bytes: &[u8]) -> Result<Item, ImportError> {
        let (size, packed) = lz4_flex::block::uncompressed_size(bytes)
            .map_err(|error| self.damaged(error.to_string()))?;
        if size > FRAME_LIMIT {
            return Err(self.damaged("its length cannot be"));
        }
        let plain = lz4_flex::decompress(packed, size);
        let plain = plain.map_err(|error| self.damaged(error.to_string()))?;
        rmp_serde::from_slice(&plain).map_err(|error| self.damaged(error.to_string()))
    }

    /// Whether there is nothing more.
    pub(super) fn is_over(&mut self) -> Result<bool, ImportError> {
        let mut one = [0];
        match self.input.read(&mut one) {
            Ok(read) => Ok(read == 0),
            Err(source) => Err(self.broken(source)),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ImportError> {
        self.input
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.damaged("it ends early"),
                _ => self.broken(error),
            })
    }

    fn broken(&self, source: io::Error) -> ImportError {
        ImportError::Read {
            path: self.path.to_owned(),
            source,
        }
    }
}
