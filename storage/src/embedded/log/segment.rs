//! One file of the log: its name, its header, how it is opened and written.
//!
//! | name | what it is |
//! | --- | --- |
//! | `000000000001.seg` | a segment: full, being written, or prepared and still empty |
//! | `preparing.seg` | a file that is being zero-filled; its length says how far that went |
//! | `spare-000000000001.seg` | a retired segment that waits to be used again |
//! | `probe.tmp` | exists while an open finds out how the file system can be written |

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::buffer::AlignedBuffer;
use super::record::{SECTOR, u32_at, u64_at};
use super::{LogError, Lsn};

/// Where the first group of a segment begins: the header has a page of its own.
pub(super) const FIRST: u64 = 4096;

/// The number of a log's first segment: one, so that no record is at [`Lsn::ZERO`].
pub(super) const FIRST_NUMBER: u64 = 1;

/// The file that is being zero-filled.
pub(super) const PREPARING: &str = "preparing.seg";

/// "ZAJILLG" and the version of this layout.
const MAGIC: u64 = u64::from_le_bytes(*b"ZAJILLG\x01");

/// What is done to the files of the log: the place where a test puts its faults.
pub trait Medium: fmt::Debug + Send + Sync {
    /// Writes to a segment. Files opened for direct access are durable when it returns.
    ///
    /// # Errors
    /// What the system says. The log then fails for good.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the system says. The log then fails for good: after a failed sync the system may
    /// take pages for clean that never reached the disk.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Takes space for a new segment by writing zeros.
    ///
    /// # Errors
    /// What the system says; that the disk is full is waited out.
    fn fill(&self, file: &File, zeros: &[u8], at: u64) -> io::Result<()>;
}

/// The disk itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Medium for Disk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn fill(&self, file: &File, zeros: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(zeros, at)
    }
}

/// How segments are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Past the page cache, each write its own sync; otherwise plainly, and then synced.
    pub(super) direct: bool,
    /// What the length of a write must be a multiple of, in bytes.
    pub(super) unit: usize,
}

impl Access {
    pub(super) const BUFFERED: Self = Self {
        direct: false,
        unit: SECTOR,
    };

    /// Finds out by writing what the file system of `dir` can do.
    pub(super) fn probe(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join("probe.tmp");
        let mut found = Self::BUFFERED;
        for unit in [SECTOR, FIRST as usize] {
            let access = Self { direct: true, unit };
            let Ok(file) = access.open(&path) else { break };
            let zeros = AlignedBuffer::zeros(unit);
            // At the second unit, because a write at the start of a file may be laxer.
            if file.write_all_at(zeros.as_slice(), unit as u64).is_ok() {
                found = access;
                break;
            }
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LogError::io("remove", &path)(error))
            }
            _ => Ok(found),
        }
    }

    /// Opens or makes a file for writing.
    pub(super) fn open(self, path: &Path) -> io::Result<File> {
        let flags = if self.direct {
            libc::O_DIRECT | libc::O_DSYNC
        } else {
            0
        };
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)
    }
}

/// What the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    /// The size of each segment of the log, in bytes.
    pub(super) segment_bytes: u64,
    /// The log it belongs to.
    pub(super) store: u64,
    /// Made anew each time the file is taken into use.
    pub(super) salt: u64,
}

impl SegmentHeader {
    /// The position of the byte `offset` of this segment.
    pub(super) fn lsn(&self, offset: u64) -> Lsn {
        Lsn(self.number * self.segment_bytes + offset)
    }

    /// The header as the page that is written.
    pub(super) fn page(&self) -> AlignedBuffer {
        let mut page = AlignedBuffer::new(FIRST as usize);
        for word in [
            MAGIC,
            self.number,
            self.segment_bytes,
            self.store,
            self.salt,
        ] {
            page.extend(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(page.as_slice());
        page.extend(&crc.to_le_bytes());
        page.pad(FIRST as usize);
        page
    }

    /// Opens segment `number` of `dir` for reading and reads its header.
    pub(super) fn open(dir: &Path, number: u64, size: u64) -> Result<(Self, File), LogError> {
        let path = dir.join(segment_name(number));
        let file = File::open(&path).map_err(LogError::io("open", &path))?;
        let mut page = [0; 44];
        let corrupt = |detail: String| LogError::Corrupt {
            file: path.clone(),
            offset: 0,
            detail,
        };
        let length = file
            .metadata()
            .map_err(LogError::io("look at", &path))?
            .len();
        if length != size {
            return Err(corrupt(format!("it is {length} bytes long, not {size}")));
        }
        file.read_exact_at(&mut page, 0)
            .map_err(LogError::io("read", &path))?;
        let word = |index: usize| u64_at(&page, index * 8);
        if crc32c::crc32c(&page[..40]) != u32_at(&page, 40) || word(0) != MAGIC {
            return Err(corrupt("it has no segment header".into()));
        }
        let header = Self {
            number: word(1),
            segment_bytes: word(2),
            store: word(3),
            salt: word(4),
        };
        if (header.number, header.segment_bytes) != (number, size) {
            return Err(corrupt(format!(
                "it is segment {} of another log",
                header.number
            )));
        }
        Ok((header, file))
    }
}

/// A segment that is written, or will be.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// The name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:012}.seg")
}

/// The name of a retired segment.
pub(super) fn spare_name(number: u64) -> String {
    format!("spare-{number:012}.seg")
}

/// Makes the names in `dir` durable.
pub(super) fn sync_names(dir: &Path) -> Result<(), LogError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(LogError::io("sync the names in", dir))
}

/// What a directory holds of a log.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In order, without gaps.
    pub(super) segments: Vec<u64>,
    pub(super) spares: Vec<PathBuf>,
}

impl Listing {
    /// Reads the names in `dir`, and makes it if there is none.
    pub(super) fn read(dir: &Path) -> Result<Self, LogError> {
        if !dir.exists() {
            fs::create_dir_all(dir).map_err(LogError::io("make", dir))?;
            dir.parent()
                .filter(|parent| parent.exists())
                .map_or(Ok(()), sync_names)?;
        }
        let mut listing = Self::default();
        let refused = || LogError::io("list", dir);
        for entry in fs::read_dir(dir).map_err(refused())? {
            let path = entry.map_err(refused())?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let Some(stem) = name.strip_suffix(".seg") else {
                continue;
            };
            if stem.starts_with("spare-") {
                listing.spares.push(path);
            } else if let Ok(number) = stem.parse() {
                listing.segments.push(number);
            }
        }
        listing.segments.sort_unstable();
        let gap = listing
            .segments
            .windows(2)
            .find(|pair| pair[0] + 1 != pair[1]);
        gap.map_or(Ok(()), |pair| {
            Err(LogError::Corrupt {
                file: dir.join(segment_name(pair[0] + 1)),
                offset: 0,
                detail: "the segment is missing".into(),
            })
        })?;
        Ok(listing)
    }
}
