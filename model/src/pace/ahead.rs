//! How far ahead of its turn a message's attempt is recorded.
//!
//! The pace must not wait for a commit, so an attempt is recorded some time before the hand-over.
//! Not one by one: they wait until one *has to* be recorded, or until something else is written
//! anyway, and then all go that *may*. So at 10 a second the attempt of one message and the outcome
//! of the one before share an append.
//!
//! Where a channel cannot tell a repetition, an attempt is a *claim* (see [`crate::lease::shard`]),
//! which takes a store that several nodes share longer to make durable: they are recorded further
//! ahead, and more at once.

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

/// How far ahead of their turns attempts are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// How long before its turn at the latest.
    by: Duration,
    /// And when something is written anyway.
    in_company: Duration,
    /// What goes then goes up to this far ahead.
    at_most: Duration,
}

impl Default for Lead {
    fn default() -> Self {
        Self {
            by: ARM_BY,
            in_company: ARM_AHEAD,
            at_most: ARM_AHEAD,
        }
    }
}

impl Lead {
    /// Of claims, in a store that takes `lag` longer for one than for a plain append: the lag
    /// earlier, and twice as much at once. What makes one last is a request of its own, which company
    /// does not save.
    pub fn of_claims(lag: Duration) -> Self {
        if lag.is_zero() {
            return Self::default();
        }
        let by = ARM_BY.saturating_add(lag);
        Self {
            by,
            in_company: by,
            at_most: ARM_AHEAD.saturating_add(lag.saturating_mul(2)),
        }
    }
}

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
pub fn to_arm(turn: Duration, rate_per_second: f64, company: Company, lead: Lead) -> usize {
    let least = match company {
        Company::Alone => lead.by,
        Company::Outcomes => lead.in_company,
    };
    if turn > least {
        return 0;
    }
    1 + (rate_per_second * (lead.at_most - turn).as_secs_f64()) as usize
}

/// When to append what may wait until `latest`: together with what others append.
pub fn together_by(latest: Mono) -> Mono {
    let step = TOGETHER.as_nanos() as u64;
    Mono::from_nanos(latest.as_nanos() / step * step)
}

/// When to arm a message whose turn is at `turn`: in time, and together with those of others.
pub fn arms_by(turn: Mono, lead: Lead) -> Mono {
    // What is rounded down is still within the time at which it is armed.
    together_by(turn - (lead.by - TOGETHER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Lead = Lead {
        by: ARM_BY,
        in_company: ARM_AHEAD,
        at_most: ARM_AHEAD,
    };

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_attempt_waits_for_company_until_it_has_to_be_recorded() {
        assert_eq!(to_arm(ms(101), 10.0, Company::Outcomes, PLAIN), 0);
        assert_eq!(to_arm(ms(100), 10.0, Company::Outcomes, PLAIN), 1);
        assert_eq!(to_arm(ms(61), 10.0, Company::Alone, PLAIN), 0);
        assert_eq!(to_arm(ms(60), 10.0, Company::Alone, PLAIN), 1);
    }

    #[test]
    fn a_fast_pace_is_armed_in_handfuls() {
        let turn = turn_of_next(ms(5), 11, 200.0);

        assert_eq!(turn, ms(60));
        assert_eq!(to_arm(turn, 200.0, Company::Alone, PLAIN), 9);
        assert_eq!(to_arm(ms(65), 200.0, Company::Alone, PLAIN), 0);
    }

    #[test]
    fn claims_are_taken_earlier_and_more_at_once() {
        let lead = Lead::of_claims(ms(200));

        assert_eq!(to_arm(ms(261), 10.0, Company::Alone, lead), 0);
        assert_eq!(to_arm(ms(260), 10.0, Company::Alone, lead), 3);
        assert_eq!(to_arm(ms(261), 10.0, Company::Outcomes, lead), 0);
        assert_eq!(Lead::of_claims(ms(0)), PLAIN);
    }

    #[test]
    fn whoever_is_woken_to_arm_a_message_arms_it() {
        for lead in [PLAIN, Lead::of_claims(ms(200))] {
            for turn in (0..900_000_000).step_by(1_234_567).map(Mono::from_nanos) {
                let woken = arms_by(turn, lead);

                assert!(
                    to_arm(turn.since(woken), 10.0, Company::Alone, lead) > 0,
                    "{turn:?}"
                );
                assert!(
                    turn.since(woken) >= lead.by - TOGETHER || woken == Mono::default(),
                    "{turn:?}"
                );
            }
        }
    }

    #[test]
    fn a_pace_that_is_next_to_nothing_overflows_nothing() {
        let turn = turn_of_next(Duration::MAX, usize::MAX, f64::MIN_POSITIVE);

        assert_eq!(to_arm(turn, f64::MIN_POSITIVE, Company::Outcomes, PLAIN), 0);
    }
}
