//! What the simulated WhatsApp does, by passed-in time.

use zajil_model::refusal::Reason;
use zajil_model::time::Timestamp;
use zajil_model::wa_id::WaId;

use super::*;
use crate::TransportEvent as Event;

mod seeds;
mod sessions;

const PHONE: &str = "+966501234567";

fn at(ms: u64) -> Moment {
    Moment {
        mono: Mono::from_nanos(ms * 1_000_000),
        wall: Timestamp::from_millis(ms as i64),
    }
}

fn instance(number: u64) -> InstanceId {
    InstanceId::new(number).unwrap()
}

fn id(number: u64) -> WaId {
    format!("3EB0{number:018X}").parse().unwrap()
}

fn frame(number: u64) -> Frame {
    let recipient = Phone::parse(PHONE).unwrap();
    Frame {
        wa_id: id(number),
        recipient,
        attempt: 1,
        handed_over_at: Timestamp::from_millis(0),
    }
}

/// One instance of a world, and all that it was told.
struct Scene {
    world: World,
    key: LineKey,
    told: Vec<Event>,
    shown: Vec<bool>,
}

impl Scene {
    fn of(script: &str) -> Self {
        Self::seeded(script, 1)
    }

    fn seeded(script: &str, seed: u64) -> Self {
        let mut world = World::new(seed, 1_000);
        let opened = open(&mut world, script, 0);
        Self {
            world,
            key: opened.key,
            told: opened.events,
            shown: Vec::new(),
        }
    }

    fn submit(&mut self, ms: u64, frames: &[Frame]) -> usize {
        let taken = self.world.submit(self.key, frames, Arrival::Local, at(ms));
        self.told.extend(taken.events);
        self.shown.extend(taken.shown);
        taken.count
    }

    fn until(&mut self, ms: u64) -> &mut Self {
        for (key, events) in self.world.due(at(ms)) {
            assert_eq!(key, self.key);
            self.told.extend(events);
        }
        self
    }

    /// What was told since the last question, without times.
    fn told(&mut self) -> Vec<String> {
        self.told.drain(..).map(|event| word(&event)).collect()
    }
}

fn open(world: &mut World, script: &str, ms: u64) -> Opened {
    let script = Arc::new(Script::parse(script).unwrap());
    world.open(instance(1), Phone::parse(PHONE).unwrap(), script, at(ms))
}

fn word(event: &Event) -> String {
    let last = |wa_id: &WaId| {
        wa_id
            .to_string()
            .trim_start_matches("3EB0")
            .trim_start_matches('0')
            .to_owned()
    };
    match event {
        Event::Acked { wa_id, .. } => format!("acked {}", last(wa_id)),
        Event::Refused {
            wa_id,
            refusal,
            code,
            ..
        } => {
            format!("refused {} {refusal:?} {code}", last(wa_id))
        }
        Event::Ambiguous { wa_id, .. } => format!("ambiguous {}", last(wa_id)),
        Event::Received { wa_id, .. } => format!("received {}", last(wa_id)),
        Event::Read { wa_id, .. } => format!("read {}", last(wa_id)),
        Event::Session(SessionEvent::Online { .. }) => "online".to_owned(),
        Event::Session(SessionEvent::Offline { .. }) => "offline".to_owned(),
        Event::Session(SessionEvent::Restricted { until }) => {
            format!("restricted until {}", until.as_millis())
        }
        Event::Session(other) => format!("{other:?}").to_lowercase(),
    }
}

#[test]
fn by_default_a_message_is_acked_received_and_read_within_two_seconds() {
    let mut scene = Scene::of("{}");
    scene.submit(0, &[frame(1)]);

    assert_eq!(scene.told(), ["online"]);
    assert_eq!(scene.until(9).told(), ["acked 1"]);
    assert_eq!(scene.until(310).told(), ["received 1"]);
    assert_eq!(scene.until(2_000).told(), ["read 1"]);
    assert_eq!(scene.until(100_000).told(), [""; 0]);
}

