//! Messages that are promised before they are accepted.
//!
//! Who has to write down first how it will answer takes ids ahead of their use. Later somebody may
//! ask what became of them, and has to be told "nothing, and nothing will" at some point: so they
//! may be used for a while only, and only in the epoch that gave them.
//!
//! One process holds a shard in an epoch, so its own monotonic clock tells the while. It never goes back: once
//! ids are [`Standing::Over`] they stay it, whatever becomes of the wall clock. Who looks at this
//! and then appends, and who looks at this and then says what became of them, do so in turn; then
//! everything that is ever appended under such ids was appended before they were said to be over.

use std::time::Duration;

use crate::id::Epoch;
use crate::time::Mono;

/// How long ids that were given ahead may be used: the deadline of an accept and room to spare.
pub const USED_WITHIN: Duration = Duration::from_secs(30);

/// What may still become of ids that were given ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They may be used.
    Open,
    /// Their time is over: what was appended under them is in the log, or on its way there.
    Over,
    /// An earlier epoch gave them: what was appended under them and counts has been read.
    Sealed,
    /// A later epoch gave them than is held here: another node knows more.
    Elsewhere,
}

impl Standing {
    /// That of ids which `epoch` gave at `given_at`, for who holds their shard in the epoch `held`.
    pub fn of(epoch: Epoch, given_at: Mono, held: Option<Epoch>, now: Mono) -> Self {
        match held {
            Some(held) if held == epoch && now.since(given_at) < USED_WITHIN => Self::Open,
            Some(held) if held == epoch => Self::Over,
            Some(held) if held > epoch => Self::Sealed,
            Some(_) | None => Self::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: Mono = Mono::from_nanos(5_000_000_000);

    fn after(wait: Duration) -> Standing {
        Standing::of(Epoch(7), GIVEN, Some(Epoch(7)), GIVEN + wait)
    }

    #[test]
    fn ids_may_be_used_for_a_while_and_never_again() {
        let before = USED_WITHIN - Duration::from_nanos(1);

        assert_eq!(after(Duration::ZERO), Standing::Open);
        assert_eq!(after(before), Standing::Open);
        assert_eq!(after(USED_WITHIN), Standing::Over);
        assert_eq!(after(USED_WITHIN * 1_000), Standing::Over);
    }

    #[test]
    fn ids_are_of_the_epoch_that_gave_them() {
        let in_epoch = |held| Standing::of(Epoch(7), GIVEN, held, GIVEN);

        assert_eq!(in_epoch(Some(Epoch(8))), Standing::Sealed);
        assert_eq!(in_epoch(Some(Epoch(6))), Standing::Elsewhere);
        assert_eq!(in_epoch(None), Standing::Elsewhere);
    }

    #[test]
    fn the_clock_of_an_earlier_epoch_says_nothing() {
        let later_than_now = GIVEN + USED_WITHIN;

        let standing = Standing::of(Epoch(7), later_than_now, Some(Epoch(8)), GIVEN);

        assert_eq!(standing, Standing::Sealed);
    }
}
