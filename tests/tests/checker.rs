//! The checker itself: it passes good books, and finds each kind of fault that is planted in them.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::time::Duration;

use zajil_model::lifecycle::Status;
use zajil_model::message::Lane;
use zajil_tests::checker::{Barrier, Evidence, Fault, Held, Rules, check};
use zajil_tests::ledger::{Accepted, Book, Final, Frame, Indeterminate};
use zajil_tests::operator::Pace;

const INSTANCE: u64 = 7;
const KILL: i64 = 5_550_000;

/// Ten messages to two recipients, ten a second; the sixth was in flight at a kill and repeated.
fn good() -> (Evidence, Rules) {
    let numbers = 0..10_u64;
    let recipient = |n: u64| format!("+96650000000{}", n % 2);
    let wa_id = |n: u64| format!("3EB0{n:018X}");
    let asked = |n: u64| (n as i64 * 1_000, n as i64 * 1_000 + 500);
    let accepted = numbers.clone().map(|n| Accepted {
        id: 100 + n,
        client_ref: format!("m{n}"),
        recipient: recipient(n),
        instance: INSTANCE,
        lane: Lane::Normal,
        request: (n, 0),
        asked: asked(n),
    });
    let frame = |n: u64, at: i64, shown: bool| Frame {
        id: wa_id(n),
        instance: INSTANCE,
        recipient: recipient(n),
        handed_over_at: at,
        received_at: at + 300,
        attempt: if shown { 1 } else { 2 },
        shown,
    };
    let mut frames: Vec<_> = numbers
        .clone()
        .map(|n| frame(n, 5_000_000 + n as i64 * 100_000, true))
        .collect();
    for late in &mut frames[6..] {
        late.handed_over_at += 1_000_000;
    }
    frames.insert(6, frame(5, 6_550_000, false));
    let finals = numbers.map(|n| Final {
        id: 100 + n,
        client_ref: format!("m{n}"),
        recipient: recipient(n),
        status: Status::Read,
        wa_id: Some(wa_id(n)),
    });
    let book = Book {
        accepted: accepted.collect(),
        ..Book::default()
    };
    let rules = Rules {
        paces: BTreeMap::from([(
            INSTANCE,
            Pace {
                rate: 10.0,
                burst: 1,
            },
        )]),
        kills: vec![KILL],
        in_flight: Duration::from_secs(1),
        stamp_lag: Duration::ZERO,
        ..Rules::default()
    };
    (
        Evidence {
            book,
            frames,
            finals: finals.collect(),
        },
        rules,
    )
}

/// Plants a fault, and asserts that this kind, and no other, is found.
#[track_caller]
fn found(plant: impl FnOnce(&mut Evidence, &mut Rules), expected: &Fault) {
    let (mut evidence, mut rules) = good();
    plant(&mut evidence, &mut rules);

    let report = check(&evidence, &rules);

    let kinds: Vec<_> = report.faults.iter().map(discriminant).collect();
    assert!(kinds.contains(&discriminant(expected)), "{report}");
    assert!(
        kinds.iter().all(|kind| *kind == discriminant(expected)),
        "{report}"
    );
}

fn some_text() -> String {
    String::new()
}

#[test]
fn good_books_pass() {
    let (evidence, rules) = good();

    let report = check(&evidence, &rules);

    assert_eq!(report.faults, []);
    assert_eq!((report.accepted, report.frames, report.shown), (10, 11, 10));
}

#[test]
fn a_doubtful_message_may_be_there_or_not() {
    let (mut evidence, rules) = good();
    let doubtful = evidence.book.accepted.remove(9);
    evidence.book.indeterminate.push(Indeterminate {
        client_ref: doubtful.client_ref,
    });
    evidence.book.indeterminate.push(Indeterminate {
        client_ref: "never arrived".to_owned(),
    });

    assert_eq!(check(&evidence, &rules).faults, []);
}

#[test]
fn a_lost_message_is_found() {
    let lost = Fault::Lost {
        id: 0,
        client_ref: some_text(),
    };
    found(
        |evidence, _| {
            let id = evidence.finals.remove(3).wa_id.unwrap();
            evidence.frames.retain(|frame| frame.id != id);
        },
        &lost,
    );
}

#[test]
fn a_message_that_never_settles_is_found() {
    for status in [Status::Scheduled, Status::Pending, Status::Processing] {
        found(
            |evidence, _| evidence.finals[3].status = status,
            &Fault::Stuck { id: 0, status },
        );
    }
}

#[test]
fn a_status_that_whatsapp_refutes_is_found() {
    let lie = Fault::Lie {
        id: 0,
        status: Status::Sent,
        shown: false,
    };
    let unsent = |evidence: &mut Evidence, _: &mut Rules| {
        evidence
            .frames
            .retain(|frame| frame.id != evidence.finals[9].wa_id.clone().unwrap());
    };
    found(unsent, &lie);
    for status in [
        Status::Failed,
        Status::Expired,
        Status::Cancelled,
        Status::Suppressed,
    ] {
        found(|evidence, _| evidence.finals[3].status = status, &lie);
    }
}

