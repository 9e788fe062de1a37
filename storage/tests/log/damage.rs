//! Damage before a whole group is never taken for a torn end.

use std::fs;
use std::path::Path;

use super::support::{SEGMENT, config, dir, eventually, open, segment_file, try_open, write};
use zajil_storage::embedded::log::{LogError, Lsn};

/// Three groups in the first segment (the first begins at 4,096, the second at 4,608) and one in
/// the second.
fn log(dir: &Path) {
    let (log, ..) = open(config(dir));
    write(&log, &[b"first", &[7; 60]]);
    write(&log, &[b"second"]);
    write(&log, &[&[8; 50_000]]);
    write(&log, &[&[9; 20_000]]);
    assert_eq!(log.end().0 / SEGMENT, 2);
    eventually("a third one is ready", || segment_file(dir, 3).exists());
}

#[track_caller]
fn assert_refused(dir: &Path, file: &Path, offset: u64) {
    let before = fs::read(file).ok();
    match try_open(config(dir), Lsn::ZERO) {
        Err(LogError::Corrupt {
            file: named,
            offset: at,
            ..
        }) => {
            assert_eq!((named.as_path(), at), (file, offset));
        }
        Err(other) => panic!("{other}"),
        Ok((_, recovery, _)) => panic!("it was not refused: {recovery:?}"),
    }
    assert_eq!(fs::read(file).ok(), before, "the file is kept as it is");
}

#[test]
fn a_flipped_byte_before_a_whole_group_refuses_to_open() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    write(&log, &[b"first", &[7; 60]]);
    write(&log, &[b"second"]);
    drop(log);
    let file = segment_file(dir.path(), 1);
    let whole = fs::read(&file).unwrap();
    let first_group = 4_096..4_096 + 44 + (17 + 5) + (17 + 60);
    for at in first_group {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, bytes).unwrap();
        assert_refused(dir.path(), &file, 4_096);
    }
    fs::write(&file, whole).unwrap();
    assert_eq!(open(config(dir.path())).2.len(), 3);
}

#[test]
fn damage_at_the_end_of_a_segment_is_seen_from_the_next_one() {
    let dir = dir();
    log(dir.path());
    let file = segment_file(dir.path(), 1);
    let whole = fs::read(&file).unwrap();
    for damage in [5_120..5_632, 30_000..30_001] {
        let mut bytes = whole.clone();
        bytes[damage].fill(0);
        fs::write(&file, bytes).unwrap();
        assert_refused(dir.path(), &file, 5_120);
    }
}

#[test]
fn a_segment_that_is_missing_or_cut_short_or_without_header_refuses_to_open() {
    let dir = dir();
    log(dir.path());
    for number in [1, 2] {
        let file = segment_file(dir.path(), number);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..40_000]).unwrap();
        assert_refused(dir.path(), &file, 0);
        let mut bytes = whole.clone();
        bytes[9] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_refused(dir.path(), &file, 0);
        fs::write(&file, whole).unwrap();
    }
    let (first, second) = (segment_file(dir.path(), 1), segment_file(dir.path(), 2));
    let aside = dir.path().join("aside");
    fs::rename(&second, &aside).unwrap();
    assert_refused(dir.path(), &second, 0);
    fs::rename(&aside, &second).unwrap();
    fs::rename(&first, &aside).unwrap();
    let third = try_open(config(dir.path()), Lsn(SEGMENT + 4_096));
    assert!(matches!(third, Err(LogError::Missing(_))));
}

#[test]
fn a_segment_of_another_log_refuses_to_open() {
    let (ours, theirs) = (dir(), dir());
    log(ours.path());
    log(theirs.path());
    let file = segment_file(ours.path(), 2);
    fs::copy(segment_file(theirs.path(), 2), &file).unwrap();
    assert_refused(ours.path(), &file, 0);
}

#[test]
fn a_record_damaged_after_it_was_written_is_not_read() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    let written = write(&log, &[&[5; 100], &[6; 100]]);
    drop(log);
    let (log, ..) = open(config(dir.path()));
    let file = segment_file(dir.path(), 1);
    let mut bytes = fs::read(&file).unwrap();
    bytes[(written[0].0.0 % SEGMENT) as usize + 50] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(matches!(
        log.read(written[0].0, 100),
        Err(LogError::Corrupt { .. })
    ));
    assert_eq!(log.read(written[1].0, 100).unwrap(), vec![6; 100]);
}
