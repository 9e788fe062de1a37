//! What is written is read and replayed.

use super::support::{SEGMENT, buffered, config, dir, open, other, try_open, write};
use zajil_storage::embedded::log::{Class, LogError, Lsn, RECORD_OVERHEAD};

#[test]
fn what_was_written_is_read_at_once_and_replayed_after_each_of_many_opens() {
    for direct in [true, false] {
        let dir = dir();
        let config = || {
            if direct {
                config(dir.path())
            } else {
                buffered(dir.path())
            }
        };
        let mut expected = Vec::new();
        for round in 0..12_u8 {
            let (log, recovery, replayed) = open(config());
            assert_eq!(replayed, expected);
            assert_eq!(recovery.records, expected.len() as u64);
            assert_eq!(
                recovery.last,
                expected.last().map_or(Lsn::ZERO, |(lsn, ..)| *lsn)
            );
            assert_eq!(recovery.torn_bytes, 0);
            expected.extend(write(&log, &[&[round; 3], &[], &vec![round; 9_000]]));
            expected.extend(write(&log, &[&[round; 700]]));
            for (lsn, _, payload) in &expected {
                assert_eq!(log.read(*lsn, payload.len()).unwrap(), payload);
            }
        }
        assert!(
            expected.last().unwrap().0.0 / SEGMENT > 1,
            "several segments were used"
        );
    }
}

#[test]
fn a_replay_begins_where_it_is_told() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    let mut ends = vec![log.end()];
    let mut expected = Vec::new();
    for round in 0..20_u8 {
        expected.push(write(&log, &[&vec![round; 8_000], &[round]]));
        ends.push(log.end());
    }
    drop(log);
    for (done, end) in ends.into_iter().enumerate() {
        let (log, _, replayed) = try_open(config(dir.path()), end).unwrap();
        assert_eq!(replayed, expected[done..].concat());
        assert_eq!(log.end(), *[log.end(), end].iter().max().unwrap());
    }
}

#[test]
fn a_start_that_the_log_does_not_reach_is_refused() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    write(&log, &[b"one"]);
    let end = log.end();
    drop(log);
    for start in [Lsn(1), Lsn(end.0 + 512), Lsn(end.0 + 9 * SEGMENT)] {
        let refused = try_open(config(dir.path()), start);
        assert!(matches!(refused, Err(LogError::Missing(lsn)) if lsn == start));
    }
    let empty = super::support::dir();
    let refused = try_open(config(empty.path()), end);
    assert!(
        matches!(refused, Err(LogError::Missing(_))),
        "the log was taken away"
    );
}

#[test]
fn what_is_not_durable_or_was_never_there_is_not_read() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    let written = write(&log, &[b"twelve bytes"]);
    let mut group = log.group(100, Class::Other).unwrap();
    let pending = group.push(1, b"pending").unwrap();
    assert!(matches!(log.read(pending, 7), Err(LogError::Missing(_))));
    drop(group);
    assert!(matches!(
        log.read(written[0].0, 11),
        Err(LogError::Corrupt { .. })
    ));
    assert!(matches!(
        log.read(Lsn(written[0].0.0 + 1), 12),
        Err(LogError::Corrupt { .. })
    ));
}

#[test]
fn a_group_that_is_dropped_leaves_nothing() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    let before = log.end();
    let mut group = log.group(1_000, Class::Accept).unwrap();
    let dropped = group.push(1, b"never").unwrap();
    drop(group);
    assert_eq!(log.end(), before);
    let written = write(&log, &[b"instead"]);
    assert_eq!(written[0].0, dropped, "its place is taken by the next");
    drop(log);
    assert_eq!(open(config(dir.path())).2, written);
}

#[test]
fn what_is_too_large_is_refused_and_the_rest_goes_on() {
    let dir = dir();
    let (log, ..) = open(config(dir.path()));
    let limit = log.group_limit();
    let largest = vec![7; limit - RECORD_OVERHEAD];
    let too_large = vec![7; limit - RECORD_OVERHEAD + 1];
    let refused = log.write_group(&[other(&too_large)]);
    assert!(matches!(refused, Err(LogError::TooLarge { .. })));
    let mut expected = write(&log, &[&largest]);
    expected.extend(write(&log, &[&largest]));
    expected.extend(write(&log, &[b"small"]));
    drop(log);
    assert_eq!(open(config(dir.path())).2, expected);
}
