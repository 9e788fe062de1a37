//! Seeds that do not answer, told about once a minute.
//!
//! The gossip library tries a seed in every round while it knows nobody, silently: a datagram to
//! nowhere is no error. Whoever mistyped an address should read of it, and not four times a
//! second.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use zajil_model::time::Mono;

/// A cluster that starts is given this long before its seeds count as silent.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How often a silent seed is told about.
pub(super) const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The seeds that are silent.
#[derive(Debug, Default)]
pub(super) struct SilentSeeds {
    next: BTreeMap<SocketAddr, Mono>,
}

impl SilentSeeds {
    /// Those of the silent ones that are to be told about now.
    pub(super) fn due(&mut self, silent: &BTreeSet<SocketAddr>, now: Mono) -> Vec<SocketAddr> {
        self.next.retain(|seed, _| silent.contains(seed));
        let mut told = Vec::new();
        for seed in silent {
            let next = self.next.entry(*seed).or_insert(now + PATIENCE);
            if *next <= now {
                *next = now + TOLD_EVERY;
                told.push(*seed);
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds<const COUNT: usize>(ports: [u16; COUNT]) -> BTreeSet<SocketAddr> {
        ports
            .map(|port| SocketAddr::from(([10, 0, 0, 1], port)))
            .into()
    }

    fn at(seconds: u64) -> Mono {
        Mono::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_silent_seed_is_told_about_after_some_patience_and_then_once_a_minute() {
        let mut silent = SilentSeeds::default();
        let seed = seeds([1]);

        let told: Vec<u64> = (0..200)
            .filter(|second| !silent.due(&seed, at(*second)).is_empty())
            .collect();

        assert_eq!(told, [5, 65, 125, 185]);
    }

    #[test]
    fn a_seed_that_answered_in_between_is_given_patience_again() {
        let mut silent = SilentSeeds::default();

        assert_eq!(silent.due(&seeds([1, 2]), at(0)), []);
        assert_eq!(silent.due(&seeds([1]), at(5)).len(), 1);
        assert_eq!(silent.due(&seeds([1, 2]), at(6)), []);
        assert_eq!(
            silent.due(&seeds([1, 2]), at(11)),
            Vec::from_iter(seeds([2]))
        );
    }
}
