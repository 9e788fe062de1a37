//! Writes groups, one at a time, each durable before the next begins.

use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::buffer::AlignedBuffer;
use super::record::{self, GROUP_HEADER, GroupHeader, SECTOR};
use super::segment::{Access, FIRST, Segment};
use super::{
    Class, Failpoints, FileLog, GROUP_BYTES, GroupWritten, LogError, Lsn, MAX_RECORD_BYTES,
    RECORD_OVERHEAD,
};

/// Memory that the buffer keeps between groups, in bytes: twice a usual group, so that only a
/// very large record makes it grow.
const BUFFER_BYTES: usize = 2 * GROUP_BYTES;

/// The segment in use and the place in it.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) segment: Segment,
    /// Where the next group begins in the segment.
    pub(super) offset: u64,
    pub(super) next_group: u64,
    pub(super) next_record: u64,
    buffer: AlignedBuffer,
    seed: u32,
}

impl Writer {
    pub(super) fn new(segment: Segment, offset: u64, next_group: u64, next_record: u64) -> Self {
        let seed = record::seed(segment.header.salt);
        let buffer = AlignedBuffer::new(BUFFER_BYTES);
        Self {
            segment,
            offset,
            next_group,
            next_record,
            buffer,
            seed,
        }
    }

    /// What is left of the segment for a group with its header, in bytes.
    fn room(&self, access: Access) -> usize {
        // A place that cannot be written with this unit is left over from another file system.
        if !self.offset.is_multiple_of(access.unit as u64) {
            return 0;
        }
        capacity(self.segment.header.segment_bytes, self.offset)
    }
}

/// What fits in a segment from `offset` on, in bytes. The last page stays empty, so that the end
/// of a group is always a place in the same segment.
fn capacity(segment_bytes: u64, offset: u64) -> usize {
    segment_bytes.saturating_sub(FIRST).saturating_sub(offset) as usize
}

/// The most that the records of one group can take, in bytes.
pub(super) fn group_limit(segment_bytes: u64) -> usize {
    let fits = capacity(segment_bytes, FIRST) - GROUP_HEADER;
    fits.min(MAX_RECORD_BYTES + RECORD_OVERHEAD)
}

/// A group that is being put together. It has its place in the log already, so the positions of
/// its records are final; dropped without [`Group::commit`], nothing of it is written. While it
/// lives no other group can begin.
#[derive(Debug)]
pub struct Group<'a> {
    log: &'a FileLog,
    writer: MutexGuard<'a, Writer>,
    records: u32,
    limit: usize,
}

impl<'a> Group<'a> {
    /// Finds a place for a group whose records take up to `bytes`.
    pub(super) fn begin(log: &'a FileLog, bytes: usize, class: Class) -> Result<Self, LogError> {
        let limit = group_limit(log.config.segment_bytes);
        if bytes > limit {
            return Err(LogError::TooLarge { bytes, limit });
        }
        log.failure.check()?;
        if class == Class::Accept && log.supply.full() {
            return Err(LogError::Full);
        }
        let mut writer = log.writer.lock();
        if writer.room(log.access) < GROUP_HEADER + bytes {
            log.hit(Failpoints::SEGMENT_ROLL, &writer)
                .map_err(|error| log.failure.fail(&error))?;
            let segment = log.supply.take(class)?;
            writer.seed = record::seed(segment.header.salt);
            writer.segment = segment;
            writer.offset = FIRST;
        }
        writer.buffer.clear(BUFFER_BYTES);
        writer.buffer.reserve(GROUP_HEADER + bytes);
        writer.buffer.extend(&[0; GROUP_HEADER]);
        let limit = writer
            .room(log.access)
            .min(GROUP_HEADER + group_limit(log.config.segment_bytes));
        Ok(Self {
            log,
            writer,
            records: 0,
            limit,
        })
    }

    /// Adds a record; answers its position.
    ///
    /// # Errors
    /// [`LogError::TooLarge`] when it does not fit in this group; the group is as it was.
    pub fn push(&mut self, kind: u8, payload: &[u8]) -> Result<Lsn, LogError> {
        let at = self.writer.buffer.len();
        let fits = self
            .limit
            .saturating_sub(at + RECORD_OVERHEAD)
            .min(MAX_RECORD_BYTES);
        if payload.len() > fits {
            return Err(LogError::TooLarge {
                bytes: payload.len(),
                limit: fits,
            });
        }
        let sequence = self.writer.next_record + u64::from(self.records);
        let header = record::record_header(self.writer.seed, sequence, kind, payload);
        self.writer.buffer.extend(&header);
        self.writer.buffer.extend(payload);
        self.records += 1;
        Ok(self
            .writer
            .segment
            .header
            .lsn(self.writer.offset + at as u64))
    }

    /// Writes the group and waits until it is durable; answers the log's new end. A group
    /// without records writes nothing.
    ///
    /// # Errors
    /// [`LogError::Failed`], for this group and all after it: whether it is durable is known
    /// only after the next open.
    pub fn commit(mut self) -> Result<Lsn, LogError> {
        if self.records == 0 {
            return Ok(self.log.end());
        }
        self.log.failure.check()?;
        self.seal();
        let begun = self.log.config.clock.mono();
        self.write()
            .map_err(|error| self.log.failure.fail(&error))?;
        let took = self.log.config.clock.mono().since(begun);
        let writer = &mut *self.writer;
        let bytes = writer.buffer.len() as u64;
        writer.offset += bytes;
        writer.next_group += 1;
        writer.next_record += u64::from(self.records);
        let end = writer.segment.header.lsn(writer.offset);
        self.log.end.store(end.0, Ordering::Release);
        self.log.supply.appended(bytes);
        self.log.groups.fetch_add(1, Ordering::Relaxed);
        self.log.written.fetch_add(bytes, Ordering::Relaxed);
        (self.log.config.on_group)(GroupWritten {
            records: self.records,
            bytes,
            took,
        });
        Ok(end)
    }

    /// Writes the header over the place kept for it, and fills the last sector.
    fn seal(&mut self) {
        let (records, unit) = (self.records, self.log.access.unit.max(SECTOR));
        let writer = &mut *self.writer;
        let used = writer.buffer.len();
        writer.buffer.pad(unit);
        let length = |bytes| u32::try_from(bytes).expect("a group is smaller than 4 GiB");
        let header = GroupHeader {
            sequence: writer.next_group,
            lsn: writer.segment.header.lsn(writer.offset),
            records,
            length: length(writer.buffer.len()),
            used: length(used),
        };
        header.write(writer.segment.header.salt, writer.buffer.as_mut_slice());
    }

    fn write(&self) -> Result<(), LogError> {
        let (log, writer) = (self.log, &*self.writer);
        let Segment { file, path, .. } = &writer.segment;
        log.hit(Failpoints::BEFORE_WRITE, writer)?;
        let medium = &log.config.medium;
        medium
            .write(file, writer.buffer.as_slice(), writer.offset)
            .map_err(LogError::io("write", path))?;
        if !log.access.direct {
            log.hit(Failpoints::BEFORE_SYNC, writer)?;
            medium.sync(file).map_err(LogError::io("sync", path))?;
        }
        log.hit(Failpoints::AFTER_WRITE, writer)
    }
}
