//! What follows when an attempt did not succeed, and when something has to be started again.
//!
//! Three cases are kept apart. A *refusal* is definite: the channel says that it did not take the
//! message, so another attempt cannot double it. An *ambiguous* attempt has no answer: only where
//! the channel knows our id, or the sender asked for it, is it sent again. A *restart* concerns no
//! message, but the connection of an instance or an actor.

use std::collections::VecDeque;
use std::time::Duration;

use crate::instance::TransportKind;
use crate::message::OnAmbiguous;
use crate::refusal::{Failure, Reason, Refusal};
use crate::time::{Mono, Timestamp};

/// Attempts of one message, after which a temporary refusal is the last. Four waits reach over
/// 40 s: longer troubles are the session's, which holds the instance and spends no attempts.
pub const MAX_ATTEMPTS: u8 = 5;

/// Attempts of one message, after which even "slower, please" is the last. More than
/// [`MAX_ATTEMPTS`], since throttling says nothing against the message itself.
pub const MAX_THROTTLED_ATTEMPTS: u8 = 20;

/// The wait after the first temporary refusal; each further one waits [`BACKOFF_GROWTH`] times
/// longer: 1, 3, 9, 27 s. Below the 30 s from which a message would leave its queue for the
/// schedule, so that a retry keeps its place in the recipient's order.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// How much longer each wait is than the one before.
pub const BACKOFF_GROWTH: u32 = 3;

/// How much a wait varies either way, so that refusals of one moment do not return as one.
pub const BACKOFF_JITTER: f64 = 0.1;

/// How long a throttled message waits when the channel did not say.
pub const DEFAULT_THROTTLE_WAIT: Duration = Duration::from_secs(5);

/// How long after its first attempt a message may be sent again without a known outcome: within
/// it a channel that knows our ids still remembers them.
pub const RESEND_WITHIN: Duration = Duration::from_secs(600);

/// Waits before the resends of an ambiguous attempt: at once, since most are lost connections that
/// are back; then enough for a short trouble to pass. No more than these three: the fourth
/// silence says more about the message than about the line.
pub const RESEND_WAITS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(8),
];

/// How long the simulator may take to answer before an attempt is ambiguous: far above any latency
/// that its scripts name, and short enough that a lost answer settles within a test.
pub const SIMULATOR_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The first wait before a connection or an actor is started again; it doubles each time.
pub const FIRST_RESTART_WAIT: Duration = Duration::from_millis(100);

/// The longest wait before a restart.
pub const MAX_RESTART_WAIT: Duration = Duration::from_secs(30);

/// Failures within [`RESTART_WINDOW`] that put an actor in quarantine.
pub const MAX_RESTARTS: usize = 5;

/// The time over which failures are counted.
pub const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt, not before `at`.
    Retry {
        /// Why this one failed.
        failure: Failure,
        /// The earliest time of the next.
        at: Timestamp,
    },
    /// The channel said never.
    Reject(Failure),
    /// The engine gives up.
    Fail(Failure),
    /// The message goes back to its place, and the queue of its instance is held.
    HoldInstance(Failure),
}

/// What follows from an attempt without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAmbiguous {
    /// Send it again, under the same WhatsApp id.
    ResendNow,
    /// Send it again at this time, under the same WhatsApp id.
    ResendAt(Timestamp),
    /// It settles as `unknown`.
    Unknown,
}

/// What follows when attempt number `attempts` (from 1) was refused. `random` is in 0..1.
pub fn after_refusal(
    refusal: Refusal,
    code: u16,
    attempts: u8,
    now: Timestamp,
    random: f64,
) -> Verdict {
    let failed = |reason| Failure { reason, code };
    match refusal {
        Refusal::Permanent(reason) => Verdict::Reject(failed(reason)),
        Refusal::HoldInstance => Verdict::HoldInstance(failed(Reason::Session)),
        Refusal::Throttled { .. } if attempts >= MAX_THROTTLED_ATTEMPTS => {
            Verdict::Fail(failed(Reason::AttemptsExhausted))
        }
        Refusal::Throttled { wait_ms } => Verdict::Retry {
            failure: failed(Reason::Throttled),
            at: now + throttle_wait(wait_ms),
        },
        Refusal::Temporary if attempts >= MAX_ATTEMPTS => {
            Verdict::Fail(failed(Reason::AttemptsExhausted))
        }
        Refusal::Temporary => {
            let failure = failed(Reason::Temporary);
            Verdict::Retry {
                failure,
                at: now + backoff(attempts, random),
            }
        }
    }
}

/// How long the whole instance waits when the channel asked for `wait_ms` (0: it did not say).
pub fn throttle_wait(wait_ms: u32) -> Duration {
    match wait_ms {
        0 => DEFAULT_THROTTLE_WAIT,
        asked => Duration::from_millis(u64::from(asked)),
    }
}

