//! What a log finds of itself when it is opened.
//!
//! Groups are written one after the other, each durable before the next begins. So only the last
//! one can be torn, and that is told from damage by what is behind it: behind a torn group there
//! is nothing, behind damage there are groups that were acknowledged.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::record::{self, Found, GroupHeader, SECTOR};
use super::segment::{FIRST, FIRST_NUMBER, SegmentHeader, segment_name};
use super::{LogError, Lsn, RECORD_OVERHEAD, Recovery};

/// Why the one who replays refuses a record.
pub type ReplayError = Box<dyn std::error::Error + Send + Sync>;

/// Where a log goes on.
#[derive(Debug)]
pub(super) struct Tail {
    /// The segment with the last group.
    pub(super) segment: SegmentHeader,
    /// Where the next group begins in it.
    pub(super) offset: u64,
    pub(super) next_group: u64,
    pub(super) next_record: u64,
    /// Prepared segments behind it.
    pub(super) ready: Vec<SegmentHeader>,
    pub(super) recovery: Recovery,
}

/// The place where reading stopped in a segment.
struct Stop {
    file: PathBuf,
    offset: u64,
    /// Bytes of a group that was begun there.
    torn: u64,
}

/// Reads a log from one segment on.
struct Replay<'a, F> {
    dir: &'a Path,
    start: Lsn,
    on_record: F,
    next_group: Option<u64>,
    next_record: Option<u64>,
    /// Where the last group was, and where it ended.
    tail: Option<(SegmentHeader, u64)>,
    stop: Option<Stop>,
    ready: Vec<SegmentHeader>,
    recovery: Recovery,
}

/// Replays the segments (in order, at least one) from `start`, or all of them.
pub(super) fn recover(
    dir: &Path,
    segment_bytes: u64,
    segments: &[u64],
    start: Lsn,
    on_record: impl FnMut(Lsn, u8, &[u8]) -> Result<(), ReplayError>,
) -> Result<Tail, LogError> {
    let first = if start == Lsn::ZERO {
        segments[0]
    } else {
        start.0 / segment_bytes
    };
    let at = segments
        .binary_search(&first)
        .map_err(|_| LogError::Missing(start))?;
    let mut replay = Replay {
        dir,
        start,
        on_record,
        next_group: (first == FIRST_NUMBER).then_some(0),
        next_record: (first == FIRST_NUMBER).then_some(0),
        tail: None,
        stop: None,
        ready: Vec::new(),
        recovery: Recovery::default(),
    };
    let mut bytes = vec![0; usize::try_from(segment_bytes).expect("a segment fits in memory")];
    let mut store = None;
    for &number in &segments[at..] {
        let (header, file) = SegmentHeader::open(dir, number, segment_bytes)?;
        let path = dir.join(segment_name(number));
        if *store.get_or_insert(header.store) != header.store {
            let detail = "it belongs to another log".into();
            return Err(LogError::Corrupt {
                file: path,
                offset: 0,
                detail,
            });
        }
        file.read_exact_at(&mut bytes, 0)
            .map_err(LogError::io("read", &path))?;
        replay.segment(header, &path, &bytes)?;
    }
    replay.finish(first)
}

