//! A full disk refuses accepts, takes what happened to messages, and passes by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::support::{
    SEGMENT, SmallDisk, accept, config, dir, eventually, open, other, try_open, write,
};
use zajil_storage::embedded::log::{Class, LogConfig, LogError, LogState, Lsn};

#[test]
fn a_full_disk_refuses_accepts_but_takes_outcomes_until_the_reserve_is_used_up() {
    let dir = dir();
    // Four segments and a half: three for accepts and the reserve.
    let disk = Arc::new(SmallDisk(AtomicU64::new(4 * SEGMENT + SEGMENT / 2)));
    let config = || LogConfig {
        medium: disk.clone(),
        ..config(dir.path())
    };
    let (log, ..) = open(config());
    let payload = [7; 10_000];
    let mut positions = Vec::new();
    let refused = loop {
        match log.write_group(&[accept(&payload)]) {
            Ok(written) => positions.extend(written),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, LogError::Full));
    // Five records fill a segment. How far the last one is filled depends on when it is seen that
    // the disk is full.
    assert!(
        (10..=15).contains(&positions.len()),
        "accepts leave the reserve alone"
    );
    assert_eq!(log.state(), LogState::Full);
    assert!(matches!(log.group(1, Class::Accept), Err(LogError::Full)));
    while positions.len() < 20 {
        positions.extend(log.write_group(&[other(&payload)]).unwrap());
    }
    let refused = log.write_group(&[other(&payload)]);
    assert!(matches!(refused, Err(LogError::Full)), "nothing is left");
    positions.extend(log.write_group(&[other(&[1; 100])]).unwrap());

    disk.0.store(10 * SEGMENT, Ordering::SeqCst);
    eventually("there is space again", || log.state() == LogState::Ready);
    positions.extend(
        log.write_group(&[accept(&payload), other(&payload)])
            .unwrap(),
    );
    drop(log);
    let (_, _, replayed) = open(config());
    assert_eq!(
        replayed
            .into_iter()
            .map(|(lsn, ..)| lsn)
            .collect::<Vec<_>>(),
        positions
    );
}

#[test]
fn retired_segments_end_a_full_disk() {
    let dir = dir();
    let disk = Arc::new(SmallDisk(AtomicU64::new(4 * SEGMENT)));
    let (log, ..) = open(LogConfig {
        medium: disk,
        ..config(dir.path())
    });
    let payload = [7; 10_000];
    while log.write_group(&[accept(&payload)]).is_ok() {}
    assert_eq!(log.state(), LogState::Full);
    log.retire(log.end()).unwrap();
    eventually("a retired segment is ready", || {
        log.state() == LogState::Ready
    });
    log.write_group(&[accept(&payload)]).unwrap();
}

#[test]
fn a_log_opens_on_a_full_disk() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    let expected = write(&log, &[b"before"]);
    drop(log);
    let disk = Arc::new(SmallDisk(AtomicU64::new(0)));
    let full = LogConfig {
        medium: disk,
        ..config(dir.path())
    };
    let (log, _, replayed) = open(full);
    assert_eq!(replayed, expected);
    write(&log, &[b"an outcome"]);
}

#[test]
fn a_new_log_on_a_full_disk_is_refused_with_the_reason() {
    let dir = dir();
    let disk = Arc::new(SmallDisk(AtomicU64::new(1_000)));
    let full = LogConfig {
        medium: disk.clone(),
        ..config(dir.path())
    };
    match try_open(full.clone(), Lsn::ZERO) {
        Err(LogError::Io {
            operation, source, ..
        }) => {
            assert_eq!(
                (operation, source.kind()),
                ("fill", std::io::ErrorKind::StorageFull)
            );
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
    disk.0.store(9 * SEGMENT, Ordering::SeqCst);
    write(&open(full).0, &[b"now it goes"]);
}
