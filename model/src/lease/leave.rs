//! The last question before a frame leaves, and before something is answered as accepted.
//!
//! What became durable after the lease was over may lie above the seal of the next owner: nobody
//! can have read the log for a seal before that, so what is answered in time counts.

use crate::id::Epoch;
use crate::time::Mono;

/// Why a frame stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stay {
    /// The shard is not served by this process.
    #[error("the shard is not held")]
    NotHeld,
    /// Its attempt, or its claim, is not durable in the epoch that is held.
    #[error("the attempt is not durable in this epoch")]
    NotRecorded,
    /// The lease is over, or lost.
    #[error("the lease is over")]
    LeaseOver,
}

/// Whether a frame, or an answer, may leave now. `send_until`: when the lease is over for sending;
/// `held`: the epoch in which this process serves the shard; `recorded`: the epoch in which this
/// attempt (a claim where the channel cannot tell a repetition), or what was accepted, is durable.
/// Asked before each: what is past it is on its way, and leaves under no other condition.
///
/// # Errors
/// [`Stay`], with the reason.
pub fn may_leave(
    send_until: Mono,
    now: Mono,
    held: Option<Epoch>,
    recorded: Option<Epoch>,
) -> Result<(), Stay> {
    if held.is_none() {
        return Err(Stay::NotHeld);
    }
    if recorded != held {
        return Err(Stay::NotRecorded);
    }
    if now >= send_until {
        return Err(Stay::LeaseOver);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{Lease, SEND_FOR};

    const START: Mono = Mono::from_nanos(0);
    const OURS: Option<Epoch> = Some(Epoch(2));

    #[test]
    fn a_recorded_attempt_leaves_while_shard_and_lease_are_ours() {
        let until = Lease::granted(START).send_until();

        assert_eq!(may_leave(until, START, OURS, OURS), Ok(()));
    }

    #[test]
    fn a_frame_stays_when_anything_is_missing() {
        let until = Lease::granted(START).send_until();
        let over = START + SEND_FOR;

        let stays = [
            may_leave(until, START, None, OURS),
            may_leave(until, START, OURS, None),
            may_leave(until, START, OURS, Some(Epoch(1))),
            may_leave(until, over, OURS, OURS),
        ];

        let why = [
            Stay::NotHeld,
            Stay::NotRecorded,
            Stay::NotRecorded,
            Stay::LeaseOver,
        ];
        assert_eq!(stays, why.map(Err));
    }
}
