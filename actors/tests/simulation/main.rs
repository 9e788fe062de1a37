//! Whole engines in one process, on time that is made up: several nodes, each in a runtime of its
//! own, over one database, one WhatsApp and a wire that delays, loses and delivers late. Nodes
//! crash, freeze, drain and join; their clocks drift and jump; writes apply and time out. Every run
//! is made by its seed, and `ZAJIL_TEST_SEED=n cargo test -p zajil-actors --test simulation` makes
//! one again. Customers send single messages and bulks, run campaigns ([`customers`]) and follow the
//! change feed ([`readers`]), at whichever node.
//!
//! What holds is checked at every hand-over ([`oracle`]) and in the end ([`verdict`]); that the
//! checks can fail is shown by taking guards away ([`variant`]); and that they were put to the test,
//! by what every run of many seeds has to reach ([`rare`]). The shells of the cluster by themselves
//! are put through more of it in `cluster/tests/simulation`.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::rare::Reached;
use crate::variant::Variant;
use crate::verdict::Verdict;

mod book;
mod clock;
mod customers;
mod database;
mod link;
mod nemesis;
mod oracle;
mod process;
mod rare;
mod readers;
mod store;
mod variant;
mod verdict;
mod whatsapp;
mod wire;
mod world;

/// Worlds in the short form, from the first on: always the same, so that whether a change passes does
/// not hang on luck.
const SEEDS: std::ops::Range<u64> = 1..121;

/// Worlds in the long one: new ones each time.
const SEEDS_LONG: u64 = 2_000;

/// Within how many worlds a guard that is taken away has to be missed.
const SEEDS_OF_VARIANT: u64 = 60;

/// Worlds that are made twice, each by a process of its own: in one that made other worlds before,
/// about one in ten takes another course.
const REPEATED: [u64; 6] = [1, 2, 11, 28, 1_000, 5_000];

/// Lines of a story that are told of a world that went wrong.
const TOLD: usize = 4_000;

fn one(seed: u64, variant: Variant) -> Verdict {
    nemesis::run(seed, variant, false)
}

/// The first seed to run, and how many: the one that was asked for, or those of the form.
fn seeds() -> (u64, u64) {
    if let Some(text) = setting("ZAJIL_TEST_SEED") {
        return (text.parse().expect("ZAJIL_TEST_SEED is a number"), 1);
    }
    let long = setting("ZAJIL_TEST_LONG").is_some_and(|value| value != "0");
    if long {
        (SmallRng::from_os_rng().random::<u32>().into(), SEEDS_LONG)
    } else {
        (SEEDS.start, SEEDS.end - SEEDS.start)
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
    accepted: u64,
    frames: u64,
    /// The seed that went wrong, and how.
    wrong: Option<(u64, String)>,
}

/// Runs seeds on all cores until one is wrong in this way.
fn search(first: u64, count: u64, variant: Variant, way: &str) -> Found {
    let next = AtomicU64::new(0);
    let (accepted, frames) = (AtomicU64::new(0), AtomicU64::new(0));
    let (reached, wrong) = (Reached::default(), Mutex::new(None));
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
                    accepted.fetch_add(verdict.accepted as u64, Ordering::Relaxed);
                    frames.fetch_add(verdict.frames as u64, Ordering::Relaxed);
                    reached.add(&verdict.reached);
                    if let Some(what) = verdict.wrong.filter(|what| what.contains(way)) {
                        wrong.lock().get_or_insert((seed, what));
                    }
                }
            });
        }
    });
    Found {
        reached,
        accepted: accepted.into_inner(),
        frames: frames.into_inner(),
        wrong: wrong.into_inner(),
    }
}

/// Tells the end of the story of a world.
fn tell(seed: u64) {
    let verdict = nemesis::run(seed, Variant::Whole, true);
    let from = verdict.story.len().saturating_sub(TOLD);
    for line in &verdict.story[from..] {
        println!("{line}");
    }
    println!("made again, it comes to {:?}", verdict.wrong);
}

#[test]
fn whatever_goes_wrong_what_was_accepted_is_shown_once_in_order_and_at_its_pace() {
    let (first, count) = seeds();
    println!("{count} worlds from ZAJIL_TEST_SEED={first}");

    let found = search(first, count, Variant::Whole, "");

    println!(
        "{} accepted, {} frames; {:?}",
        found.accepted,
        found.frames,
        found.reached.all()
    );
    if let Some((seed, what)) = found.wrong {
        tell(seed);
        panic!("ZAJIL_TEST_SEED={seed}: {what}");
    }
    let missing = found.reached.missing();
    assert!(
        count == 1 || missing.is_empty(),
        "no world came to {missing:?}"
    );
}

/// The story of a world, as a process of its own tells it. What happens at one instant has no order:
/// actors that end together do so in an order of their library's own.
fn told_alone(seed: u64) -> Vec<String> {
    let this = std::env::current_exe().expect("a test is a program");
    let told = std::process::Command::new(this)
        .args(["--exact", "a_seed_makes_the_same_run_again", "--nocapture"])
        .env("ZAJIL_TEST_TELL", seed.to_string())
        .output()
        .expect("a test can be started again");
    assert!(told.status.success(), "seed {seed} is told");
    let text = String::from_utf8(told.stdout).expect("a story is text");
    let mut story: Vec<String> = text.lines().map(str::to_owned).collect();
    // How long the test took is not of the story.
    story.retain(|line| !line.starts_with("test result"));
    story.sort_unstable();
    story
}

#[test]
fn a_seed_makes_the_same_run_again() {
    if let Some(seed) = setting("ZAJIL_TEST_TELL") {
        let seed = seed.parse().expect("ZAJIL_TEST_TELL is a number");
        for line in nemesis::run(seed, Variant::Whole, true).story {
            println!("{line}");
        }
        return;
    }
    for seed in REPEATED {
        let (once, again) = (told_alone(seed), told_alone(seed));

        let differs = once.iter().zip(&again).find(|(once, again)| once != again);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(once.len(), again.len(), "seed {seed}");
        assert!(once.len() > 100, "seed {seed} has a story");
    }
}

/// How two senders show.
const TWO_SENDERS: &str = " can send";

/// A guard is taken away: some seed shows it, in this way.
fn is_missed(variant: Variant, way: &str) {
    let found = search(1, SEEDS_OF_VARIANT, variant, way);
    let (seed, what) = found
        .wrong
        .unwrap_or_else(|| panic!("with {variant:?} nobody sees that{way}"));
    println!("{variant:?}: seed {seed}: {what}");
}

#[test]
fn when_gossip_decides_two_nodes_send_for_one_shard() {
    is_missed(Variant::GossipDecides, TWO_SENDERS);
}

#[test]
fn without_seals_a_late_append_comes_back_to_life() {
    is_missed(Variant::NoSeal, "by what is stored");
}

#[test]
fn without_a_look_at_the_lease_two_nodes_send_for_one_shard() {
    is_missed(Variant::NoLeaseCheck, TWO_SENDERS);
}
