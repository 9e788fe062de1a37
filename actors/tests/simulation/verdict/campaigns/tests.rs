//! That the comparison of campaigns can fail: each kind of fault, planted.

use zajil_model::id::{BatchId, Shard, Tick};

use super::*;
use crate::customers::campaign::{Notes, Plan};

fn campaign(notes: Notes) -> Campaign {
    let plan = Plan {
        rows: 20,
        keeps_duplicates: false,
        starts_at: 0,
        cancels_at: None,
    };
    Campaign {
        number: 0,
        id: BatchId::give(Tick(1), Shard::of(1)),
        instances: Vec::new(),
        plan,
        notes: std::sync::Arc::new(parking_lot::Mutex::new(notes)),
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Whether a first frame at that time is found, of a campaign of which this is known.
fn is_found(at: u64, notes: impl FnOnce(&mut Notes)) -> bool {
    let mut known = Notes {
        started_at: Some(seconds(5)),
        ..Notes::default()
    };
    notes(&mut known);
    let id = MessageId::give(Tick(1), Shard::of(1));
    stood_still(&campaign(known), &BTreeMap::from([(id, seconds(at))])).is_err()
}

#[test]
fn what_leaves_before_a_start_behind_a_cancel_or_in_a_pause_is_found() {
    let paused = |notes: &mut Notes| notes.pauses = vec![(seconds(10), Some(seconds(20)))];
    let cancelled = |notes: &mut Notes| notes.cancelled_at = Some(seconds(10));

    assert!(is_found(4, |_| {}) && !is_found(6, |_| {}));
    assert!(is_found(15, paused) && !is_found(9, paused) && !is_found(21, paused));
    assert!(is_found(11, cancelled) && !is_found(9, cancelled));
}

#[test]
fn rows_of_a_recipient_that_was_there_or_without_a_name_are_no_messages() {
    let (taken, refused, progress) = campaign(Notes::default()).becomes(11);

    assert_eq!(taken, [0, 1, 2, 3, 4, 5, 7, 8, 9]);
    assert_eq!(refused, [10]);
    assert_eq!((progress.duplicates, progress.taken), (1, 9));
}
