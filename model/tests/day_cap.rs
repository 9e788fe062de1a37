//! The daily cap of an instance: kept across crashes, by the day of its zone.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use zajil_model::instance::TransportKind;
use zajil_model::pace::{CHUNKS_A_DAY, CapWait, DayCap, DaySaved, LEAST_CHUNK, PaceSpec};
use zajil_model::time::Timestamp;

fn capped(cap: u64, zone: &str) -> PaceSpec {
    let time_zone = Some(zone.to_owned());
    PaceSpec {
        daily_cap: Some(cap),
        time_zone,
        ..PaceSpec::default_for(TransportKind::Simulator)
    }
}

fn time(text: &str) -> Timestamp {
    let at: jiff::Timestamp = text.parse().expect("a time in RFC 3339");
    Timestamp::from_micros(at.as_microsecond())
}

fn reserve_all(day: &mut DayCap, now: Timestamp) {
    while let Some(saved) = day.reserve(now) {
        day.reserved(saved);
    }
}

#[test]
fn a_day_ends_at_midnight_in_its_zone() {
    let now = time("2026-11-23T20:30:00Z");
    let mut day = DayCap::new(&capped(2, "Asia/Riyadh"), None, now).unwrap();
    reserve_all(&mut day, now);

    assert_eq!((day.take(now), day.take(now)), (Ok(()), Ok(())));
    assert_eq!(
        day.take(now),
        Err(CapWait::Until(time("2026-11-23T21:00:00Z")))
    );

    let next = time("2026-11-23T21:00:00Z");
    reserve_all(&mut day, next);
    assert_eq!(day.take(next), Ok(()));
}

#[test]
fn a_day_with_a_clock_change_has_its_own_length() {
    let now = time("2026-10-25T12:00:00Z");
    let mut day = DayCap::new(&capped(1, "Europe/Berlin"), None, now).unwrap();
    reserve_all(&mut day, now);

    assert_eq!(day.take(now), Ok(()));
    assert_eq!(
        day.take(now),
        Err(CapWait::Until(time("2026-10-25T23:00:00Z")))
    );
}

#[test]
fn nothing_goes_before_its_reservation_is_durable() {
    let now = time("2026-11-23T12:00:00Z");
    let mut day = DayCap::new(&capped(1_000, "UTC"), None, now).unwrap();

    assert_eq!(day.take(now), Err(CapWait::Reservation));
    let saved = day.reserve(now).unwrap();
    assert_eq!(saved.reserved, LEAST_CHUNK.max(1_000 / CHUNKS_A_DAY));
    assert_eq!(day.reserve(now), None, "one at a time");
    assert_eq!(day.take(now), Err(CapWait::Reservation));
    day.reserved(saved);
    assert_eq!(day.take(now), Ok(()));
}

#[test]
fn what_was_not_handed_over_is_given_back_to_its_own_day() {
    let evening = time("2026-03-10T23:00:00+00:00");
    let mut day = DayCap::new(&capped(2, "UTC"), None, evening).unwrap();
    reserve_all(&mut day, evening);
    assert_eq!((day.take(evening), day.take(evening)), (Ok(()), Ok(())));
    day.give_back(evening);
    assert_eq!(day.take(evening), Ok(()));

    let morning = time("2026-03-11T01:00:00+00:00");
    reserve_all(&mut day, morning);
    assert_eq!((day.take(morning), day.take(morning)), (Ok(()), Ok(())));
    day.give_back(evening);

    assert!(day.take(morning).is_err());
}

#[test]
fn a_crash_takes_what_was_reserved_for_used() {
    let now = time("2026-11-23T12:00:00Z");
    let mut day = DayCap::new(&capped(60, "UTC"), None, now).unwrap();
    let saved = day.reserve(now).unwrap();
    day.reserved(saved);
    day.take(now).unwrap();

    let mut after = DayCap::new(&capped(60, "UTC"), Some(saved), now).unwrap();
    reserve_all(&mut after, now);

    assert_eq!((0..100).filter(|_| after.take(now).is_ok()).count(), 10);
}

