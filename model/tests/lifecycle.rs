//! What is known of a message is the same in whatever order it became known.

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use zajil_model::lifecycle::{Event, MessageState, Status};
use zajil_model::refusal::{Failure, Reason};
use zajil_model::time::Timestamp;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + seconds)
}

fn failure(reason: Reason) -> Failure {
    Failure { reason, code: 0 }
}

fn after(events: &[(Event, Timestamp)]) -> MessageState {
    let mut state = MessageState::default();
    for (event, at) in events {
        state.apply(*event, *at);
    }
    state
}

const GAVE_UP: Event = Event::Failed(Failure {
    reason: Reason::AttemptsExhausted,
    code: 0,
});
const REJECTED: Event = Event::Rejected(Failure {
    reason: Reason::NoSuchRecipient,
    code: 404,
});

/// Settled evidence, weakest first; those of one group are equals.
const RANKS: [&[Event]; 6] = [
    &[GAVE_UP, Event::Expired, Event::Cancelled, Event::Suppressed],
    &[Event::Unknown],
    &[Event::Acked],
    &[REJECTED],
    &[Event::Delivered],
    &[Event::Read],
];

fn channel_evidence() -> impl Strategy<Value = (Event, Timestamp)> {
    let event = prop_oneof![
        Just(Event::Acked),
        Just(Event::Delivered),
        Just(Event::Read),
        Just(REJECTED),
        Just(Event::Rejected(Failure {
            reason: Reason::InvalidContent,
            code: 400
        })),
    ];
    // Few times, so that some evidence comes at the same one.
    (event, (0..8_i64).prop_map(at))
}

fn engine_end() -> impl Strategy<Value = Event> {
    prop::sample::select([RANKS[0], RANKS[1]].concat())
}

fn unsettled() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1..6_u8).prop_map(Event::Attempt),
        Just(Event::Refused {
            failure: failure(Reason::Temporary),
            retry_at: at(90)
        }),
        Just(Event::Scheduled(at(99))),
        Just(Event::Due),
    ]
}

#[test]
fn a_message_is_sent_delivered_and_read() {
    let state = after(&[
        (Event::Attempt(1), at(1)),
        (Event::Acked, at(2)),
        (Event::Delivered, at(3)),
        (Event::Read, at(4)),
    ]);

    let expected = MessageState {
        status: Status::Read,
        attempts: 1,
        first_attempt_at: Some(at(1)),
        sent_at: Some(at(2)),
        delivered_at: Some(at(3)),
        read_at: Some(at(4)),
        ..MessageState::default()
    };
    assert_eq!(state, expected);
}

#[test]
fn a_refused_attempt_waits_for_the_next_one() {
    let temporary = failure(Reason::Temporary);
    let mut state = after(&[(Event::Attempt(1), at(1))]);

    let refused = Event::Refused {
        failure: temporary,
        retry_at: at(5),
    };
    assert_eq!(state.apply(refused, at(2)), Some(Status::Pending));
    assert_eq!(
        (state.failure, state.next_at),
        (Some(temporary), Some(at(5)))
    );

    assert_eq!(
        state.apply(Event::Scheduled(at(60)), at(2)),
        Some(Status::Scheduled)
    );
    assert_eq!(state.apply(Event::Due, at(60)), Some(Status::Pending));
    assert_eq!(
        state.apply(Event::Attempt(2), at(61)),
        Some(Status::Processing)
    );
    assert_eq!((state.attempts, state.next_at), (2, None));
    assert_eq!(state.first_attempt_at, Some(at(1)));
}

#[test]
fn a_message_that_was_sent_after_all_shows_no_failure() {
    let state = after(&[(GAVE_UP, at(1)), (Event::Acked, at(2))]);

    assert_eq!(state.status, Status::Sent);
    assert_eq!(
        (state.failure, state.ended_at, state.by_channel),
        (None, None, false)
    );
}

#[test]
fn stronger_evidence_wins_in_either_order() {
    for (low, weak) in RANKS.iter().enumerate() {
        for strong in RANKS[low + 1..].iter().copied().flatten() {
            for weak in weak.iter() {
                let expected = after(&[(*strong, at(1))]).status;
                let told = after(&[(*weak, at(1)), (*strong, at(1))]).status;
                let reversed = after(&[(*strong, at(1)), (*weak, at(1))]).status;
                assert_eq!(
                    (told, reversed),
                    (expected, expected),
                    "{weak:?} {strong:?}"
                );
            }
        }
    }
}

#[test]
fn the_first_of_equal_ends_stays() {
    for first in RANKS[0] {
        for second in RANKS[0] {
            assert_eq!(
                after(&[(*first, at(1)), (*second, at(2))]),
                after(&[(*first, at(1))]),
                "{first:?} {second:?}"
            );
        }
    }
}

#[test]
fn every_status_is_found_by_its_word_and_by_its_number() {
    for status in Status::ALL {
        assert_eq!(Status::parse(status.label()), Some(status));
        assert_eq!(Status::from_number(status as u8), Some(status));
    }
    assert_eq!(
        (Status::parse("queued"), Status::from_number(11)),
        (None, None)
    );
}

