//! After a failed write or sync nothing is written any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::support::{
    FaultyDisk, buffered, config, dir, eventually, open, other, segment_file, write,
};
use zajil_storage::embedded::log::{Class, Failpoints, LogConfig, LogError, LogState};

/// Counts how often the process was told to end.
fn counting(config: LogConfig) -> (LogConfig, Arc<AtomicU64>) {
    let told = Arc::new(AtomicU64::new(0));
    let count = told.clone();
    let on_fatal = Arc::new(move |_: &LogError| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    (LogConfig { on_fatal, ..config }, told)
}

#[test]
fn a_failed_sync_fails_the_log_for_ever_and_is_never_tried_again() {
    let dir = dir();
    let disk = Arc::new(FaultyDisk::default());
    let (config, told) = counting(LogConfig {
        medium: disk.clone(),
        ..buffered(dir.path())
    });
    let (log, ..) = open(config);
    let expected = write(&log, &[b"durable"]);
    eventually("both segments are ready", || {
        segment_file(dir.path(), 3).exists()
    });
    let end = log.end();
    disk.syncs_fail.store(true, Ordering::SeqCst);
    assert!(matches!(
        log.write_group(&[other(b"lost")]),
        Err(LogError::Failed(_))
    ));
    disk.syncs_fail.store(false, Ordering::SeqCst);
    for class in [Class::Accept, Class::Other] {
        assert!(matches!(log.group(1, class), Err(LogError::Failed(_))));
    }
    assert_eq!(disk.attempts.load(Ordering::SeqCst), 1);
    assert_eq!(told.load(Ordering::SeqCst), 1);
    assert_eq!((log.state(), log.end()), (LogState::Failed, end));
    assert_eq!(
        log.read(expected[0].0, 7).unwrap(),
        "durable",
        "what is durable can be read"
    );
}

#[test]
fn a_failed_direct_write_fails_the_log_and_what_it_left_is_cut() {
    let dir = dir();
    let disk = Arc::new(FaultyDisk::default());
    let (config, told) = counting(LogConfig {
        medium: disk.clone(),
        ..config(dir.path())
    });
    let (log, ..) = open(config.clone());
    let expected = write(&log, &[b"durable"]);
    disk.tears_at.store(4_096, Ordering::SeqCst);
    disk.tears.store(true, Ordering::SeqCst);
    assert!(matches!(
        log.write_group(&[other(&[9; 8_000])]),
        Err(LogError::Failed(_))
    ));
    assert_eq!(told.load(Ordering::SeqCst), 1);
    drop(log);
    disk.tears.store(false, Ordering::SeqCst);
    let (_, recovery, replayed) = open(config);
    assert_eq!((recovery.torn_bytes, replayed), (44 + 17 + 8_000, expected));
}

#[test]
fn a_disk_that_fails_while_a_segment_is_prepared_fails_the_log() {
    let dir = dir();
    let failpoints = Failpoints::new(|name| match name {
        Failpoints::SEGMENT_PREPARED => Err(io::Error::other("the disk is gone")),
        _ => Ok(()),
    });
    let (log, ..) = open(config(dir.path()));
    eventually("both segments are ready", || {
        segment_file(dir.path(), 3).exists()
    });
    drop(log);
    let (config, told) = counting(LogConfig {
        failpoints,
        ..config(dir.path())
    });
    let (log, ..) = open(config);
    while log.write_group(&[other(&[1; 10_000])]).is_ok() {}
    assert_eq!(
        (log.state(), told.load(Ordering::SeqCst)),
        (LogState::Failed, 1)
    );
}

#[test]
fn each_step_that_fails_loses_nothing_that_was_acknowledged() {
    let steps = [
        (Failpoints::BEFORE_WRITE, false),
        (Failpoints::BEFORE_SYNC, true),
        (Failpoints::AFTER_WRITE, true),
        (Failpoints::SEGMENT_ROLL, false),
    ];
    for (step, written) in steps {
        let dir = dir();
        let failpoints = Failpoints::new(move |name| {
            if name == step {
                Err(io::Error::other("the process ends here"))
            } else {
                Ok(())
            }
        });
        let (log, ..) = open(buffered(dir.path()));
        let mut expected = write(&log, &[&[1; 50_000]]);
        drop(log);
        let (config, told) = counting(LogConfig {
            failpoints,
            ..buffered(dir.path())
        });
        let (log, ..) = open(config);
        log.write_group(&[other(&[2; 20_000])]).unwrap_err();
        assert_eq!(told.load(Ordering::SeqCst), 1, "{step}");
        drop(log);
        let (log, _, replayed) = open(buffered(dir.path()));
        assert_eq!(replayed.len(), 1 + usize::from(written), "{step}");
        assert_eq!(replayed[0], expected[0]);
        expected = replayed;
        expected.extend(write(&log, &[b"it goes on"]));
        drop(log);
        assert_eq!(open(buffered(dir.path())).2, expected);
    }
}