#[test]
fn a_wall_clock_that_goes_back_repeats_no_day() {
    let now = time("2026-11-24T00:00:01Z");
    let mut day = DayCap::new(&capped(1, "UTC"), None, now).unwrap();
    reserve_all(&mut day, now);
    day.take(now).unwrap();

    let back = time("2026-11-23T23:59:59Z");
    assert!(day.take(back).is_err());
    let stored = DaySaved {
        day: now.day().0,
        reserved: 1,
    };
    let mut after = DayCap::new(&capped(1, "UTC"), Some(stored), back).unwrap();
    assert!(after.take(back).is_err());
}

#[test]
fn a_changed_cap_or_zone_gives_nothing_back_of_the_day() {
    let now = time("2026-11-23T12:00:00Z");
    let mut day = DayCap::new(&capped(2, "UTC"), None, now).unwrap();
    reserve_all(&mut day, now);
    day.take(now).unwrap();
    day.take(now).unwrap();

    day.set(&capped(3, "Asia/Riyadh"), now);
    reserve_all(&mut day, now);

    assert_eq!(day.take(now), Ok(()));
    let midnight = CapWait::Until(time("2026-11-23T21:00:00Z"));
    assert_eq!(day.take(now), Err(midnight));
}

#[test]
fn who_leaves_in_good_order_leaves_the_rest_to_the_next() {
    let now = time("2026-11-23T12:00:00Z");
    let mut day = DayCap::new(&capped(60, "UTC"), None, now).unwrap();
    let saved = day.reserve(now).unwrap();
    assert_eq!(day.unused(), None, "it is not known what is stored");
    day.reserved(saved);
    day.take(now).unwrap();

    let left = day.unused();
    let mut after = DayCap::new(&capped(60, "UTC"), left, now).unwrap();
    let goes = |_: &u32| {
        reserve_all(&mut after, now);
        after.take(now).is_ok()
    };

    assert_eq!((0..100).filter(goes).count(), 59);
}

/// The row that reservations are stored in, and who writes it.
struct Row {
    stored: Option<DaySaved>,
    /// A write of a former owner that is still on its way: what it expects, what it puts.
    late: Option<(Option<DaySaved>, DaySaved)>,
}

impl Row {
    fn put(&mut self, seen: Option<DaySaved>, saved: DaySaved) -> bool {
        let is_as_seen = self.stored == seen;
        if is_as_seen {
            self.stored = Some(saved);
        }
        is_as_seen
    }

    fn late_one_comes(&mut self) {
        if let Some((seen, saved)) = self.late.take() {
            self.put(seen, saved);
        }
    }
}

proptest! {
    #[test]
    fn a_cap_is_never_passed_across_crashes_late_writes_and_days(
        cap in 1..400_u64,
        steps in proptest::collection::vec((0..8_u8, 0..120_u64), 1..200),
    ) {
        let spec = capped(cap, "UTC");
        let mut now = Timestamp::from_seconds(1_800_000_000);
        let mut row = Row { stored: None, late: None };
        let (mut seen, mut asked) = (None, None);
        let mut day = DayCap::new(&spec, seen, now).unwrap();
        let mut handed: BTreeMap<i32, u64> = Default::default();
        for (what, amount) in steps {
            match what {
                // An owner that ends wastes what it reserved: with many, no cap is ever reached.
                0 if amount < 40 => {
                    row.late = asked.take().map(|saved| (seen, saved)).or(row.late);
                    seen = row.stored;
                    day = DayCap::new(&spec, seen, now).unwrap();
                }
                1 => now = now + Duration::from_secs(amount * 60),
                2 if amount < 40 => row.late_one_comes(),
                3 if asked.is_none() => asked = day.reserve(now),
                3 | 4 => if let Some(saved) = asked.take() {
                    if row.put(seen, saved) {
                        seen = Some(saved);
                        day.reserved(saved);
                    } else {
                        seen = row.stored;
                        day.overtaken(seen);
                    }
                },
                5 if asked.is_none() => if let Some(left) = day.unused() {
                    // It leaves; the next one comes before or after this is stored.
                    let next_reads_first = amount % 2 == 0;
                    let before = row.stored;
                    row.put(seen, left);
                    seen = if next_reads_first { before } else { row.stored };
                    day = DayCap::new(&spec, seen, now).unwrap();
                },
                _ => {
                    for _ in 0..amount {
                        if day.take(now).is_ok() {
                            *handed.entry(now.day().0).or_default() += 1;
                        }
                    }
                }
            }
        }
        prop_assert!(handed.values().all(|count| *count <= cap), "{handed:?} above {cap}");
    }
}
