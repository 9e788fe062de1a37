//! A caller gets what their limit says: never more in a window, whatever crashes.

use std::time::Duration;

use proptest::prelude::*;
use zajil_model::quota::{Answer, Reservation, Take, WINDOW, Window};
use zajil_model::time::Timestamp;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + seconds)
}

/// Takes as an owner does whose writes all succeed at once.
fn take(window: &mut Window, now: Timestamp, limit: u64) -> Answer {
    loop {
        match window.take(now, limit) {
            Take::Answered(answer) => return answer,
            Take::MustReserve(reservation) => window.reserved(reservation),
        }
    }
}

#[test]
fn a_window_opens_with_its_first_request_and_lasts_an_hour() {
    let mut window = Window::new();

    let first = take(&mut window, at(10), 2);
    let second = take(&mut window, at(3_609), 2);
    let third = take(&mut window, at(3_609), 2);
    let next = take(&mut window, at(3_610), 2);

    assert_eq!(
        first,
        Answer {
            allowed: true,
            limit: 2,
            remaining: 1,
            reset: at(3_610)
        }
    );
    assert_eq!(
        second,
        Answer {
            allowed: true,
            limit: 2,
            remaining: 0,
            reset: at(3_610)
        }
    );
    assert_eq!(
        third,
        Answer {
            allowed: false,
            limit: 2,
            remaining: 0,
            reset: at(3_610)
        }
    );
    assert_eq!(
        next,
        Answer {
            allowed: true,
            limit: 2,
            remaining: 1,
            reset: at(7_210)
        }
    );
}

#[test]
fn who_waits_for_the_reset_they_were_told_is_let_through() {
    let mut window = Window::new();
    let opened = at(0) + Duration::from_millis(300);

    let told = take(&mut window, opened, 1).reset;

    assert_eq!(told, at(3_601));
    assert!(!take(&mut window, told - Duration::from_micros(1), 1).allowed);
    assert!(take(&mut window, told, 1).allowed);
}

#[test]
fn nothing_is_served_before_its_reservation_is_durable() {
    let mut window = Window::new();
    let asked = Reservation {
        start: at(0),
        upto: 50,
    };

    assert_eq!(window.take(at(0), 1_000), Take::MustReserve(asked));
    assert_eq!(window.take(at(5), 1_000), Take::MustReserve(asked));

    window.reserved(asked);
    let served = (0..).take_while(|_| matches!(window.take(at(6), 1_000), Take::Answered(_)));
    assert_eq!(served.count(), 50);
}

#[test]
fn a_reservation_is_asked_for_before_anybody_waits() {
    let mut window = Window::new();
    (0..24).for_each(|_| assert!(take(&mut window, at(0), 1_000).allowed));
    assert_eq!(window.needs_reservation(at(0), 1_000), None);

    take(&mut window, at(0), 1_000);

    let next = Reservation {
        start: at(0),
        upto: 100,
    };
    assert_eq!(window.needs_reservation(at(0), 1_000), Some(next));
    assert_eq!(window.needs_reservation(at(0), 1_000), None);
}

#[test]
fn a_window_that_is_reserved_whole_asks_for_no_more() {
    let mut window = Window::new();

    let answers: Vec<Answer> = (0..60).map(|_| take(&mut window, at(0), 55)).collect();

    assert_eq!(answers.iter().filter(|answer| answer.allowed).count(), 55);
    assert_eq!(window.needs_reservation(at(0), 55), None);
}

#[test]
fn a_new_owner_takes_all_that_was_reserved_for_used() {
    let saved = Reservation {
        start: at(0),
        upto: 50,
    };
    let mut window = Window::recovered(Some(saved));

    assert_eq!(take(&mut window, at(1), 60).remaining, 9);
    assert_eq!(
        take(&mut Window::recovered(Some(saved)), at(3_600), 60).remaining,
        59
    );
}

#[test]
fn a_large_key_bears_many_crashes_in_a_window() {
    let limit = 10_000_000;
    let mut saved = None;
    for second in 0..50 {
        let mut window = Window::recovered(saved);
        let Take::MustReserve(reservation) = window.take(at(second), limit) else {
            panic!("what was reserved before a crash is gone");
        };
        window.reserved(reservation);
        assert!(take(&mut window, at(second), limit).allowed, "{second}");
        saved = Some(reservation);
    }
}

#[test]
fn an_owner_that_stops_in_order_hands_on_what_was_used_exactly() {
    let mut window = Window::new();
    assert_eq!(window.handover(at(0)), None);
    (0..7).for_each(|_| assert!(take(&mut window, at(0), 1_000).allowed));

    let handed_over = window.handover(at(1));

    assert_eq!(
        handed_over,
        Some(Reservation {
            start: at(0),
            upto: 7
        })
    );
    assert_eq!(
        take(&mut Window::recovered(handed_over), at(2), 1_000).remaining,
        992
    );
    assert_eq!(Window::recovered(handed_over).handover(at(2)), None);
    assert_eq!(window.handover(at(3_600)), None);
}

