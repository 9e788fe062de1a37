//! What becomes of an instance that goes offline, is restricted, ends or is opened by somebody else.

use super::*;

#[test]
fn a_disconnect_leaves_what_is_unanswered_ambiguous_and_comes_back() {
    let script = r#"{"latency": {"min_ms": 50, "max_ms": 50}, "receipts": null,
        "disconnects": [{"after_frames": 2, "for_ms": 1000, "shown": 0}]}"#;
    let mut scene = Scene::of(script);

    assert_eq!(scene.submit(0, &[frame(1), frame(2), frame(3)]), 2);

    assert_eq!(scene.shown, [true, false]);
    assert_eq!(
        scene.told(),
        ["online", "ambiguous 1", "ambiguous 2", "offline"]
    );
    assert_eq!(scene.submit(500, &[frame(3)]), 0);
    assert_eq!(scene.until(999).told(), [""; 0]);
    assert_eq!(scene.until(1_000).told(), ["online"]);
    assert_eq!(scene.submit(1_000, &[frame(3)]), 1);
    assert_eq!(scene.until(1_100).told(), ["acked 3"]);
}

#[test]
fn receipts_that_come_while_an_instance_is_offline_are_told_when_it_is_back() {
    let script = r#"{"latency": {"min_ms": 1, "max_ms": 1},
        "disconnects": [{"at_ms": 10, "for_ms": 5000}]}"#;
    let mut scene = Scene::of(script);
    scene.submit(0, &[frame(1)]);

    assert_eq!(scene.until(10).told(), ["online", "acked 1", "offline"]);
    assert_eq!(scene.until(5_009).told(), [""; 0]);
    assert_eq!(
        scene.until(5_010).told(),
        ["online", "received 1", "read 1"]
    );
}

#[test]
fn a_restricted_instance_is_held_until_the_time_is_over() {
    let script = r#"{"latency": {"min_ms": 0, "max_ms": 0}, "receipts": null,
        "restrictions": [{"after_frames": 2, "for_ms": 1000}]}"#;
    let mut scene = Scene::of(script);

    scene.submit(0, &[frame(1), frame(2)]);
    scene.submit(1_000, &[frame(2)]);

    let held = "refused 2 HoldInstance 463";
    assert_eq!(
        scene.told(),
        [
            "online",
            "acked 1",
            "restricted until 1000",
            held,
            "acked 2"
        ]
    );
}

#[test]
fn a_session_ends_and_only_a_ban_outlasts_the_next_opening() {
    let next = [
        ("replaced", "online"),
        ("logged_out", "online"),
        ("banned", "banned"),
    ];
    for (session, next) in next {
        let script = format!(r#"{{"endings": [{{"session": "{session}", "after_frames": 2}}]}}"#);
        let mut scene = Scene::of(&script);

        assert_eq!(scene.submit(0, &[frame(1), frame(2), frame(3)]), 2);

        let told = scene.told();
        assert_eq!(
            told[1..],
            ["ambiguous 1", "ambiguous 2", &session.replace('_', "")]
        );
        assert_eq!(scene.shown, [true, false]);
        assert_eq!(scene.submit(1, &[frame(3)]), 0);
        scene.world.close(scene.key, at(2));
        let opened = open(&mut scene.world, &script, 3);
        assert_eq!(opened.events.iter().map(word).collect::<Vec<_>>(), [next]);
    }
}

#[test]
fn who_opens_an_instance_replaces_who_had_it_open() {
    let mut scene = Scene::of("{}");
    scene.submit(0, &[frame(1)]);

    let opened = open(&mut scene.world, "{}", 1);

    assert_eq!(
        opened.before.iter().map(word).collect::<Vec<_>>(),
        ["ambiguous 1", "replaced"]
    );
    assert_eq!(scene.submit(2, &[frame(2)]), 0);
    let taken = scene
        .world
        .submit(opened.key, &[frame(2)], Arrival::Local, at(2));
    assert_eq!(taken.count, 1);
}

#[test]
fn frames_that_arrive_over_a_connection_while_offline_are_ambiguous_and_not_shown() {
    let mut scene = Scene::of(r#"{"connect": {"min_ms": 100, "max_ms": 100}}"#);

    let taken = scene
        .world
        .submit(scene.key, &[frame(1)], Arrival::Remote, at(1));

    assert_eq!((taken.count, taken.shown), (1, vec![false]));
    assert_eq!(
        taken.events.iter().map(word).collect::<Vec<_>>(),
        ["ambiguous 1"]
    );
    assert_eq!(scene.until(100).told(), ["online"]);
}
