//! The appends of one log of one shard: one at a time, and none given up.
//!
//! An append without an answer may be there, may come late, or never. A later one that overtook it
//! would let it appear below a seal, where nobody looks for it any more: so it is repeated with the
//! same bytes until it is durable, and the next one waits.

use super::Lease;
use crate::id::Epoch;
use crate::time::Mono;

/// The one append under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Appends<C>(Option<C>);

impl<C> Default for Appends<C> {
    fn default() -> Self {
        Self(None)
    }
}

impl<C> Appends<C> {
    /// Begins one; gives it back while another is under way.
    ///
    /// # Errors
    /// The append itself, to be kept for later.
    pub fn begin(&mut self, append: C) -> Result<&C, C> {
        match &mut self.0 {
            Some(_) => Err(append),
            free => Ok(free.insert(append)),
        }
    }

    /// What to write: now, and again whenever its outcome is unknown.
    pub const fn under_way(&self) -> Option<&C> {
        self.0.as_ref()
    }

    /// It is durable: the next one may begin.
    pub const fn durable(&mut self) -> Option<C> {
        self.0.take()
    }

    /// Whether one may begin.
    pub const fn is_idle(&self) -> bool {
        self.0.is_none()
    }
}

/// Whether what was appended in `epoch` may be answered as accepted, now that it is durable: only
/// while the shard is still held in that epoch and the lease is good. Then nobody can have read the
/// tail for a seal before it was there. Later it may be void, and the client has to ask again.
pub fn may_answer(lease: &Lease, now: Mono, held: Option<Epoch>, epoch: Epoch) -> bool {
    held == Some(epoch) && lease.may_send(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_without_an_answer_is_repeated_as_it_was_and_the_next_waits() {
        let mut appends = Appends::default();
        appends.begin("first").unwrap();

        assert_eq!(appends.begin("second"), Err("second"));
        assert_eq!(appends.under_way(), Some(&"first"));

        assert_eq!(appends.durable(), Some("first"));
        assert!(appends.is_idle() && appends.begin("second").is_ok());
    }

    #[test]
    fn what_became_durable_too_late_is_not_answered() {
        let start = Mono::from_nanos(0);
        let lease = Lease::granted(start);

        assert!(may_answer(&lease, start, Some(Epoch(3)), Epoch(3)));
        assert!(!may_answer(&lease, start, Some(Epoch(4)), Epoch(3)));
        assert!(!may_answer(&lease, start, None, Epoch(3)));
        let over = start + super::super::SEND_FOR;
        assert!(!may_answer(&lease, over, Some(Epoch(3)), Epoch(3)));
    }
}
