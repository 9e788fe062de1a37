//! Small things that several rooms of the store need.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A number that nobody else has, most likely.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
