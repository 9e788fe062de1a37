//! The pace of an instance: never above its bound in any window, and not below it by lateness.

use std::time::Duration;

use proptest::prelude::*;
use zajil_model::pace::{LEAST_FACTOR, Pace, PaceSaved, PaceSpec, Per};
use zajil_model::time::Mono;

fn spec(rate: f64, burst: Option<u32>, jitter: f64) -> PaceSpec {
    PaceSpec {
        count: rate,
        per: Per::Second,
        burst,
        jitter,
        daily_cap: None,
        time_zone: None,
    }
}

fn any_spec() -> impl Strategy<Value = PaceSpec> {
    let rate = prop_oneof![0.2..5.0, 5.0..100.0, 100.0..20_000.0, Just(1e6)];
    let burst = prop_oneof![Just(None), (1..50_u32).prop_map(Some)];
    let jitter = prop_oneof![Just(0.0), 0.0..0.5];
    (rate, burst, jitter).prop_map(|(rate, burst, jitter)| spec(rate, burst, jitter))
}

#[derive(Clone, Debug)]
enum Step {
    /// Asks this long after now, and takes as many as this.
    Poll(u64, usize),
    /// Asks when the pace says, this much late.
    PollWhenReady(u64, usize),
    Set(PaceSpec),
    Throttled(u64),
    Acked,
    /// The instance goes to another node, which hears this much later where its pace stands.
    HandOver(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_000_000_000_u64, 1..300_usize).prop_map(|(wait, n)| Step::Poll(wait, n)),
        8 => (0..5_000_000_u64, 1..300_usize).prop_map(|(late, n)| Step::PollWhenReady(late, n)),
        2 => any_spec().prop_map(Step::Set),
        1 => (0..2_000_u64).prop_map(Step::Throttled),
        2 => Just(Step::Acked),
        1 => (0..500_000_000_u64).prop_map(Step::HandOver),
    ]
}

/// What was handed over, and how much was allowed until then.
#[derive(Debug, Default)]
struct Ledger {
    /// For each hand-over: when, and how many tokens the configured rate had given until then.
    hand_overs: Vec<(u64, f64)>,
    tokens: f64,
    at: u64,
    largest_burst: u32,
}

impl Ledger {
    fn pass(&mut self, now: Mono, spec: &PaceSpec) {
        self.tokens += (now.as_nanos() - self.at) as f64 / 1e9 * spec.rate_per_second();
        self.at = now.as_nanos();
        self.largest_burst = self.largest_burst.max(spec.effective_burst());
    }

    /// Of all windows the worst: `n - tokens` in it, against `burst + 1`. A window from hand-over
    /// i to j holds j - i + 1, so one pass with a running maximum sees every one.
    fn check(&self) {
        let mut most_behind = f64::NEG_INFINITY;
        for (n, (at, tokens)) in self.hand_overs.iter().enumerate() {
            most_behind = most_behind.max(tokens - n as f64);
            let excess = most_behind + n as f64 + 1.0 - tokens;
            let allowed = f64::from(self.largest_burst) + 1.0;
            assert!(
                excess <= allowed + 1e-6,
                "{excess} above the rate at {at} ns, not {allowed}"
            );
        }
    }
}

fn take_up_to(pace: &mut Pace, ledger: &mut Ledger, most: usize, now: Mono, random: f64) {
    for _ in 0..most {
        if !pace.take(now, random) {
            return;
        }
        ledger.hand_overs.push((now.as_nanos(), ledger.tokens));
    }
}