impl<F: FnMut(Lsn, u8, &[u8]) -> Result<(), ReplayError>> Replay<'_, F> {
    fn segment(
        &mut self,
        header: SegmentHeader,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        let mut at = FIRST as usize;
        let mut torn = 0;
        while let Some(group) = GroupHeader::read(&header, bytes, at) {
            let body = &bytes[at..at + group.used as usize];
            let in_order = self.next_group.is_none_or(|next| next == group.sequence);
            // A group that stopped before this one is no torn end: this one was written later.
            if !in_order || self.stop.as_ref().is_some_and(|stop| stop.torn > 0) {
                return Err(self.hole(path, at as u64, "groups are missing"));
            }
            if !self.is_whole(&header, &group, body) {
                torn = u64::from(group.used);
                break;
            }
            self.group(&group, body)?;
            at += group.length as usize;
            self.tail = Some((header, at as u64));
            self.stop = None;
            self.ready.clear();
        }
        if torn == 0 && record::begun(&header, bytes, at) {
            torn = SECTOR as u64;
        }
        let stop = Stop {
            file: path.to_owned(),
            offset: at as u64,
            torn,
        };
        let mut behind = (at + SECTOR..bytes.len()).step_by(SECTOR);
        if behind.any(|at| GroupHeader::read(&header, bytes, at).is_some()) {
            self.stop = Some(stop);
            return Err(self.hole(path, at as u64, "a damaged group is followed by others"));
        }
        if torn > 0 && self.stop.as_ref().is_some_and(|earlier| earlier.torn > 0) {
            return Err(self.hole(path, at as u64, "a damaged group is followed by others"));
        }
        let is_tail = self
            .tail
            .is_some_and(|(tail, _)| tail.number == header.number);
        if !is_tail {
            self.ready.push(header);
        }
        // An empty segment behind the end says nothing new, unless a group was begun in it.
        if torn > 0 || self.stop.is_none() {
            self.stop = Some(stop);
        }
        Ok(())
    }

    /// Names the first place where something is wrong.
    fn hole(&mut self, path: &Path, at: u64, detail: &str) -> LogError {
        let stop = self.stop.take();
        let (file, offset) = stop.map_or((path.to_owned(), at), |stop| (stop.file, stop.offset));
        LogError::Corrupt {
            file,
            offset,
            detail: detail.into(),
        }
    }

    /// Whether every record of the group is there and is the next one.
    fn is_whole(&self, header: &SegmentHeader, group: &GroupHeader, body: &[u8]) -> bool {
        let seed = record::seed(header.salt);
        let mut next = self.next_record;
        let mut at = record::GROUP_HEADER;
        for _ in 0..group.records {
            let Some(found) = Found::read(seed, &body[at..]) else {
                return false;
            };
            if next.is_some_and(|next| next != found.sequence) {
                return false;
            }
            next = Some(found.sequence + 1);
            at += RECORD_OVERHEAD + found.payload.len();
        }
        at == body.len()
    }

    /// Hands on the records of a group that is whole.
    fn group(&mut self, group: &GroupHeader, body: &[u8]) -> Result<(), LogError> {
        let mut at = record::GROUP_HEADER;
        for _ in 0..group.records {
            let length = record::u32_at(body, at + 4) as usize;
            let sequence = record::u64_at(body, at + 8);
            let payload = at + RECORD_OVERHEAD;
            let lsn = Lsn(group.lsn.0 + at as u64);
            if lsn >= self.start {
                (self.on_record)(lsn, body[at + 16], &body[payload..payload + length])
                    .map_err(|source| LogError::Refused { lsn, source })?;
                self.recovery.records += 1;
            }
            self.recovery.last = lsn;
            self.next_record = Some(sequence + 1);
            at = payload + length;
        }
        self.next_group = Some(group.sequence + 1);
        Ok(())
    }

    fn finish(mut self, first: u64) -> Result<Tail, LogError> {
        let (Some(next_group), Some(next_record)) = (self.next_group, self.next_record) else {
            let file = self.dir.join(segment_name(first));
            let detail = "it holds no group, and it should".into();
            return Err(LogError::Corrupt {
                file,
                offset: FIRST,
                detail,
            });
        };
        // A log without groups goes on in its first segment.
        let (segment, offset) = match self.tail {
            Some(tail) => tail,
            None => (self.ready.remove(0), FIRST),
        };
        if self.start > segment.lsn(offset) {
            return Err(LogError::Missing(self.start));
        }
        if let Some(stop) = self.stop.filter(|stop| stop.torn > 0) {
            self.recovery.torn_bytes = stop.torn;
            cut(&stop.file, stop.offset)?;
        }
        let (ready, recovery) = (self.ready, self.recovery);
        Ok(Tail {
            segment,
            offset,
            next_group,
            next_record,
            ready,
            recovery,
        })
    }
}

/// Overwrites the header of a torn group, so that no later open sees it before valid ones.
fn cut(path: &Path, offset: u64) -> Result<(), LogError> {
    let file: File = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(LogError::io("open", path))?;
    file.write_all_at(&[0; SECTOR], offset)
        .map_err(LogError::io("cut", path))?;
    file.sync_data().map_err(LogError::io("sync", path))
}
