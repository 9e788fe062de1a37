//! That the comparison can fail: each kind of fault, planted.

use zajil_model::id::{AccountId, Shard, Tick};
use zajil_model::instance::{TransportKind, TransportSettings, Wanted};
use zajil_model::message::Lane;
use zajil_model::pace::{PaceSpec, Per};
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use super::*;

fn id(n: u64) -> MessageId {
    MessageId::give(Tick(n), Shard::of(1))
}

fn instance() -> Instance {
    Instance {
        id: InstanceId::give(Tick(1), Shard::of(1)),
        account: AccountId::give(Tick(1), Shard::of(1)),
        name: "shop".to_owned(),
        transport: TransportKind::Simulator,
        settings: TransportSettings::default(),
        pace: PaceSpec {
            count: 2.0,
            per: Per::Second,
            burst: Some(1),
            jitter: 0.0,
            daily_cap: None,
            time_zone: None,
        },
        queue_while_disconnected: false,
        paused: false,
        held: false,
        wanted: Wanted::Connected,
        phone: None,
        created_at: Timestamp::from_seconds(0),
    }
}

fn accepted(n: u64, asked: (u64, u64)) -> Accepted {
    Accepted {
        id: id(n),
        client_ref: n.to_string(),
        instance: instance().id,
        recipient: Phone::parse("+966501234567").unwrap(),
        lane: Lane::Normal,
        request: (n, 0),
        timed: false,
        asked: (Duration::from_secs(asked.0), Duration::from_secs(asked.1)),
    }
}

fn frame(n: u64, millis: u64) -> Frame {
    Frame {
        id: id(n),
        instance: instance().id,
        recipient: Phone::parse("+966501234567").unwrap(),
        process: 1,
        handed_at: Duration::from_millis(millis),
    }
}

#[test]
fn what_was_asked_for_later_and_shown_first_is_found() {
    let book = [accepted(1, (0, 1)), accepted(2, (2, 3))];
    let shown = |first, second| BTreeMap::from([(id(first), 0), (id(second), 1)]);

    assert!(ordered(&book, &shown(1, 2)).is_ok());
    assert!(ordered(&book, &shown(2, 1)).is_err());
    let together = [accepted(1, (0, 3)), accepted(2, (2, 3))];
    assert!(ordered(&together, &shown(2, 1)).is_ok());
}

#[test]
fn more_than_the_pace_allows_is_found() {
    let even: Vec<Frame> = (0..20).map(|n| frame(n, n * 500)).collect();
    let mut crowded = even.clone();
    crowded.extend([frame(20, 2_600), frame(21, 2_700)]);

    assert_eq!(paced(&instance(), &even), Ok(()));
    assert!(paced(&instance(), &crowded).is_err());
}

#[test]
fn what_is_handed_over_behind_a_barrier_is_found() {
    let barrier = |until| Barrier {
        of: Held::Instance(instance().id),
        from: Duration::from_secs(2),
        until,
    };
    let frames = [frame(1, 1_900), frame(2, 4_000)];
    let held = |until| held_back(&[barrier(until)], &Finals::new(), &frames);

    assert!(held(Some(Duration::from_secs(3))).is_ok());
    assert!(held(None).is_err());
}

#[test]
fn what_was_promised_and_is_not_there_is_found() {
    let pages = Pages {
        accepted: vec![accepted(1, (0, 1))],
        ..Pages::default()
    };

    assert!(promised(&pages, &Finals::new()).is_err());
    assert!(promised(&Pages::default(), &Finals::new()).is_ok());
}