#[test]
fn a_hand_over_that_took_long_makes_the_next_ones_no_denser() {
    let second = |seconds: f64| Mono::from_nanos((seconds * 1e9) as u64);
    let mut pace = Pace::new(&spec(1.0, Some(1), 0.0), second(0.0));

    // It was owed for long, and half a second passes before it is with the transport.
    assert!(pace.take(second(3.0), 0.0));
    pace.handed_over(1, second(3.5));
    assert!(pace.take(second(3.5), 0.0), "the burst may be caught up");
    pace.handed_over(1, second(3.5));

    assert_eq!(pace.ready_at(second(3.5)), second(4.5));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn no_window_ever_sees_more_than_its_rate_the_burst_and_one(
        first in any_spec(),
        steps in proptest::collection::vec((step(), 0.0..1.0_f64), 1..150),
    ) {
        let (mut spec, mut now) = (first, Mono::from_nanos(7_000_000_000));
        let mut pace = Pace::new(&spec, now);
        let mut ledger = Ledger { at: now.as_nanos(), ..Ledger::default() };
        ledger.pass(now, &spec);
        for (step, random) in steps {
            match step {
                Step::Poll(wait, most) => {
                    now = now + Duration::from_nanos(wait);
                    ledger.pass(now, &spec);
                    take_up_to(&mut pace, &mut ledger, most, now, random);
                }
                Step::PollWhenReady(late, most) => {
                    now = pace.ready_at(now) + Duration::from_nanos(late);
                    ledger.pass(now, &spec);
                    let before = ledger.hand_overs.len();
                    take_up_to(&mut pace, &mut ledger, most, now, random);
                    prop_assert!(ledger.hand_overs.len() > before, "ready when it says so");
                }
                Step::Set(new) => {
                    spec = new;
                    pace.set(&spec, now);
                    ledger.pass(now, &spec);
                }
                Step::Throttled(millis) => pace.throttled(Duration::from_millis(millis), now),
                Step::Acked => pace.acked(now),
                Step::HandOver(later) => {
                    let factor = Some(pace.factor());
                    let saved = PaceSaved { factor };
                    let (handed, ready) = (pace.handed(now), pace.ready_at(now));
                    let waits = ready.since(now);
                    now = now + Duration::from_nanos(later);
                    pace = Pace::restored(&spec, &saved, now);
                    pace.go_on(&handed, now);
                    prop_assert!(pace.ready_at(now).since(now) <= waits, "nothing is lost either");
                }
            }
            prop_assert!(pace.effective_rate() <= spec.rate_per_second());
            prop_assert!(pace.factor() >= LEAST_FACTOR);
        }
        ledger.check();
    }

    #[test]
    fn polls_that_are_late_by_milliseconds_still_reach_99_percent_of_the_rate(
        rate in prop_oneof![0.5..100.0, 100.0..20_000.0, Just(1e6)],
        jitter in prop_oneof![Just(0.0), 0.0..0.5],
        lateness in proptest::collection::vec((0..4_000_000_u64, 0.0..1.0_f64), 500),
        longer in 0..20_u64,
    ) {
        let spec = spec(rate, None, jitter);
        // Lateness that the burst cannot hold is lost by the upper bound, which goes first.
        let spare = (f64::from(spec.effective_burst()) - jitter) / rate * 1e9;
        let start = Mono::from_nanos(longer * 1_000_000_000);
        let mut pace = Pace::new(&spec, start);
        let (mut now, mut count) = (start, 0_u64);

        for (late, random) in &lateness {
            now = pace.ready_at(now) + Duration::from_nanos((*late).min(spare as u64));
            while pace.take(now, *random) {
                count += 1;
            }
        }

        let due = now.since(start).as_secs_f64() * rate;
        let jittered_last = 1.0 + jitter;
        prop_assert!(
            count as f64 >= (due - jittered_last) * 0.99,
            "{count} hand-overs where {due} were due"
        );
    }

    #[test]
    fn jitter_keeps_the_mean_and_bounds_each_gap(
        jitter in 0.05..0.5_f64,
        randoms in proptest::collection::vec(0.0..1.0_f64, 200),
    ) {
        let spec = spec(10.0, None, jitter);
        let start = Mono::from_nanos(0);
        let mut pace = Pace::new(&spec, start);
        let mut times = Vec::new();
        let mut now = start;
        for random in &randoms {
            now = pace.ready_at(now);
            prop_assert!(pace.take(now, *random));
            times.push(now.as_nanos() as f64 / 1e8);
        }

        for pair in times.windows(2) {
            prop_assert!(((pair[1] - pair[0]) - 1.0).abs() <= jitter + 1e-6);
        }
        let mean = (times[199] - times[0]) / 199.0;
        prop_assert!((mean - 1.0).abs() <= jitter / 199.0 + 1e-6, "{mean}");
    }
}

