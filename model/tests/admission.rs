//! What is let in becomes durable in time, and whoever is refused cannot take the work of others.

use std::time::Duration;

use proptest::prelude::*;
use zajil_model::admission::{
    Admission, CROWD, LARGEST_LIMIT, LATE, LEAST_LIMIT, LEAST_WAIT, LOOK, REFUSALS_PER_SECOND,
    REFUSED_AT_ONCE, REFUSED_FOR, Refusals,
};
use zajil_model::time::Mono;

const fn at(micros: u64) -> Mono {
    Mono::from_nanos(micros * 1_000)
}

/// A node that makes `per_second` accepts durable, each after at least `commit`, under a load that
/// fills whatever is allowed; answers the limit and the wait after `seconds`.
fn flooded(
    mut admission: Admission,
    commit: Duration,
    per_second: f64,
    seconds: u64,
) -> (usize, Duration) {
    let (mut now, mut waited) = (0, Duration::ZERO);
    while now < seconds * 1_000_000 {
        let inside = admission.limit();
        waited = commit.max(Duration::from_secs_f64(inside as f64 / per_second));
        admission.refused();
        admission.accepted(waited, inside, at(now));
        now += 1_000;
    }
    (admission.limit(), waited)
}

#[test]
fn a_flood_waits_no_longer_than_is_allowed() {
    let (limit, waited) = flooded(Admission::new(at(0)), Duration::from_micros(200), 1e6, 10);

    assert!(limit > LEAST_LIMIT, "{limit}");
    assert!(waited <= LEAST_WAIT * 5 / 4, "{waited:?}");
}

#[test]
fn a_slow_disk_is_filled_all_the_same() {
    let commit = Duration::from_millis(20);
    let mut admission = Admission::new(at(0));
    for n in 0..100 {
        admission.accepted(commit, 0, at(n));
    }

    // So many in each commit that four commits of them are in flight.
    let (limit, waited) = flooded(admission, commit, 50_000.0, 60);

    assert!(limit > 2_000, "{limit}");
    assert!(waited <= Duration::from_millis(100), "{waited:?}");
}

#[test]
fn a_limit_that_holds_nobody_back_does_not_grow() {
    let mut admission = Admission::new(at(0));

    for n in 0..1_000 {
        admission.accepted(Duration::from_micros(100), 1, at(n * 1_000));
    }

    assert_eq!(admission.limit(), LEAST_LIMIT);
}

#[test]
fn refusals_beyond_the_first_wait_and_none_waits_for_ever() {
    let mut refusals = Refusals::default();
    let waits: Vec<_> = (0..10_000).map(|_| refusals.wait(at(5))).collect();

    let at_once = waits.iter().filter(|wait| wait.is_zero()).count();
    assert_eq!(at_once, REFUSED_AT_ONCE as usize);
    assert_eq!(waits.iter().max(), Some(&REFUSED_FOR));
    assert!(refusals.wait(at(5_000_000)).is_zero(), "it is over");
}

#[test]
fn a_crowd_is_let_in_while_it_is_served_in_time() {
    let mut refusals = Refusals::default();
    (0..=CROWD).for_each(|_| refusals.begin());
    let mut second = 0;
    let mut let_in = |refusals: &mut Refusals| {
        second += 1_000_000;
        let asked = (second..second + 100_000).step_by(100);
        asked.filter(|now| refusals.lets_in(at(*now))).count()
    };

    assert_eq!(let_in(&mut refusals), 1_000);
    refusals.begin();
    refusals.end(Some(LATE + Duration::from_millis(1)));
    assert_eq!(let_in(&mut refusals), 100, "one each millisecond");
    refusals.end(None);
    assert_eq!(let_in(&mut refusals), 1_000, "it is no crowd any more");
}

#[test]
fn what_is_refused_together_does_not_come_again_together() {
    let mut refusals = Refusals::default();
    let waits: Vec<_> = (0..20_000).map(|_| refusals.wait(at(5))).collect();

    let late = &waits[10_000..];
    for tenth in 5..10_u32 {
        let span = REFUSED_FOR * tenth / 10..REFUSED_FOR * (tenth + 1) / 10;
        let within = late.iter().filter(|wait| span.contains(wait)).count();
        assert!((1_900..=2_100).contains(&within), "{within} in {span:?}");
    }
}

proptest! {
    #[test]
    fn the_limit_stays_within_its_bounds(
        waits in prop::collection::vec((0..10_000_000_u64, 0..5_000_usize, any::<bool>()), 1..200),
    ) {
        let (mut admission, mut now) = (Admission::new(at(0)), 0);

        for (micros, beside, refused) in waits {
            if refused {
                admission.refused();
            }
            now += LOOK.as_micros() as u64 / 2;
            admission.accepted(Duration::from_micros(micros), beside, at(now));

            prop_assert!((LEAST_LIMIT..=LARGEST_LIMIT).contains(&admission.limit()));
            prop_assert!(admission.allowed_wait() >= LEAST_WAIT);
        }
    }

    #[test]
    fn no_more_are_told_without_delay_than_their_rate(
        gaps in prop::collection::vec(0..2_000_u64, 1..2_000),
    ) {
        let (mut refusals, mut now, mut at_once) = (Refusals::default(), 0, 0);
        for gap in gaps {
            now += gap;
            let wait = refusals.wait(at(now));
            at_once += u64::from(wait.is_zero());

            prop_assert!(wait <= REFUSED_FOR);
            let most = u64::from(REFUSED_AT_ONCE) + 1 + now * u64::from(REFUSALS_PER_SECOND) / 1_000_000;
            prop_assert!(at_once <= most, "{at_once} of {most}");
        }
    }
}
