//! How far ahead of its turn a message's attempt is recorded.
//!
//! The pace must not wait for a commit, so an attempt is recorded some time before the hand-over.
//! Not one by one: they wait until one *has to* be recorded, or until something else is written
//! anyway, and then all go that *may*. So at 10 a second the attempt of one message and the outcome
//! of the one before share an append.

use std::time::Duration;

use crate::time::Mono;

/// How long before its turn a message may be armed at most: it cannot be cancelled from then on,
/// and nobody notices so short a time.
pub const ARM_AHEAD: Duration = Duration::from_millis(100);

/// How long before its turn a message is armed without company: a few slow commits.
pub const ARM_BY: Duration = Duration::from_millis(60);

/// Appends that may wait a little are made at multiples of this, by the clock that all instances
/// of a node share: so those of many instances are one commit, and one waking of its threads.
pub const TOGETHER: Duration = Duration::from_millis(10);

/// The longest time that is reckoned with: what is as far off as that is not armed.
const FAR: f64 = 86_400.0;

/// Whether something is written anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Nothing is: recording an attempt costs an append.
    Alone,
    /// Outcomes are: an attempt in their append costs next to nothing.
    Outcomes,
}

/// When the first message that is not armed has its turn, when the next hand-over is in `next`
/// and `armed` messages go before it.
pub fn turn_of_next(next: Duration, armed: usize, rate_per_second: f64) -> Duration {
    let behind = (armed as f64 / rate_per_second).min(FAR);
    next.saturating_add(Duration::from_secs_f64(behind))
}

/// How many messages to arm now, when the first of them has its turn in `turn`.
pub fn to_arm(turn: Duration, rate_per_second: f64, company: Company) -> usize {
    let least = match company {
        Company::Alone => ARM_BY,
        Company::Outcomes => ARM_AHEAD,
    };
    if turn > least {
        return 0;
    }
    1 + (rate_per_second * (ARM_AHEAD - turn).as_secs_f64()) as usize
}

/// When to append what may wait until `latest`: together with what others append.
pub fn together_by(latest: Mono) -> Mono {
    let step = TOGETHER.as_nanos() as u64;
    Mono::from_nanos(latest.as_nanos() / step * step)
}

/// When to arm a message whose turn is at `turn`: in time, and together with those of others.
pub fn arms_by(turn: Mono) -> Mono {
    // What is rounded down is still within the time at which it is armed.
    together_by(turn - (ARM_BY - TOGETHER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_attempt_waits_for_company_until_it_has_to_be_recorded() {
        assert_eq!(to_arm(ms(101), 10.0, Company::Outcomes), 0);
        assert_eq!(to_arm(ms(100), 10.0, Company::Outcomes), 1);
        assert_eq!(to_arm(ms(61), 10.0, Company::Alone), 0);
        assert_eq!(to_arm(ms(60), 10.0, Company::Alone), 1);
    }

    #[test]
    fn a_fast_pace_is_armed_in_handfuls() {
        let turn = turn_of_next(ms(5), 11, 200.0);

        assert_eq!(turn, ms(60));
        assert_eq!(to_arm(turn, 200.0, Company::Alone), 9);
        assert_eq!(to_arm(ms(65), 200.0, Company::Alone), 0);
    }

    #[test]
    fn whoever_is_woken_to_arm_a_message_arms_it() {
        for turn in (0..300_000_000).step_by(1_234_567).map(Mono::from_nanos) {
            let woken = arms_by(turn);

            assert!(
                to_arm(turn.since(woken), 10.0, Company::Alone) > 0,
                "{turn:?}"
            );
            assert!(
                turn.since(woken) >= ms(50) || woken == Mono::default(),
                "{turn:?}"
            );
        }
    }

    #[test]
    fn a_pace_that_is_next_to_nothing_overflows_nothing() {
        let turn = turn_of_next(Duration::MAX, usize::MAX, f64::MIN_POSITIVE);

        assert_eq!(to_arm(turn, f64::MIN_POSITIVE, Company::Outcomes), 0);
    }
}
