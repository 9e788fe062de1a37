//! The last question before a frame leaves.

use super::Lease;
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

/// Whether a frame may leave now. `held`: the epoch in which this process serves the shard;
/// `recorded`: the epoch in which this attempt is durable (a claim where the channel cannot tell a
/// repetition). Asked before each frame: what is past it is in flight, and leaves under no other
/// condition.
///
/// # Errors
/// [`Stay`], with the reason.
pub fn may_leave(
    lease: &Lease,
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
    if !lease.may_send(now) {
        return Err(Stay::LeaseOver);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono::from_nanos(0);
    const OURS: Option<Epoch> = Some(Epoch(2));

    #[test]
    fn a_recorded_attempt_leaves_while_shard_and_lease_are_ours() {
        let lease = Lease::granted(START);

        assert_eq!(may_leave(&lease, START, OURS, OURS), Ok(()));
    }

    #[test]
    fn a_frame_stays_when_anything_is_missing() {
        let lease = Lease::granted(START);
        let over = START + super::super::SEND_FOR;

        let stays = [
            may_leave(&lease, START, None, OURS),
            may_leave(&lease, START, OURS, None),
            may_leave(&lease, START, OURS, Some(Epoch(1))),
            may_leave(&lease, over, OURS, OURS),
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
