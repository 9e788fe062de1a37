//! Reads records back, from any thread, beside the one that writes.
//!
//! Reads go through the page cache, on files of their own: the kernel drops cached pages that a
//! direct write replaces, and nothing is read before it is durable.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::record::{self, Found};
use super::segment::{SegmentHeader, segment_name};
use super::{LogError, Lsn, RECORD_OVERHEAD};

/// Files that stay open for reading: the last 16 GiB of the log, a quarter of the usual limit
/// of 1,024 open files.
const OPEN_FILES: usize = 256;

#[derive(Debug)]
pub(super) struct Reader {
    dir: PathBuf,
    segment_bytes: u64,
    open: Mutex<OpenSegments>,
}

#[derive(Debug, Default)]
struct OpenSegments {
    by_number: FxHashMap<u64, (Arc<OpenSegment>, u64)>,
    /// Counts uses, to find the one that was used longest ago.
    uses: u64,
}

#[derive(Debug)]
struct OpenSegment {
    file: File,
    seed: u32,
}

impl Reader {
    pub(super) fn new(dir: PathBuf, segment_bytes: u64) -> Self {
        Self {
            dir,
            segment_bytes,
            open: Mutex::default(),
        }
    }

    /// Reads the payload, `length` bytes long, of the record at `lsn`.
    pub(super) fn read(&self, lsn: Lsn, length: usize) -> Result<Bytes, LogError> {
        let (number, offset) = (lsn.0 / self.segment_bytes, lsn.0 % self.segment_bytes);
        let path = || self.dir.join(segment_name(number));
        let corrupt = |detail: &str| LogError::Corrupt {
            file: path(),
            offset,
            detail: detail.to_owned(),
        };
        let end = offset.saturating_add((RECORD_OVERHEAD + length) as u64);
        if end > self.segment_bytes {
            return Err(corrupt("no record of this length fits here"));
        }
        let segment = self.segment(number)?;
        let mut bytes = vec![0; RECORD_OVERHEAD + length];
        segment
            .file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| LogError::io("read", &path())(source))?;
        let found = Found::read(segment.seed, &bytes);
        if found.is_none_or(|found| found.payload.len() != length) {
            return Err(corrupt("the record is not what was written"));
        }
        Ok(Bytes::from(bytes).slice(RECORD_OVERHEAD..))
    }

    /// Forgets the files of retired segments.
    pub(super) fn forget(&self, below: u64) {
        self.open
            .lock()
            .by_number
            .retain(|number, _| *number >= below);
    }

    fn segment(&self, number: u64) -> Result<Arc<OpenSegment>, LogError> {
        if let Some(segment) = self.open.lock().get(number) {
            return Ok(segment);
        }
        let (header, file) = SegmentHeader::open(&self.dir, number, self.segment_bytes)?;
        let segment = Arc::new(OpenSegment {
            file,
            seed: record::seed(header.salt),
        });
        self.open.lock().put(number, segment.clone());
        Ok(segment)
    }
}

impl OpenSegments {
    fn get(&mut self, number: u64) -> Option<Arc<OpenSegment>> {
        self.uses += 1;
        let (segment, used) = self.by_number.get_mut(&number)?;
        *used = self.uses;
        Some(segment.clone())
    }

    fn put(&mut self, number: u64, segment: Arc<OpenSegment>) {
        if self.by_number.len() >= OPEN_FILES {
            let oldest = self.by_number.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(number) = oldest.map(|(number, _)| *number) {
                self.by_number.remove(&number);
            }
        }
        self.by_number.insert(number, (segment, self.uses));
    }
}
