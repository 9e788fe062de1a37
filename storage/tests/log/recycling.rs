//! Retired segments are used again, and nothing of their past is seen.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::support::{
    FaultyDisk, Replayed, SEGMENT, buffered, config, dir, eventually, open, segment_file, try_open,
    write,
};
use zajil_storage::embedded::log::{FileLog, LogConfig, LogError, Lsn};

fn spares(dir: &Path) -> usize {
    let names = fs::read_dir(dir.join("log")).expect("it is there");
    let names = names.map(|entry| entry.expect("it is listed").file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("spare-"))
        .count()
}

/// Fills five segments with small groups, all of the same size.
fn fill(log: &FileLog) -> Vec<Replayed> {
    let mut written = Vec::new();
    while log.end().0 < 6 * SEGMENT {
        written.extend(write(log, &[&[0xcd; 300]]));
    }
    written
}

#[test]
fn retired_segments_are_used_again_and_their_records_stay_gone() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    let mut kept = fill(&log);
    let below = Lsn(log.end().0 - SEGMENT);
    assert_eq!(log.retire(below).unwrap(), 4);
    assert_eq!(log.retire(below).unwrap(), 0);
    kept.retain(|(lsn, ..)| *lsn >= log.oldest());
    assert_eq!(log.segments(), 2);
    assert!(matches!(
        log.read(Lsn(SEGMENT + 4_096 + 44), 300),
        Err(LogError::Missing(_))
    ));

    // Segments 7 and 8 were prepared before; from 9 on they are old files.
    while log.end().0 < 10 * SEGMENT {
        kept.extend(write(&log, &[&[0xee; 900]]));
    }
    let end = (log.end().0 % SEGMENT) as usize;
    drop(log);
    let bytes = fs::read(segment_file(dir.path(), 10)).unwrap();
    assert!(
        bytes[end..].windows(300).any(|run| run == [0xcd; 300]),
        "old bytes are still there"
    );
    let (log, recovery, replayed) = open(config(dir.path()));
    assert_eq!(replayed, kept);
    assert_eq!(recovery.torn_bytes, 0);
    for (lsn, _, payload) in &kept {
        assert_eq!(log.read(*lsn, payload.len()).unwrap(), payload);
    }
}

#[test]
fn a_torn_group_over_old_groups_is_cut_without_waking_them() {
    let dir = dir();
    let (log, ..) = open(buffered(dir.path()));
    let mut kept = fill(&log);
    log.retire(log.end()).unwrap();
    kept.retain(|(lsn, ..)| *lsn >= log.oldest());
    while log.end().0 < 9 * SEGMENT {
        kept.extend(write(&log, &[&[0xee; 900]]));
    }
    drop(log);
    for torn_at in [0, 7, 8, 44, 512, 513, 1_024] {
        let disk = Arc::new(FaultyDisk::default());
        let config = LogConfig {
            medium: disk.clone(),
            ..buffered(dir.path())
        };
        let (log, _, replayed) = open(config);
        assert_eq!(replayed, kept);
        disk.tears_at.store(torn_at, Ordering::SeqCst);
        disk.tears.store(true, Ordering::SeqCst);
        log.write_group(&[super::support::other(&[0xff; 2_000])])
            .unwrap_err();
        drop(log);
        let (log, _, replayed) = open(buffered(dir.path()));
        assert_eq!(replayed, kept, "torn at {torn_at}");
        kept.extend(write(&log, &[&[0x11; 10]]));
    }
    assert_eq!(open(buffered(dir.path())).2, kept);
}

#[test]
fn surplus_segments_give_their_space_back() {
    let dir = dir();
    let config = || LogConfig {
        spares: 1,
        ..config(dir.path())
    };
    let (log, ..) = open(config());
    fill(&log);
    eventually("segments 7 and 8 are ready", || {
        segment_file(dir.path(), 8).exists()
    });
    log.retire(log.end()).unwrap();
    eventually("one spare is left", || spares(dir.path()) == 1);
    assert_eq!(log.segments(), 1);
}

#[test]
fn the_segment_with_the_last_group_is_never_retired() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    let last = fill(&log).pop().unwrap();
    assert_eq!(log.retire(Lsn(u64::MAX)).unwrap(), 5);
    drop(log);
    let (log, recovery, _) = open(config(dir.path()));
    assert_eq!(recovery.last, last.0);
    assert_eq!(log.oldest(), Lsn(6 * SEGMENT + 4_096));
    drop(log);
    let start = try_open(config(dir.path()), Lsn(2 * SEGMENT + 4_096));
    assert!(matches!(start, Err(LogError::Missing(_))));
}
