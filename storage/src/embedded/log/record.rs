//! How groups and records lie in a segment.
//!
//! ```text
//! group  = salt u64 · sequence u64 · lsn u64 · magic u32 · records u32 · length u32 · used u32 · crc u32
//!          record*  zeros up to `length`
//! record = crc u32 · payload length u32 · sequence u64 · kind u8 · payload
//! ```
//!
//! All numbers are little-endian. The salt belongs to one life of a segment file: a file that is
//! used again gets another one, and every CRC32C begins with it, so what an earlier life left
//! there is never taken for a group or a record. A group names its own position, and groups and
//! records are numbered without gaps over the whole log, so nothing can be lost or moved unseen.

use super::Lsn;
use super::segment::SegmentHeader;

/// Bytes before the first record of a group.
pub(super) const GROUP_HEADER: usize = 44;

/// What a record takes beside its payload, in bytes.
pub const RECORD_OVERHEAD: usize = 17;

/// Groups begin at multiples of this many bytes: the smallest sector, which a disk writes whole
/// or not at all, so that a header is never torn.
pub(super) const SECTOR: usize = 512;

/// "ZJG" and the version of this layout.
const MAGIC: u32 = u32::from_le_bytes(*b"ZJG\x01");

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    /// Counts groups from the first of the log.
    pub(super) sequence: u64,
    pub(super) lsn: Lsn,
    pub(super) records: u32,
    /// Its bytes with header and padding.
    pub(super) length: u32,
    /// Its bytes with header, without padding.
    pub(super) used: u32,
}

impl GroupHeader {
    pub(super) fn write(&self, salt: u64, into: &mut [u8]) {
        into[0..8].copy_from_slice(&salt.to_le_bytes());
        into[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        into[16..24].copy_from_slice(&self.lsn.0.to_le_bytes());
        into[24..28].copy_from_slice(&MAGIC.to_le_bytes());
        into[28..32].copy_from_slice(&self.records.to_le_bytes());
        into[32..36].copy_from_slice(&self.length.to_le_bytes());
        into[36..40].copy_from_slice(&self.used.to_le_bytes());
        let crc = crc32c::crc32c(&into[..40]);
        into[40..44].copy_from_slice(&crc.to_le_bytes());
    }

    /// The header at byte `at` of a segment, if a whole one is there and belongs there.
    pub(super) fn read(segment: &SegmentHeader, bytes: &[u8], at: usize) -> Option<Self> {
        let header = bytes.get(at..at + GROUP_HEADER)?;
        if u64_at(header, 0) != segment.salt || u32_at(header, 24) != MAGIC {
            return None;
        }
        let group = Self {
            sequence: u64_at(header, 8),
            lsn: Lsn(u64_at(header, 16)),
            records: u32_at(header, 28),
            length: u32_at(header, 32),
            used: u32_at(header, 36),
        };
        let (length, used) = (group.length as usize, group.used as usize);
        let whole = crc32c::crc32c(&header[..40]) == u32_at(header, 40)
            && group.lsn == segment.lsn(at as u64)
            && (GROUP_HEADER..=length).contains(&used)
            && at + length <= bytes.len();
        whole.then_some(group)
    }
}

/// Whether a group was begun at byte `at`, whatever became of it.
pub(super) fn begun(segment: &SegmentHeader, bytes: &[u8], at: usize) -> bool {
    bytes
        .get(at..at + 8)
        .is_some_and(|start| u64_at(start, 0) == segment.salt)
}

/// The header of a record: all but its payload.
pub(super) fn record_header(
    seed: u32,
    sequence: u64,
    kind: u8,
    payload: &[u8],
) -> [u8; RECORD_OVERHEAD] {
    let mut header = [0; RECORD_OVERHEAD];
    let length = u32::try_from(payload.len()).expect("a record is smaller than 4 GiB");
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16] = kind;
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &header[4..]), payload);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Where the CRC of every record of a segment begins.
pub(super) fn seed(salt: u64) -> u32 {
    crc32c::crc32c(&salt.to_le_bytes())
}

/// A record that was found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) sequence: u64,
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
}

impl<'a> Found<'a> {
    /// The record that `bytes` begin with, if it is whole.
    pub(super) fn read(seed: u32, bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..RECORD_OVERHEAD)?;
        let payload = bytes.get(RECORD_OVERHEAD..RECORD_OVERHEAD + u32_at(header, 4) as usize)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &header[4..]), payload);
        let found = Self {
            sequence: u64_at(header, 8),
            kind: header[16],
            payload,
        };
        (crc == u32_at(header, 0)).then_some(found)
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
