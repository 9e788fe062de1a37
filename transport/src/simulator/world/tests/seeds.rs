//! What the seed decides.

use super::*;

const WILD: &str = r#"{"late_acks": {"probability": 0.1, "min_ms": 100, "max_ms": 900},
    "missing_acks": {"probability": 0.1, "lost": 0.5}, "repeated_acks": {"probability": 0.2},
    "refusals": [{"class": "temporary", "probability": 0.2}], "unknown_acks": {"probability": 0.1},
    "disconnects": [{"every_frames": 97, "for_ms": 1}]}"#;

/// What becomes of 1,000 frames that are handed over `gap` ms apart, sorted.
fn fates(seed: u64, gap: u64) -> (Vec<bool>, Vec<String>) {
    let mut scene = Scene::seeded(WILD, seed);
    for number in 1..=1_000 {
        let now = number * gap;
        scene.until(now);
        assert_eq!(scene.submit(now, &[frame(number)]), 1);
    }
    let mut told = scene.until(10_000_000).told();
    told.sort();
    (scene.shown, told)
}

#[test]
fn a_run_replays_by_its_seed() {
    assert_eq!(fates(7, 2), fates(7, 2));
    assert_ne!(fates(7, 2), fates(8, 2));
}

#[test]
fn what_is_shown_follows_the_seed_whatever_the_timing() {
    assert_eq!(fates(7, 2).0, fates(7, 50).0);
}

#[test]
fn every_taken_frame_is_answered_exactly_once_when_no_ack_is_missing() {
    let script = WILD.replace(r#""missing_acks": {"probability": 0.1, "lost": 0.5}, "repeated_acks": {"probability": 0.2},"#, "")
        .replace(r#""unknown_acks": {"probability": 0.1},"#, "");
    let mut scene = Scene::of(&script);
    for number in 1..=1_000 {
        scene.until(number * 2);
        assert_eq!(scene.submit(number * 2, &[frame(number)]), 1);
    }

    let told = scene.until(10_000_000).told();

    let mut answers = FxHashMap::<String, u32>::default();
    for event in &told {
        if let Some((kind @ ("acked" | "refused" | "ambiguous"), rest)) = event.split_once(' ') {
            *answers
                .entry(rest.split(' ').next().unwrap_or(kind).to_owned())
                .or_default() += 1;
        }
    }
    assert_eq!(answers.len(), 1_000);
    assert!(answers.values().all(|count| *count == 1), "{answers:?}");
}