#[test]
fn a_new_owner_never_bursts() {
    let spec = spec(100.0, Some(50), 0.0);
    let now = Mono::from_nanos(5_000_000_000);
    let mut pace = Pace::new(&spec, now);

    assert!(!pace.take(now, 0.5));
    assert_eq!(pace.ready_at(now), now + Duration::from_millis(10));
}

#[test]
fn after_a_pause_at_most_the_burst_and_the_token_at_hand_go_at_once() {
    let spec = spec(100.0, Some(5), 0.0);
    let mut pace = Pace::new(&spec, Mono::from_nanos(0));
    let now = Mono::from_nanos(60_000_000_000);

    let at_once = (0..100).filter(|_| pace.take(now, 0.0)).count();

    assert_eq!(at_once, 6);
}

#[test]
fn an_unlimited_drain_takes_a_million_a_second_in_gulps() {
    let spec = spec(1e6, None, 0.0);
    let mut pace = Pace::new(&spec, Mono::from_nanos(0));
    let mut count = 0;
    for millisecond in 1..=1_000_u64 {
        while pace.take(Mono::from_nanos(millisecond * 1_000_000), 0.0) {
            count += 1;
        }
    }

    assert_eq!(count, 1_000_000);
}

#[test]
fn a_faster_rate_is_in_force_at_once() {
    let mut pace = Pace::new(&spec(1.0 / 3_600.0, None, 0.0), Mono::from_nanos(0));
    let now = Mono::from_nanos(1_000_000_000);

    pace.set(&spec(10.0, None, 0.0), now);

    assert!(pace.ready_at(now) <= now + Duration::from_millis(100));
}

#[test]
fn changing_the_rate_again_and_again_gives_no_burst() {
    let specs = [spec(10.0, Some(1), 0.0), spec(1_000.0, Some(1), 0.0)];
    let now = Mono::from_nanos(1_000_000_000);
    let mut pace = Pace::new(&specs[0], now);
    let mut count = 0;
    for change in 0..1_000 {
        pace.set(&specs[change % 2], now);
        count += usize::from(pace.take(now, 0.0));
    }

    assert_eq!(count, 0);
}

#[test]
fn tokens_saved_at_a_slow_rate_are_not_worth_more_at_a_fast_one() {
    let (slow, fast) = (spec(1.0, Some(1), 0.0), spec(1_000.0, Some(50), 0.0));
    let mut pace = Pace::new(&slow, Mono::from_nanos(0));
    let mut count = 0;
    for step in 1..=20 {
        let now = Mono::from_nanos(step * 1_500_000_000);
        pace.set(&fast, now);
        count += (0..100).filter(|_| pace.take(now, 0.0)).count();
        pace.set(&slow, now);
    }

    assert_eq!(count, 30);
}

#[test]
fn throttling_waits_as_long_as_asked_then_halves_the_rate_once_for_what_was_in_flight() {
    let mut pace = Pace::new(&spec(100.0, None, 0.0), Mono::from_nanos(0));
    let now = Mono::from_nanos(10_000_000_000);

    for millis in 0..20 {
        pace.throttled(Duration::from_secs(30), now + Duration::from_millis(millis));
    }

    assert_eq!(pace.effective_rate(), 50.0);
    let until = now + Duration::from_secs(30) + Duration::from_millis(19);
    assert_eq!(pace.ready_at(now), until);
    assert!(pace.take(until, 0.0));
    assert!(!pace.take(until, 0.0), "the bucket is empty after the wait");
}