fn backoff(attempts: u8, random: f64) -> Duration {
    let grown = BACKOFF_GROWTH.saturating_pow(u32::from(attempts.saturating_sub(1)));
    jittered(FIRST_BACKOFF.saturating_mul(grown), BACKOFF_JITTER, random)
}

/// `wait` times a factor in `1 - jitter .. 1 + jitter`.
fn jittered(wait: Duration, jitter: f64, random: f64) -> Duration {
    wait.mul_f64(1.0 + jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0))
}

/// What follows when attempt number `attempts` (from 1) has no known outcome: no answer in time, a
/// connection lost meanwhile, or an attempt found in the log after a crash.
///
/// `idempotent`: the channel shows a WhatsApp id once, however often it is sent. Elsewhere only
/// the sender's `on_ambiguous` allows a repetition.
pub fn after_ambiguous(
    idempotent: bool,
    first_attempt_at: Timestamp,
    attempts: u8,
    on_ambiguous: OnAmbiguous,
    now: Timestamp,
) -> AfterAmbiguous {
    if !idempotent && on_ambiguous == OnAmbiguous::Unknown {
        return AfterAmbiguous::Unknown;
    }
    let resends = usize::from(attempts.saturating_sub(1));
    match RESEND_WAITS.get(resends) {
        Some(&wait) if may_go_again(first_attempt_at, now + wait) => {
            if wait.is_zero() {
                AfterAmbiguous::ResendNow
            } else {
                AfterAmbiguous::ResendAt(now + wait)
            }
        }
        _ => AfterAmbiguous::Unknown,
    }
}

/// Whether a repetition may leave now. Asked once more when its frame leaves: it may have waited for
/// the pace, or for an instance that was paused, far longer than [`after_ambiguous`] foresaw.
pub fn may_go_again(first_attempt_at: Timestamp, now: Timestamp) -> bool {
    now.since(first_attempt_at) < RESEND_WITHIN
}

/// How long a channel may take to answer an attempt before it counts as ambiguous.
pub const fn answer_timeout(kind: TransportKind) -> Duration {
    match kind {
        TransportKind::Simulator => SIMULATOR_ANSWER_TIMEOUT,
    }
}

/// The wait before start number `failures` + 1, after `failures` (from 1) in a row: 100 ms that
/// doubles up to 30 s, shortened by up to a half so that many do not return as one. `random` is in
/// 0..1.
pub fn restart_wait(failures: u32, random: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    let longest = FIRST_RESTART_WAIT
        .saturating_mul(doubled)
        .min(MAX_RESTART_WAIT);
    longest.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

/// What a supervisor does about a failed child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Start it again after this wait.
    After(Duration),
    /// Keep it still until a person acts: it fails again and again.
    Quarantine,
}

/// The recent failures of one supervised actor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartWindow {
    failures: VecDeque<Mono>,
}

