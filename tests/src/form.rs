//! In which form the scenarios run: short (seconds) or long, and by which seed.

use std::io;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

/// Whether the long form is asked for: `ZAJIL_TEST_LONG=1`.
pub fn is_long() -> bool {
    setting("ZAJIL_TEST_LONG").is_some_and(|value| value != "0")
}

/// One of two, by the form.
pub fn short_or_long<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// Dice by the seed in `ZAJIL_TEST_SEED`, or by a new one; prints it, so that a failure says how to
/// roll the same again.
///
/// # Panics
/// The variable is set and is no number.
pub fn dice(scenario: &str) -> StdRng {
    let seed = match setting("ZAJIL_TEST_SEED") {
        Some(text) => text.parse().expect("ZAJIL_TEST_SEED is a number"),
        None => StdRng::from_os_rng().random(),
    };
    println!("{scenario}: ZAJIL_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A folder for a scenario, gone with it; with `ZAJIL_TEST_KEEP=1` it stays, and is named.
///
/// # Errors
/// It cannot be made.
pub fn folder() -> io::Result<TempDir> {
    let keeps = setting("ZAJIL_TEST_KEEP").is_some_and(|value| value != "0");
    let folder = tempfile::Builder::new().disable_cleanup(keeps).tempdir()?;
    if keeps {
        println!("kept in {}", folder.path().display());
    }
    Ok(folder)
}

/// Says why a scenario, or a part of it, does not run here.
pub fn skipped(what: &str, why: &str) {
    println!("SKIPPED: {what}: {why}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the form of a test run is no setting of a node"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