#[test]
fn without_latency_and_receipts_acks_come_in_one_batch_at_once() {
    let mut scene = Scene::of(super::super::script::AT_ONCE);

    assert_eq!(scene.submit(0, &[frame(1), frame(2), frame(3)]), 3);

    assert_eq!(scene.told(), ["online", "acked 1", "acked 2", "acked 3"]);
    assert_eq!(scene.world.next_due(), None);
}

#[test]
fn an_id_that_comes_again_is_acked_again_and_shown_once() {
    for script in ["{}", super::super::script::AT_ONCE] {
        let mut scene = Scene::of(script);

        scene.submit(0, &[frame(1)]);
        scene.until(2_000).told();
        scene.submit(
            2_000,
            &[Frame {
                attempt: 2,
                ..frame(1)
            }],
        );

        assert_eq!(scene.shown, [true, false]);
        assert_eq!(scene.until(10_000).told(), ["acked 1"]);
    }
}

#[test]
fn a_channel_that_is_not_idempotent_shows_an_id_each_time() {
    let mut scene = Scene::of(r#"{"idempotent": false, "receipts": null}"#);

    scene.submit(
        0,
        &[
            frame(1),
            Frame {
                attempt: 2,
                ..frame(1)
            },
        ],
    );

    assert_eq!(scene.shown, [true, true]);
}

#[test]
fn each_class_of_refusal_is_told_with_its_code_and_nothing_is_shown() {
    let classes = [
        ("throttled", Refusal::Throttled { wait_ms: 700 }),
        ("temporary", Refusal::Temporary),
        (
            "no_such_recipient",
            Refusal::Permanent(Reason::NoSuchRecipient),
        ),
        (
            "invalid_content",
            Refusal::Permanent(Reason::InvalidContent),
        ),
        ("not_allowed", Refusal::Permanent(Reason::NotAllowed)),
        ("hold_instance", Refusal::HoldInstance),
    ];
    for (class, refusal) in classes {
        let wait = if class == "throttled" { 700 } else { 0 };
        let mut scene = Scene::of(&format!(
            r#"{{"refusals": [{{"class": "{class}", "code": 479, "wait_ms": {wait}, "every": 2}}]}}"#
        ));

        scene.submit(0, &[frame(1), frame(2), frame(3)]);

        assert_eq!(scene.shown, [true, false, true]);
        let told = scene.until(20).told();
        assert!(
            told.contains(&format!("refused 2 {refusal:?} 479")),
            "{told:?}"
        );
        assert!(told.contains(&"acked 1".to_owned()) && told.contains(&"acked 3".to_owned()));
    }
}

#[test]
fn a_rule_refuses_the_recipients_and_attempts_that_it_names() {
    let script = r#"{"latency": {"min_ms": 0, "max_ms": 0}, "receipts": null,
        "refusals": [{"class": "temporary", "recipients": ["4567"], "first_attempts": 2}]}"#;
    let mut scene = Scene::of(script);
    let other = Frame {
        recipient: Phone::parse("+966501234568").unwrap(),
        ..frame(9)
    };

    scene.submit(
        0,
        &[
            frame(1),
            Frame {
                attempt: 2,
                ..frame(1)
            },
            Frame {
                attempt: 3,
                ..frame(1)
            },
        ],
    );
    scene.submit(0, &[other]);

    let refused = "refused 1 Temporary 0";
    assert_eq!(
        scene.told(),
        ["online", refused, refused, "acked 1", "acked 9"]
    );
}

#[test]
fn frames_above_the_ceiling_of_a_second_are_throttled() {
    let script = r#"{"latency": {"min_ms": 0, "max_ms": 0}, "receipts": null,
        "throttle": {"per_second": 2, "wait_ms": 1500, "code": 429}}"#;
    let mut scene = Scene::of(script);

    scene.submit(100, &[frame(1), frame(2), frame(3)]);
    scene.submit(1_100, &[frame(4)]);

    let refused = "refused 3 Throttled { wait_ms: 1500 } 429";
    assert_eq!(
        scene.told(),
        ["online", "acked 1", "acked 2", refused, "acked 4"]
    );
}

