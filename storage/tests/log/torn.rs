//! A group that was being written when the process ended is cut, and nothing else.

use std::fs;
use std::path::Path;

use super::support::{Replayed, SEGMENT, config, dir, open, segment_file, write};

const SECTOR: usize = 512;

/// A log with groups that are whole and a last one that a test tears.
struct Torn {
    before: Vec<u8>,
    after: Vec<u8>,
    /// Where the last group begins in the file.
    at: usize,
    kept: Vec<Replayed>,
}

impl Torn {
    fn write(dir: &Path, last: &[&[u8]]) -> Self {
        let (log, ..) = open(config(dir));
        let mut kept = write(&log, &[b"first", b"second"]);
        kept.extend(write(&log, &[&[9; 600]]));
        let at = (log.end().0 % SEGMENT) as usize;
        let before = fs::read(segment_file(dir, 1)).expect("it is there");
        write(&log, last);
        drop(log);
        let after = fs::read(segment_file(dir, 1)).expect("it is there");
        Self {
            before,
            after,
            at,
            kept,
        }
    }

    /// Opens the log with these bytes in its file; answers how many were cut.
    fn check(&self, dir: &Path, bytes: &[u8]) -> u64 {
        fs::write(segment_file(dir, 1), bytes).expect("it is written");
        let (log, recovery, replayed) = open(config(dir));
        assert_eq!(replayed, self.kept);
        let mut expected = self.kept.clone();
        expected.extend(write(&log, &[b"after the crash"]));
        drop(log);
        let (_, again, replayed) = open(config(dir));
        assert_eq!(replayed, expected);
        assert_eq!(again.torn_bytes, 0, "it is cut once");
        recovery.torn_bytes
    }
}

#[test]
fn a_group_torn_at_any_byte_is_cut_and_all_before_it_stay() {
    let dir = dir();
    let torn = Torn::write(dir.path(), &[&[0xaa; 20], &[0xbb; 30]]);
    let used = 44 + (17 + 20) + (17 + 30);
    for kept in 0..used {
        let mut bytes = torn.before.clone();
        bytes[torn.at..torn.at + kept].copy_from_slice(&torn.after[torn.at..torn.at + kept]);
        let cut = torn.check(dir.path(), &bytes);
        // Until the salt is there nothing was begun, and then the length is known with the header.
        let expected = if kept < 8 {
            0
        } else if kept < 44 {
            512
        } else {
            used as u64
        };
        assert_eq!(cut, expected, "after {kept} bytes");
    }
    let mut whole = torn.before.clone();
    whole[torn.at..torn.at + used].copy_from_slice(&torn.after[torn.at..torn.at + used]);
    fs::write(segment_file(dir.path(), 1), whole).unwrap();
    assert_eq!(open(config(dir.path())).2.len(), torn.kept.len() + 2);
}

#[test]
fn a_group_of_which_any_sectors_are_missing_is_cut() {
    let dir = dir();
    let torn = Torn::write(dir.path(), &[&[0xaa; 1_500], &[0xbb; 1_000]]);
    let sectors = 6;
    for written in 0..(1 << sectors) - 1 {
        let mut bytes = torn.before.clone();
        for sector in (0..sectors).filter(|sector| written >> sector & 1 == 1) {
            let place = torn.at + sector * SECTOR..torn.at + (sector + 1) * SECTOR;
            bytes[place.clone()].copy_from_slice(&torn.after[place]);
        }
        torn.check(dir.path(), &bytes);
    }
}

#[test]
fn a_first_group_torn_in_a_new_segment_is_cut() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    let expected = write(&log, &[&[1; 50_000]]);
    write(&log, &[&[2; 20_000]]);
    drop(log);
    let second = segment_file(dir.path(), 2);
    let mut bytes = fs::read(&second).unwrap();
    bytes[10_000..12_000].fill(0);
    fs::write(&second, bytes).unwrap();

    let (log, recovery, replayed) = open(config(dir.path()));
    assert_eq!(replayed, expected);
    assert_eq!(recovery.torn_bytes, 44 + 17 + 20_000);
    let mut expected = expected;
    expected.extend(write(&log, &[&[3; 20_000]]));
    expected.extend(write(&log, &[&[4; 20_000]]));
    drop(log);
    assert_eq!(open(config(dir.path())).2, expected);
}