#[test]
fn a_message_that_nobody_asked_for_is_found() {
    found(
        |evidence, _| drop(evidence.book.accepted.remove(4)),
        &Fault::NobodyAsked {
            id: 0,
            client_ref: some_text(),
        },
    );
}

#[test]
fn a_frame_of_no_message_or_to_somebody_else_is_found() {
    let phantom = Fault::Phantom { wa_id: some_text() };
    found(
        |evidence, rules| {
            rules.paces.clear();
            let mut frame = evidence.frames[0].clone();
            frame.id = "3EB0FFFFFFFFFFFFFFFFFF".to_owned();
            evidence.frames.push(frame);
        },
        &phantom,
    );
    found(
        |evidence, _| evidence.frames[2].recipient = "+1".to_owned() + "5550000000",
        &phantom,
    );
}

#[test]
fn a_message_that_is_shown_twice_is_found() {
    let twice = Fault::ShownTwice { what: some_text() };
    found(|evidence, _| evidence.frames[6].shown = true, &twice);
    found(
        |evidence, _| {
            let name = evidence.finals[0].client_ref.clone();
            evidence.finals[2].client_ref.clone_from(&name);
            evidence.book.accepted[2].client_ref = name;
        },
        &twice,
    );
}

#[test]
fn a_message_that_is_accepted_twice_is_found() {
    found(
        |evidence, _| {
            let mut twin = evidence.finals[0].clone();
            (twin.id, twin.wa_id, twin.status) = (999, None, Status::Cancelled);
            evidence.finals.push(twin);
        },
        &Fault::AcceptedTwice { what: some_text() },
    );
}

#[test]
fn a_frame_that_is_repeated_without_need_is_found() {
    let repeated = Fault::Repeated { wa_id: some_text() };
    found(|_, rules| rules.kills.clear(), &repeated);
    found(
        |_, rules| rules.in_flight = Duration::from_millis(10),
        &repeated,
    );
    found(|_, rules| rules.kills = vec![KILL + 60_000_000], &repeated);
}

#[test]
fn a_frame_behind_a_barrier_is_found() {
    let held = [
        Held::Recipient("+966500000000".to_owned()),
        Held::Instance(INSTANCE),
        Held::Message(108),
    ];
    for of in held {
        let barrier = Barrier {
            of: of.clone(),
            from: 5_700_000,
            until: None,
        };
        let behind = Fault::BehindBarrier {
            wa_id: some_text(),
            of,
            late: Duration::ZERO,
        };
        found(|_, rules| rules.barriers.push(barrier), &behind);
    }
}

#[test]
fn a_barrier_that_was_lifted_in_time_is_none() {
    let (evidence, mut rules) = good();
    let of = Held::Instance(INSTANCE);
    rules.barriers.push(Barrier {
        of,
        from: 5_510_000,
        until: Some(6_500_000),
    });

    assert_eq!(check(&evidence, &rules).faults, []);
}

#[test]
fn messages_in_the_wrong_order_are_found() {
    let order = Fault::Order {
        recipient: some_text(),
        first: some_text(),
        second: some_text(),
    };
    // 0 and 2 go to the same recipient.
    found(|evidence, _| evidence.frames.swap(0, 2), &order);
    // In one request the place decides.
    found(
        |evidence, _| {
            for (place, n) in [(1, 0), (0, 2)] {
                evidence.book.accepted[n].request = (77, place);
                evidence.book.accepted[n].asked = (0, 9_000_000);
            }
        },
        &order,
    );
}

#[test]
fn requests_that_overlap_have_no_order() {
    let (mut evidence, rules) = good();
    evidence.frames.swap(0, 2);
    evidence.book.accepted[0].asked.1 = 9_000;
    evidence.book.accepted[2].asked.0 = 100;

    assert_eq!(check(&evidence, &rules).faults, []);
}

#[test]
fn lanes_and_recipients_have_no_order_between_them() {
    let (mut evidence, rules) = good();
    evidence.frames.swap(0, 1);
    evidence.book.accepted[2].lane = Lane::High;
    evidence.frames.swap(2, 4);

    assert_eq!(check(&evidence, &rules).faults, []);
}

#[test]
fn a_pace_that_is_broken_is_found() {
    let pace = Fault::Pace {
        instance: 0,
        frames: 0,
        window: Duration::ZERO,
        allowed: 0.0,
    };
    found(
        |_, rules| {
            rules.paces.insert(
                INSTANCE,
                Pace {
                    rate: 5.0,
                    burst: 1,
                },
            );
        },
        &pace,
    );
    // Three at once where two may go.
    found(
        |evidence, _| {
            let at = evidence.frames[0].handed_over_at;
            evidence.frames[1].handed_over_at = at;
            evidence.frames[2].handed_over_at = at;
        },
        &pace,
    );
}