#[test]
fn a_throttled_rate_never_falls_below_its_least_part() {
    let mut pace = Pace::new(&spec(32.0, None, 0.0), Mono::from_nanos(0));
    for minute in 1..100 {
        pace.throttled(Duration::ZERO, Mono::from_nanos(minute * 60_000_000_000));
    }

    assert_eq!(pace.effective_rate(), 1.0);
}

#[test]
fn acknowledgements_lead_back_to_the_whole_rate_in_about_a_minute() {
    for acks_a_second in [1, 20, 200] {
        let start = Mono::from_nanos(10_000_000_000);
        let mut pace = Pace::new(&spec(100.0, None, 0.0), Mono::from_nanos(0));
        pace.throttled(Duration::from_secs(1), start);
        let ack = |n: u64| start + Duration::from_millis(1_000 + n * 1_000 / acks_a_second);

        (1..=15 * acks_a_second).for_each(|n| pace.acked(ack(n)));
        let halfway = pace.factor();
        (1..=31 * acks_a_second).for_each(|n| pace.acked(ack(n)));

        assert!((0.70..0.80).contains(&halfway), "{halfway}");
        assert_eq!(pace.factor(), 1.0);
    }
}

#[test]
fn a_new_owner_goes_on_as_slowly_as_the_last() {
    let saved = PaceSaved { factor: Some(0.25) };
    let pace = Pace::restored(&spec(100.0, None, 0.0), &saved, Mono::from_nanos(0));

    assert_eq!(pace.effective_rate(), 25.0);
}

#[test]
fn rates_that_are_absurdly_slow_do_not_overflow() {
    let mut pace = Pace::new(
        &spec(1e-300, Some(10_000), 0.5),
        Mono::from_nanos(u64::MAX / 2),
    );

    assert!(!pace.take(Mono::from_nanos(u64::MAX / 2 + 1), 1.0));
    pace.set(&spec(1e6, None, 0.0), Mono::from_nanos(u64::MAX / 2 + 2));
    assert!(pace.take(Mono::from_nanos(u64::MAX / 2 + 2_000), 1.0));
}

#[test]
fn a_spec_is_told_all_its_faults_in_the_words_of_the_api() {
    let spec = PaceSpec {
        count: f64::NAN,
        per: Per::Minute,
        burst: Some(0),
        jitter: 0.6,
        daily_cap: Some(0),
        time_zone: Some("Mars/Olympus".to_owned()),
    };

    let fields: Vec<&str> = spec.check().into_iter().map(|(field, _)| field).collect();

    assert_eq!(
        fields,
        ["rate.count", "burst", "jitter", "daily_cap", "time_zone"]
    );
}

#[test]
fn a_sound_spec_has_no_faults() {
    let sound = PaceSpec {
        burst: Some(10_000),
        jitter: 0.5,
        daily_cap: Some(1),
        time_zone: Some("Asia/Riyadh".to_owned()),
        ..spec(10.0, None, 0.0)
    };

    assert_eq!(sound.check(), []);
    assert_eq!(spec(1e6, None, 0.0).check(), []);
    assert_eq!(spec(1e6 + 1.0, None, 0.0).check().len(), 1);
    assert_eq!(
        PaceSpec {
            count: 12.0,
            per: Per::Minute,
            ..sound
        }
        .rate_per_second(),
        0.2
    );
}

#[test]
fn the_burst_is_a_tenth_of_a_seconds_worth_unless_set() {
    let bursts = [0.1, 10.0, 100.0, 1e6].map(|rate| spec(rate, None, 0.0).effective_burst());

    assert_eq!(bursts, [1, 1, 10, 10_000]);
    assert_eq!(spec(100.0, Some(3), 0.0).effective_burst(), 3);
}
