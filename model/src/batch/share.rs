//! How a batch is shared out over its instances, and how long they take.

use std::time::Duration;

use crate::id::InstanceId;
use crate::phone::Phone;

/// The instance that writes to a recipient, by weighted rendezvous: a person always hears from the
/// same number, an instance gets its weight's share of the people, and taking one away moves its
/// people only. Weights that are no positive number get nobody; `None` when none is left.
pub fn pick(recipient: Phone, instances: &[(InstanceId, f64)]) -> Option<InstanceId> {
    let mut best: Option<(f64, InstanceId)> = None;
    for (instance, weight) in instances {
        if !weight.is_finite() || *weight <= 0.0 {
            continue;
        }
        let candidate = (score(recipient, *instance, *weight), *instance);
        // Ties, as good as impossible, go to the smaller id, whatever the order of the list.
        let wins = best.is_none_or(|best| {
            candidate.0 > best.0 || (candidate.0 == best.0 && candidate.1 < best.1)
        });
        if wins {
            best = Some(candidate);
        }
    }
    best.map(|(_, instance)| instance)
}

/// An instance's bid for a recipient: `-weight / ln(u)`, `u` being a fixed hash of the two as a
/// fraction in (0, 1).
fn score(recipient: Phone, instance: InstanceId, weight: f64) -> f64 {
    let hash = mix(mix(recipient.digits()) ^ instance.get());
    let fraction = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -weight / fraction.ln()
}

/// SplitMix64: every bit of the input moves every bit of the output.
const fn mix(value: u64) -> u64 {
    let mut x = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The longest time that is told as an eta: past it a number is a guess, and its sum could overflow.
pub const MAX_ETA: Duration = Duration::from_secs(366 * 86_400);

/// How long a batch still takes: as long as its slowest part. `parts` holds the unsettled rows and
/// the messages a second of each instance. `None` when a part with rows does not move.
pub fn eta(parts: &[(u64, f64)]) -> Option<Duration> {
    let mut slowest = 0.0_f64;
    for (remaining, rate) in parts {
        if *remaining == 0 {
            continue;
        }
        if rate.is_nan() || *rate <= 0.0 {
            return None;
        }
        slowest = slowest.max(*remaining as f64 / rate);
    }
    Some(Duration::from_secs_f64(slowest.min(MAX_ETA.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn person(number: u64) -> Phone {
        Phone::from_digits(&(966_500_000_000 + number).to_string()).unwrap()
    }

    fn equal(instances: u64) -> Vec<(InstanceId, f64)> {
        (0..instances)
            .map(|n| (InstanceId::new(1_000 + n * 1_024).unwrap(), 1.0))
            .collect()
    }

    #[test]
    fn equal_instances_get_equal_shares_of_the_people() {
        let instances = equal(10);
        let mut shares = std::collections::BTreeMap::new();
        for number in 0..100_000 {
            *shares
                .entry(pick(person(number), &instances))
                .or_insert(0_u32) += 1;
        }

        assert_eq!(shares.len(), 10);
        assert!(
            shares
                .values()
                .all(|share| (9_000..=11_000).contains(share)),
            "{shares:?}"
        );
    }

    #[test]
    fn an_instance_gets_the_share_of_its_weight() {
        let mut instances = equal(2);
        instances[0].1 = 3.0;

        let to_first = (0..40_000)
            .filter(|n| pick(person(*n), &instances) == Some(instances[0].0))
            .count();

        assert!((29_000..=31_000).contains(&to_first), "{to_first}");
    }

    #[test]
    fn an_instance_without_weight_gets_nobody() {
        let mut instances = equal(3);
        (instances[0].1, instances[1].1) = (0.0, f64::NAN);

        assert!((0..1_000).all(|n| pick(person(n), &instances) == Some(instances[2].0)));
        assert_eq!(
            (pick(person(0), &instances[..2]), pick(person(0), &[])),
            (None, None)
        );
    }

    #[test]
    fn a_choice_of_today_is_the_choice_of_tomorrow() {
        let chosen: Vec<u64> = (0..8)
            .map(|n| (pick(person(n), &equal(5)).unwrap().get() - 1_000) / 1_024)
            .collect();

        assert_eq!(chosen, [1, 4, 2, 0, 1, 4, 2, 4]);
    }

    #[test]
    fn a_batch_takes_as_long_as_its_slowest_part() {
        assert_eq!(
            eta(&[(600, 10.0), (30, 0.2), (0, 0.0)]),
            Some(Duration::from_secs(150))
        );
        assert_eq!(eta(&[]), Some(Duration::ZERO));
        assert_eq!(eta(&[(1, 0.0)]), None);
        assert_eq!(eta(&[(u64::MAX, f64::MIN_POSITIVE)]), Some(MAX_ETA));
    }

    proptest! {
        #[test]
        fn taking_an_instance_away_moves_its_people_only(
            number in 0..10_000_000_u64,
            instances in 2..20_u64,
            gone in 0..20_usize,
            weights in proptest::collection::vec(0.01..100.0_f64, 20),
        ) {
            let mut all = equal(instances);
            all.iter_mut().zip(weights).for_each(|(instance, weight)| instance.1 = weight);
            let before = pick(person(number), &all).unwrap();

            all.rotate_left(1);
            prop_assert_eq!(pick(person(number), &all), Some(before), "the order does not matter");

            let (removed, _) = all.remove(gone % all.len());
            let after = pick(person(number), &all).unwrap();
            prop_assert!(after == before || before == removed);
        }
    }
}