proptest! {
    #[test]
    fn evidence_of_the_channel_merges_to_one_state_in_any_order_and_repetition(
        evidence in prop::collection::vec(channel_evidence(), 1..8),
        told in prop::collection::vec(any::<Index>(), 0..24),
    ) {
        let repeated: Vec<_> =
            told.iter().map(|index| *index.get(&evidence)).chain(evidence.clone()).collect();
        let backwards: Vec<_> = evidence.iter().rev().copied().collect();

        prop_assert_eq!(after(&repeated), after(&evidence));
        prop_assert_eq!(after(&backwards), after(&evidence));
    }

    #[test]
    fn what_the_engine_decides_never_overrides_the_channel(
        evidence in prop::collection::vec(channel_evidence(), 1..6),
        ends in prop::collection::vec((engine_end(), (0..50_i64).prop_map(at)), 0..6),
        places in prop::collection::vec(any::<Index>(), 6),
    ) {
        let mut mixed = evidence.clone();
        for (end, place) in ends.into_iter().zip(places) {
            mixed.insert(place.index(mixed.len() + 1), end);
        }

        prop_assert_eq!(after(&mixed), after(&evidence));
    }

    #[test]
    fn nothing_revives_a_settled_message(
        settled in subsequence(RANKS.concat(), 1..4).prop_shuffle(),
        late in prop::collection::vec(unsettled(), 1..6),
    ) {
        let settled: Vec<_> = settled.into_iter().map(|event| (event, at(1))).collect();
        let before = after(&settled);
        let mut state = before;

        for event in late {
            prop_assert_eq!(state.apply(event, at(2)), None);
        }

        let attempts = (state.attempts, state.first_attempt_at);
        let (attempts, first_attempt_at) = attempts;
        prop_assert_eq!(state, MessageState { attempts, first_attempt_at, ..before });
    }

    #[test]
    fn a_change_is_answered_exactly_when_the_status_changed(
        events in prop::collection::vec(
            prop_oneof![unsettled(), engine_end(), channel_evidence().prop_map(|(e, _)| e)],
            1..12,
        ),
    ) {
        let mut state = MessageState::default();
        for (index, event) in events.into_iter().enumerate() {
            let before = state.status;
            let told = state.apply(event, at(index as i64));

            prop_assert_eq!(told, (state.status != before).then_some(state.status));
        }
    }

    #[test]
    fn a_stored_state_reads_back(
        events in prop::collection::vec(channel_evidence(), 0..5),
        before in prop::collection::vec(unsettled(), 0..5),
    ) {
        let before: Vec<_> = before.into_iter().map(|event| (event, at(0))).collect();
        let state = after(&[before, events].concat());

        let stored = rmp_serde::to_vec_named(&state).unwrap();

        prop_assert_eq!(rmp_serde::from_slice::<MessageState>(&stored).unwrap(), state);
    }
}

#[test]
fn an_attempt_that_was_repeated_without_an_answer_leaves_a_doubt_that_a_refusal_does_not_end() {
    let refused = Event::Refused {
        failure: failure(Reason::Temporary),
        retry_at: at(9),
    };

    let repeated = after(&[
        (Event::Attempt(1), at(1)),
        (Event::Attempt(2), at(2)),
        (refused, at(3)),
    ]);
    let answered = after(&[
        (Event::Attempt(1), at(1)),
        (Event::Attempt(1), at(1)),
        (refused, at(2)),
        (Event::Attempt(2), at(3)),
        (refused, at(4)),
    ]);

    let claimed = after(&[(Event::Attempt(2), at(2)), (refused, at(3))]);

    assert!(repeated.may_have_gone() && claimed.may_have_gone());
    assert!(!answered.may_have_gone());
}

#[test]
fn attempts_that_say_nothing_against_a_message_are_not_counted() {
    let held = Event::Refused {
        failure: failure(Reason::Session),
        retry_at: at(30),
    };
    let busy = Event::Refused {
        failure: failure(Reason::Temporary),
        retry_at: at(30),
    };
    let state = after(&[
        (Event::Attempt(1), at(1)),
        (held, at(2)),
        (Event::Attempt(2), at(30)),
        (busy, at(31)),
        (Event::Attempt(3), at(60)),
        // It was armed, and is known never to have left.
        (Event::Due, at(61)),
    ]);

    assert_eq!((state.attempts, state.forgiven, state.counted()), (3, 2, 1));
    assert_eq!(state.status, Status::Pending);
    assert!(!state.may_have_gone());
}

#[test]
fn what_may_have_gone_is_not_said_to_have_stayed() {
    let stayed = [
        GAVE_UP,
        Event::Expired,
        Event::Cancelled,
        Event::Suppressed,
        Event::Unknown,
    ];
    for event in stayed {
        assert_eq!(event.in_doubt(), Event::Unknown);
    }
    for event in [Event::Acked, REJECTED, Event::Delivered, Event::Read] {
        assert_eq!(event.in_doubt(), event, "the channel knows");
    }
}

#[test]
fn who_withdraws_what_may_have_gone_without_knowing_it_leaves_it_unknown() {
    for event in [Event::Expired, Event::Cancelled, Event::Suppressed] {
        let events = [Event::Attempt(1), Event::Attempt(2), Event::Due, event];
        let events = events.map(|event| (event, at(1)));

        assert_eq!(after(&events).status, Status::Unknown, "{event:?}");
    }
}