#[test]
fn a_changed_limit_is_in_force_at_once() {
    let mut window = Window::new();
    (0..10).for_each(|_| assert!(take(&mut window, at(0), 1_000).allowed));

    let lowered = take(&mut window, at(1), 5);
    let raised = take(&mut window, at(1), 2_000);

    assert_eq!(
        (lowered.allowed, lowered.limit, lowered.remaining),
        (false, 5, 0)
    );
    assert_eq!(
        (raised.allowed, raised.limit, raised.remaining),
        (true, 2_000, 1_989)
    );
}

#[test]
fn a_look_counts_nothing() {
    let mut window = Window::new();
    take(&mut window, at(0), 10);

    let seen = Answer {
        allowed: true,
        limit: 10,
        remaining: 9,
        reset: at(3_600),
    };
    assert_eq!(
        (window.peek(at(1), 10), window.peek(at(2), 10)),
        (seen, seen)
    );
}

#[test]
fn a_late_word_of_an_earlier_window_changes_nothing() {
    let mut window = Window::new();
    take(&mut window, at(0), 10);
    let late = Reservation {
        start: at(0),
        upto: 10,
    };
    take(&mut window, at(4_000), 10);
    let before = window.clone();

    window.reserved(late);

    assert_eq!(window, before);
}

#[test]
fn a_key_with_no_requests_at_all_is_refused_without_a_write() {
    let answer = Window::new().take(at(0), 0);

    let refused = Answer {
        allowed: false,
        limit: 0,
        remaining: 0,
        reset: at(3_600),
    };
    assert_eq!(answer, Take::Answered(refused));
}

/// What happens to an owner and its storage.
#[derive(Clone, Debug)]
enum Step {
    /// A request, so many seconds after the last.
    Request { after: i64 },
    /// The write that is asked for succeeds.
    Write,
    /// The write reaches storage, and its owner never hears of it.
    WriteUnheard,
    /// The owner dies; another one reads what is stored.
    Crash,
    /// The owner stops in order and another one goes on.
    HandOver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..40_i64).prop_map(|after| Step::Request { after }),
        1 => (0..5_000_i64).prop_map(|after| Step::Request { after }),
        20 => Just(Step::Write),
        3 => Just(Step::WriteUnheard),
        2 => Just(Step::Crash),
        2 => Just(Step::HandOver),
    ]
}

proptest! {
    #[test]
    fn no_crash_lets_more_than_the_limit_through_in_an_hour(
        steps in proptest::collection::vec(step(), 1..600),
        limit in 1..120_u64,
    ) {
        let (mut window, mut stored, mut asked) = (Window::new(), None, None);
        let (mut now, mut served) = (at(0), Vec::new());

        for step in steps {
            match step {
                Step::Request { after } => {
                    now = now + Duration::from_secs(after.unsigned_abs());
                    match window.take(now, limit) {
                        Take::Answered(answer) if answer.allowed => served.push(answer.reset),
                        Take::Answered(answer) => prop_assert_eq!(answer.remaining, 0),
                        Take::MustReserve(reservation) => asked = Some(reservation),
                    }
                    asked = window.needs_reservation(now, limit).or(asked);
                }
                Step::Write => {
                    if let Some(reservation) = asked.take() {
                        stored = Some(reservation);
                        window.reserved(reservation);
                    }
                }
                Step::WriteUnheard => stored = asked.or(stored),
                Step::Crash => {
                    asked = None;
                    window = Window::recovered(stored);
                }
                Step::HandOver => {
                    asked = None;
                    stored = window.handover(now).or(stored);
                    window = Window::recovered(stored);
                }
            }
        }

        for reset in &served {
            let in_window = served.iter().filter(|other| *other == reset).count();
            prop_assert!(in_window as u64 <= limit);
        }
        served.dedup();
        for pair in served.windows(2) {
            prop_assert!(pair[1].since(pair[0]) >= WINDOW, "windows do not overlap");
        }
    }

    #[test]
    fn without_a_crash_the_headers_are_exact(
        gaps in proptest::collection::vec(0..60_u64, 1..400),
        limit in 1..300_u64,
    ) {
        let (mut window, mut now) = (Window::new(), at(0));
        let (mut opened, mut used) = (None, 0);

        for gap in gaps {
            now = now + Duration::from_secs(gap);
            if opened.is_none_or(|opened| now >= opened + WINDOW) {
                (opened, used) = (Some(now), 0);
            }
            let answer = take(&mut window, now, limit);

            prop_assert_eq!(answer.allowed, used < limit);
            used = limit.min(used + 1);
            prop_assert_eq!(answer.remaining, limit - used);
            prop_assert_eq!(Some(answer.reset), opened.map(|opened| opened + WINDOW));
        }
    }
}
