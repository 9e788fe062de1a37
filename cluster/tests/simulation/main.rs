//! Whole clusters in one process, on time that is made up: the real shells of this crate over a
//! store that is slow, cut, or loses answers; gossip that lies; clocks that drift and jump; nodes
//! that crash, freeze, drain and have twins. Every run is made by its seed, and
//! `ZAJIL_TEST_SEED=n cargo test -p zajil-cluster --test simulation` makes one again.
//!
//! What holds is checked at every frame and every change of a row ([`oracle`]); that the checks can
//! fail is shown by taking guards away ([`Variant`](world::Variant)); and that they were put to the
//! test, by what every run of many seeds has to reach ([`rare`]).

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::oracle::Verdict;
use crate::rare::Reached;
use crate::world::Variant;

mod client;
mod clock;
mod nemesis;
mod oracle;
mod pause;
mod rare;
mod scenarios;
mod store;
mod worker;
mod world;

/// Clusters in the short form.
const SEEDS: u64 = 2_000;

/// Clusters in the long one.
const SEEDS_LONG: u64 = 50_000;

/// Within how many clusters a guard that is taken away has to be missed.
const SEEDS_OF_VARIANT: u64 = 400;

fn one(seed: u64, variant: Variant) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can always be built");
    runtime.block_on(nemesis::run(seed, variant))
}

/// The seeds to run: the one that was asked for, or so many from a new one.
fn seeds(count: u64) -> (u64, u64) {
    match setting("ZAJIL_TEST_SEED") {
        Some(text) => (text.parse().expect("ZAJIL_TEST_SEED is a number"), 1),
        None => (SmallRng::from_os_rng().random::<u32>().into(), count),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the form of a test run is no setting of a node"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What many runs came to.
struct Found {
    reached: Reached,
    sends: u64,
    acked: u64,
    /// The seed that went wrong, and how.
    wrong: Option<(u64, String)>,
}

/// Runs seeds on all cores until one is wrong.
fn search(first: u64, count: u64, variant: Variant) -> Found {
    let next = AtomicU64::new(0);
    let (sends, acked) = (AtomicU64::new(0), AtomicU64::new(0));
    let (reached, wrong) = (Mutex::new(Reached::default()), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while wrong.lock().is_none() {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= count {
                        return;
                    }
                    let seed = first.wrapping_add(turn);
                    let verdict = one(seed, variant);
                    sends.fetch_add(verdict.sends, Ordering::Relaxed);
                    acked.fetch_add(verdict.acked, Ordering::Relaxed);
                    reached.lock().add(&verdict.reached);
                    if let Some(what) = verdict.wrong {
                        wrong.lock().get_or_insert((seed, what));
                    }
                }
            });
        }
    });
    Found {
        reached: reached.into_inner(),
        sends: sends.into_inner(),
        acked: acked.into_inner(),
        wrong: wrong.into_inner(),
    }
}

#[test]
fn whatever_goes_wrong_a_shard_has_one_sender_and_its_log_keeps_what_was_acked() {
    let long = setting("ZAJIL_TEST_LONG").is_some_and(|value| value != "0");
    let (first, count) = seeds(if long { SEEDS_LONG } else { SEEDS });
    println!("{count} clusters from ZAJIL_TEST_SEED={first}");

    let found = search(first, count, Variant::Whole);

    println!(
        "{} sends, {} acked; {:?}",
        found.sends, found.acked, found.reached.0
    );
    if let Some((seed, what)) = found.wrong {
        panic!("ZAJIL_TEST_SEED={seed}: {what}");
    }
    let missing = found.reached.missing();
    assert!(
        count == 1 || missing.is_empty(),
        "no cluster came to {missing:?}"
    );
}

#[test]
fn a_seed_makes_the_same_run_again() {
    let (first, _) = seeds(1);
    println!("ZAJIL_TEST_SEED={first}");

    for seed in first..first + 8 {
        let [a, b] = [(); 2].map(|()| one(seed, Variant::Whole));

        assert_eq!(
            (a.trace, a.sends, a.reached),
            (b.trace, b.sends, b.reached),
            "seed {seed}"
        );
    }
}

/// How two senders show: when one sends, or when the row changes under one.
const TWO_SENDERS: &str = " can";

/// A guard is taken away; the first seed that shows it, and what it shows.
fn missed(variant: Variant) -> String {
    let found = search(1, SEEDS_OF_VARIANT, variant);
    let (seed, what) = found
        .wrong
        .unwrap_or_else(|| panic!("nothing is wrong with {variant:?}"));
    println!("{variant:?}: seed {seed}: {what}");
    what
}

#[test]
fn when_gossip_decides_two_nodes_send_for_one_shard() {
    let what = missed(Variant::GossipDecides);

    assert!(what.contains(TWO_SENDERS), "{what}");
}

#[test]
fn without_seals_a_late_append_comes_back_to_life() {
    let what = missed(Variant::NoSeal);

    assert!(what.contains("did not see what counts now"), "{what}");
}

#[test]
fn without_a_look_at_the_lease_two_nodes_send_for_one_shard() {
    let what = missed(Variant::NoLeaseCheck);

    assert!(what.contains(TWO_SENDERS), "{what}");
}

#[test]
fn clocks_of_very_different_speed_make_two_senders() {
    let what = missed(Variant::WildClocks);

    assert!(what.contains(TWO_SENDERS), "{what}");
}
