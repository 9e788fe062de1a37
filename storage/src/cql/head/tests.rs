//! Heads, and what may be behind what is flushed.

use super::*;

#[test]
fn nothing_can_be_behind_what_is_flushed_up_to_the_last_tick_that_may_be_written() {
    let shard = Shard::of(1);
    let head = |tail: Tick, log| Head {
        tail: tail.id(shard),
        log: Tick(log),
        ..Head::default()
    };

    assert!(head(Tick(8), 7).is_all_flushed(shard));
    assert!(!head(Tick(7), 7).is_all_flushed(shard));
    assert!(!head(Tick(8), 240_007).is_all_flushed(shard));
    assert!(Head::default().is_all_flushed(shard));
}

#[test]
fn a_head_comes_back_as_it_was_written() {
    let mut head = Head {
        ids: Tick(7),
        log: Tick(8),
        tail: 6 << 10,
        floor: 5,
        redo: Redo {
            seq: 3,
            epoch: Epoch(2),
            parts: 4,
            is_applied: true,
        },
        owner: u64::MAX,
        ..Head::default()
    };
    head.seals
        .seal_below(Epoch(3), sealed(90).map(|id| (Epoch(1), id)));

    assert_eq!(Head::decode(&head.encode().unwrap()), Ok(head));
}
