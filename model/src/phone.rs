//! Phone numbers in E.164.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A phone number in E.164: 7 to 15 digits, the first of them not 0.
///
/// Its `Debug` form is masked, so that no log line shows a number whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Phone(u64);

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+…{:04}", self.0 % 10_000)
    }
}