#[test]
fn acks_are_late_repeated_missing_or_for_ids_that_nobody_sent() {
    let zero = r#""receipts": null, "latency": {"min_ms": 1, "max_ms": 1}"#;
    let told = |more: &str| {
        let mut scene = Scene::of(&format!("{{{zero}, {more}}}"));
        scene.submit(0, &[frame(1)]);
        let soon = scene.until(100).told();
        (soon[1..].to_vec(), scene.until(100_000).told())
    };

    let late = told(r#""late_acks": {"probability": 1, "min_ms": 90000, "max_ms": 90000}"#);
    assert_eq!(late, (vec![], vec!["acked 1".to_owned()]));
    let repeated = told(r#""repeated_acks": {"probability": 1, "times": 2}"#);
    assert_eq!(repeated.0, ["acked 1", "acked 1", "acked 1"]);
    let missing = told(r#""missing_acks": {"probability": 1}"#);
    assert_eq!(missing, (vec![], vec![]));
    let unknown = told(r#""unknown_acks": {"probability": 1}"#).0;
    assert_eq!((unknown.len(), unknown[0].as_str()), (2, "acked 1"));
    assert_ne!(unknown[1], "acked 1");
}

#[test]
fn a_frame_whose_ack_is_missing_was_shown_unless_it_was_lost() {
    for (lost, shown) in [(0, true), (1, false)] {
        let script = format!(r#"{{"missing_acks": {{"probability": 1, "lost": {lost}}}}}"#);
        let mut scene = Scene::of(&script);

        scene.submit(0, &[frame(1)]);

        assert_eq!(scene.shown, [shown]);
        let receipts = if shown {
            vec!["received 1", "read 1"]
        } else {
            vec![]
        };
        assert_eq!(scene.until(100_000).told()[1..], receipts);
    }
}

#[test]
fn receipts_may_come_in_any_order_and_twice() {
    let script = r#"{"latency": {"min_ms": 30, "max_ms": 30}, "receipts": {"order": "any", "repeated": 1,
        "received": {"probability": 1, "min_ms": 20, "max_ms": 20},
        "read": {"probability": 1, "min_ms": 10, "max_ms": 10}}}"#;
    let mut scene = Scene::of(script);

    scene.submit(0, &[frame(1)]);

    let all = [
        "online",
        "read 1",
        "read 1",
        "received 1",
        "received 1",
        "acked 1",
    ];
    assert_eq!(scene.until(100).told(), all);
}

#[test]
fn the_channel_may_report_a_failure_after_its_ack() {
    let script = r#"{"receipts": null, "nacks_after_sent":
        {"probability": 1, "min_ms": 100, "max_ms": 100, "class": "not_allowed", "code": 131}}"#;
    let mut scene = Scene::of(script);

    scene.submit(0, &[frame(1)]);

    assert_eq!(scene.until(50).told(), ["online", "acked 1"]);
    assert_eq!(
        scene.until(200).told(),
        ["refused 1 Permanent(NotAllowed) 131"]
    );
}

#[test]
fn draining_takes_no_more_and_still_answers() {
    let mut scene = Scene::of("{}");
    scene.submit(0, &[frame(1)]);

    scene.world.drain(scene.key);

    assert_eq!(scene.submit(1, &[frame(2)]), 0);
    assert_eq!(scene.until(10).told(), ["online", "acked 1"]);
}

#[test]
fn unanswered_frames_are_bounded_and_missing_acks_do_not_use_up_the_room() {
    let frames: Vec<_> = (1..=10_000).map(frame).collect();
    let mut scene = Scene::of("{}");
    assert_eq!(scene.submit(0, &frames), UNANSWERED_LIMIT);

    let mut silent = Scene::of(r#"{"missing_acks": {"probability": 1}}"#);
    assert_eq!(silent.submit(0, &frames), 10_000);
}

#[test]
fn an_open_instance_that_does_nothing_is_small() {
    assert!(size_of::<Line>() <= 512, "{}", size_of::<Line>());
}
