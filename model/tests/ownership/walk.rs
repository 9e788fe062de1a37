//! Walks through the states of a world.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// As many as the machines that check it have processors.
const THREADS: usize = 2;

/// Where a world without a guard is given up: each counterexample is far below.
const MOST_STATES: usize = 4_000_000;

/// Visits every state; fails when a promise is broken in one, or when something that should happen
/// somewhere never does. Answers how many there are.
pub(crate) fn every_state<W>(name: &str, world: impl Fn() -> W) -> usize
where
    W: Model + Send + Sync + 'static,
    W::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    W::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let begun = now();
    let checker = world().checker().threads(THREADS).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!(
        "{name}: {states} states, {} steps deep, in {:.1} s",
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    for property in world().properties() {
        let found = checker.discovery(property.name);
        if property.expectation == Expectation::Sometimes {
            assert!(found.is_some(), "{name}: never: {}", property.name);
        } else if let Some(path) = found {
            panic!(
                "{name}: {} fails: {:#?}",
                property.name,
                path.into_actions()
            );
        }
    }
    states
}

/// Walks until a promise is broken, prints how, and fails when none is.
pub(crate) fn counterexample<W, G: Debug>(guard: &G, world: impl Fn() -> W)
where
    W: Model + Send + Sync + 'static,
    W::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    W::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let begun = now();
    let checker = world()
        .checker()
        .threads(THREADS)
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(MOST_STATES)
        .spawn_bfs()
        .join();
    let promises = world()
        .properties()
        .into_iter()
        .filter(|property| property.expectation.discovery_is_failure());
    let broken =
        promises.filter_map(|property| Some((property.name, checker.discovery(property.name)?)));
    let shortest = broken
        .map(|(name, path)| (name, path.into_actions()))
        .min_by_key(|(_, steps)| steps.len());
    let Some((name, steps)) = shortest else {
        panic!(
            "without {guard:?} nothing breaks in {} states",
            checker.unique_state_count()
        );
    };
    println!(
        "without {guard:?}: \"{name}\" fails after {} steps ({} states, {:.1} s): {steps:?}",
        steps.len(),
        checker.unique_state_count(),
        begun.elapsed().as_secs_f64()
    );
}

#[expect(clippy::disallowed_methods, reason = "only says how long a walk took")]
fn now() -> Instant {
    Instant::now()
}
