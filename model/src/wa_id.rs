//! WhatsApp ids: fixed by the message id, and decodable back to it.

use std::fmt;

/// WhatsApp's id of a message of ours: `3EB0` and 18 upper-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaId(u128);

impl fmt::Display for WaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3EB0{:018X}", self.0)
    }
}