impl RestartWindow {
    /// Records a failure and answers what to do: the fifth within 60 s is one too many. `random`
    /// is in 0..1.
    pub fn failed(&mut self, now: Mono, random: f64) -> Restart {
        while self
            .failures
            .front()
            .is_some_and(|at| now.since(*at) >= RESTART_WINDOW)
        {
            self.failures.pop_front();
        }
        if self.failures.len() == MAX_RESTARTS {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        match self.failures.len() {
            MAX_RESTARTS.. => Restart::Quarantine,
            recent => Restart::After(restart_wait(recent as u32, random)),
        }
    }

    /// Forgets the failures: a person released the actor.
    pub fn released(&mut self) {
        self.failures.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn temporary(attempts: u8, random: f64) -> Verdict {
        after_refusal(Refusal::Temporary, 503, attempts, NOW, random)
    }

    fn ambiguous(attempts: u8, seconds_after_the_first: u64) -> AfterAmbiguous {
        let first = NOW - Duration::from_secs(seconds_after_the_first);
        after_ambiguous(true, first, attempts, OnAmbiguous::Unknown, NOW)
    }

    #[test]
    fn temporary_refusals_are_retried_ever_later_and_five_are_enough() {
        let failure = Failure {
            reason: Reason::Temporary,
            code: 503,
        };
        for (attempts, seconds) in [(1, 1), (2, 3), (3, 9), (4, 27)] {
            let at = NOW + Duration::from_secs(seconds);
            assert_eq!(temporary(attempts, 0.5), Verdict::Retry { failure, at });
        }
        let exhausted = Failure {
            reason: Reason::AttemptsExhausted,
            code: 503,
        };
        assert_eq!(temporary(5, 0.5), Verdict::Fail(exhausted));
        assert_eq!(temporary(255, 0.5), Verdict::Fail(exhausted));
    }

    #[test]
    fn no_wait_reaches_the_30_seconds_at_which_a_message_would_lose_its_place() {
        for attempts in 0..MAX_ATTEMPTS {
            let Verdict::Retry { at, .. } = temporary(attempts, 1.0) else {
                panic!("attempt {attempts} is retried");
            };
            assert!(at.since(NOW) < Duration::from_secs(30));
        }
    }

    #[test]
    fn throttling_waits_exactly_as_long_as_asked_and_uses_up_no_ordinary_attempts() {
        let failure = Failure {
            reason: Reason::Throttled,
            code: 429,
        };
        let refused = |attempts, wait_ms| {
            after_refusal(Refusal::Throttled { wait_ms }, 429, attempts, NOW, 0.9)
        };

        let at = NOW + Duration::from_secs(90);
        assert_eq!(refused(6, 90_000), Verdict::Retry { failure, at });
        let at = NOW + DEFAULT_THROTTLE_WAIT;
        assert_eq!(refused(1, 0), Verdict::Retry { failure, at });
        let exhausted = Failure {
            reason: Reason::AttemptsExhausted,
            code: 429,
        };
        assert_eq!(refused(20, 1_000), Verdict::Fail(exhausted));
    }

    #[test]
    fn a_never_of_the_channel_is_final_and_its_own() {
        let refusal = Refusal::Permanent(Reason::NoSuchRecipient);
        let failure = Failure {
            reason: Reason::NoSuchRecipient,
            code: 404,
        };

        assert_eq!(
            after_refusal(refusal, 404, 1, NOW, 0.0),
            Verdict::Reject(failure)
        );
    }

    #[test]
    fn a_session_that_cannot_send_holds_the_instance_and_never_fails_the_message() {
        let failure = Failure {
            reason: Reason::Session,
            code: 401,
        };
        let verdict = after_refusal(Refusal::HoldInstance, 401, 200, NOW, 0.0);

        assert_eq!(verdict, Verdict::HoldInstance(failure));
    }

    #[test]
    fn an_ambiguous_attempt_is_repeated_three_times_where_the_channel_knows_its_id() {
        assert_eq!(ambiguous(1, 10), AfterAmbiguous::ResendNow);
        let at = |seconds| AfterAmbiguous::ResendAt(NOW + Duration::from_secs(seconds));
        assert_eq!(ambiguous(2, 20), at(2));
        assert_eq!(ambiguous(3, 40), at(8));
        assert_eq!(ambiguous(4, 60), AfterAmbiguous::Unknown);
    }

    #[test]
    fn nothing_is_repeated_ten_minutes_after_its_first_attempt() {
        assert_eq!(ambiguous(1, 599), AfterAmbiguous::ResendNow);
        assert_eq!(ambiguous(1, 600), AfterAmbiguous::Unknown);
        assert_eq!(
            ambiguous(2, 598),
            AfterAmbiguous::Unknown,
            "the wait would reach past them"
        );
    }

    #[test]
    fn a_channel_that_cannot_tell_gets_a_message_again_only_if_its_sender_asked_for_it() {
        let after = |on_ambiguous| after_ambiguous(false, NOW, 1, on_ambiguous, NOW);

        assert_eq!(after(OnAmbiguous::Unknown), AfterAmbiguous::Unknown);
        assert_eq!(after(OnAmbiguous::Resend), AfterAmbiguous::ResendNow);
    }

    #[test]
    fn restarts_wait_ever_longer_up_to_30_seconds() {
        let waits = [1, 2, 3, 9, 10, 1_000].map(|failures| restart_wait(failures, 0.0).as_millis());

        assert_eq!(waits, [100, 200, 400, 25_600, 30_000, 30_000]);
        assert_eq!(restart_wait(1, 1.0), Duration::from_millis(50));
    }

    #[test]
    fn the_fifth_failure_within_a_minute_puts_an_actor_in_quarantine() {
        let mut window = RestartWindow::default();
        let second = |n: u64| Mono::from_nanos(n * 1_000_000_000);
        let failures: Vec<_> = (0..5).map(|n| window.failed(second(n * 14), 0.0)).collect();

        let wait = |millis| Restart::After(Duration::from_millis(millis));
        assert_eq!(failures[..4], [wait(100), wait(200), wait(400), wait(800)]);
        assert_eq!(failures[4], Restart::Quarantine);
    }

    #[test]
    fn failures_that_lie_far_apart_never_add_up() {
        let mut window = RestartWindow::default();
        for n in 0..100 {
            let verdict = window.failed(Mono::from_nanos(n * 15_000_000_000), 0.0);
            assert_ne!(verdict, Restart::Quarantine);
        }
    }

    #[test]
    fn a_released_actor_starts_with_a_clean_record() {
        let mut window = RestartWindow::default();
        for _ in 0..5 {
            window.failed(Mono::from_nanos(0), 0.0);
        }
        window.released();

        assert!(matches!(
            window.failed(Mono::from_nanos(1), 0.0),
            Restart::After(_)
        ));
    }
}
