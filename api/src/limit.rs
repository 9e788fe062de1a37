//! Bounds on what callers may ask at once: requests, bytes of bodies, bad attempts per address.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zajil_model::admission::Refusals;
use zajil_model::time::{Clock, Mono};

use crate::error::ApiError;

/// Bad attempts that an address may make in one go: a deployment with a wrong key on many workers.
const BAD_ATTEMPTS_BURST: NonZeroU32 = NonZeroU32::new(100).expect("not 0");

/// Bad attempts a second after that.
const BAD_ATTEMPTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("not 0");

/// Addresses remembered before those that have calmed down are forgotten. About 1 MiB.
const MAX_ADDRESSES: usize = 10_000;

/// Bodies up to this size are not weighed: the bound on requests bounds them too.
const SMALL_BODY: usize = 16 * 1_024;

/// Bytes of one permit of the budget for bodies.
const PERMIT_BYTES: usize = 1_024;

/// The requests that are being carried out, up to a bound.
#[derive(Debug)]
pub(crate) struct InFlight {
    now: AtomicUsize,
    max: usize,
}

/// One request's place; it is given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<InFlight>);

impl InFlight {
    /// Room for `max` requests.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            now: AtomicUsize::new(0),
            max,
        })
    }

    /// Takes a place, if there is one.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.now.fetch_add(1, Ordering::Relaxed) < self.max {
            return Some(Place(Arc::clone(self)));
        }
        self.now.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The memory that large bodies may take together.
#[derive(Debug, Clone)]
pub(crate) struct BodyBudget(Arc<Semaphore>);

/// What one body holds of the budget.
#[derive(Debug, Default)]
pub(crate) struct Held(Option<OwnedSemaphorePermit>);

impl BodyBudget {
    /// A budget of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            (bytes / PERMIT_BYTES).min(Semaphore::MAX_PERMITS),
        )))
    }

    /// Holds enough for a body that has grown to `bytes`; refused when the budget is used up.
    pub(crate) fn cover(&self, held: &mut Held, bytes: usize) -> Result<(), ApiError> {
        if bytes <= SMALL_BODY {
            return Ok(());
        }
        let have = held.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(PERMIT_BYTES).saturating_sub(have);
        if missing == 0 {
            return Ok(());
        }
        let more = u32::try_from(missing)
            .ok()
            .and_then(|missing| Arc::clone(&self.0).try_acquire_many_owned(missing).ok())
            .ok_or_else(|| ApiError::unavailable("too many large bodies are being read"))?;
        match &mut held.0 {
            Some(permit) => permit.merge(more),
            none @ None => *none = Some(more),
        }
        Ok(())
    }
}

/// Bytes of the body of a refused request that are read and thrown away: a client that is still
/// sending would not read why, and its connection would have to be closed.
const DISCARDED: usize = 1 << 20;

/// How long they are waited for.
const DISCARDED_WITHIN: Duration = Duration::from_secs(1);

/// Throws the body of a refused request away as it comes, so that its connection can be used again.
pub(crate) async fn discard(mut body: Body) {
    let reading = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARDED {
                return;
            }
        }
    };
    // What has not come by then is left: the connection ends with the answer.
    drop(tokio::time::timeout(DISCARDED_WITHIN, reading).await);
}

/// Keeps back refusals of requests that are too many, so that answering them takes no work from
/// those that are not.
#[derive(Debug, Default)]
pub(crate) struct KeptBack(Mutex<Refusals>);

impl KeptBack {
    /// Whether a new request may come in.
    pub(crate) fn lets_in(&self, now: Mono) -> bool {
        self.0.lock().lets_in(now)
    }

    /// Waits until a refusal may be told.
    pub(crate) async fn keep_back(&self, clock: &dyn Clock) {
        let begun = clock.mono();
        let wait = self.0.lock().wait(begun);
        if !wait.is_zero() {
            let waiting = Waiting::begin(self);
            tokio::time::sleep(wait).await;
            waiting.end(clock.mono().since(begun + wait));
        }
    }
}

/// A refusal that is kept back, also when its client leaves meanwhile.
struct Waiting<'k> {
    kept: &'k KeptBack,
    lag: Option<Duration>,
}

impl<'k> Waiting<'k> {
    fn begin(kept: &'k KeptBack) -> Self {
        kept.0.lock().begin();
        Self { kept, lag: None }
    }

    /// It was kept back by so much longer than it should have been.
    fn end(mut self, lag: Duration) {
        self.lag = Some(lag);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.kept.0.lock().end(self.lag);
    }
}

type PerAddress = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>;

/// Counts bad attempts (wrong keys, wrong passwords) by address. Good keys are never held up by
/// what others behind the same address do.
#[derive(Debug)]
pub(crate) struct BadAttempts(PerAddress);

impl BadAttempts {
    /// Nobody did anything yet.
    pub(crate) fn new() -> Self {
        let quota = Quota::per_second(BAD_ATTEMPTS_PER_SECOND).allow_burst(BAD_ATTEMPTS_BURST);
        Self(RateLimiter::hashmap(quota))
    }

    /// Counts one; what the caller is told instead of `error` once it was too many.
    pub(crate) fn count(&self, address: IpAddr, error: ApiError) -> ApiError {
        if self.0.len() > MAX_ADDRESSES {
            self.0.retain_recent();
        }
        match self.0.check_key(&network(address)) {
            Ok(()) => error,
            Err(until) => {
                let wait = until.wait_time_from(DefaultClock::default().now());
                ApiError::RateLimited(wait.as_secs() + 1)
            }
        }
    }
}

/// What is counted as one caller: an address, or the /64 that one line of IPv6 has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_too_many_is_turned_away_until_another_ends() {
        let gate = InFlight::new(1);

        let first = gate.enter();
        assert!(first.is_some());
        assert!(gate.enter().is_none());

        drop(first);
        assert!(gate.enter().is_some());
    }

    #[test]
    fn large_bodies_share_a_budget_and_small_ones_are_not_weighed() {
        let budget = BodyBudget::new(1 << 20);
        let (mut first, mut second) = (Held::default(), Held::default());

        assert!(budget.cover(&mut first, 900 << 10).is_ok());
        assert!(budget.cover(&mut second, 200 << 10).is_err());
        assert!(budget.cover(&mut second, SMALL_BODY).is_ok());

        drop(first);
        assert!(budget.cover(&mut second, 200 << 10).is_ok());
    }

    #[test]
    fn an_address_that_guesses_is_slowed_down_and_others_are_not() {
        let attempts = BadAttempts::new();
        let guesser: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff:2".parse().unwrap();

        for _ in 0..200 {
            attempts.count(guesser, ApiError::InvalidKey);
        }

        let slowed = attempts.count(neighbour, ApiError::InvalidKey);
        assert!(matches!(slowed, ApiError::RateLimited(1..)));
        let other = attempts.count("10.0.0.1".parse().unwrap(), ApiError::InvalidKey);
        assert!(matches!(other, ApiError::InvalidKey));
    }
}
