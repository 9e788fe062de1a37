//! Admission: how much may be on its way into the engine at once.
//!
//! Mailboxes are unbounded, so what may enter is bounded here, before memory is spent: by the time
//! that it takes until what was accepted is durable and whoever waits for it goes on
//! (`zajil_model::admission`), and by bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use zajil_model::admission::{Admission, LEAST_LIMIT};
use zajil_model::id::AccountId;
use zajil_model::time::{Clock, Mono};

use crate::send::AcceptError;

/// Bytes of bodies in flight on a node: 8 of the largest bulks.
pub const NODE_BYTES: usize = 64 << 20;

/// The part of what is allowed that one account may have: half, so that one flood leaves room.
pub const ACCOUNT_SHARE: usize = 2;

#[derive(Debug)]
struct Inside {
    clock: Arc<dyn Clock>,
    accepts: AtomicUsize,
    bytes: AtomicUsize,
    /// How many accepts may be in flight, as `admission` has it.
    limit: AtomicUsize,
    admission: Mutex<Admission>,
    by_account: Mutex<FxHashMap<AccountId, usize>>,
    closed: AtomicBool,
}

/// The gate of a node.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inside>);

/// Room for one accept; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    inside: Arc<Inside>,
    account: AccountId,
    bytes: usize,
    entered_at: Mono,
    /// How many others were inside then.
    beside: usize,
}

impl Gate {
    /// A gate that lets in what is accepted in time by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inside {
            accepts: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            limit: AtomicUsize::new(LEAST_LIMIT),
            admission: Mutex::new(Admission::new(clock.mono())),
            by_account: Mutex::default(),
            closed: AtomicBool::new(false),
            clock,
        }))
    }

    /// Room for one accept of `bytes`.
    ///
    /// # Errors
    /// [`AcceptError::AccountOverloaded`] when the account has too much in flight,
    /// [`AcceptError::Unavailable`] when the node has, or is draining.
    pub fn enter(&self, account: AccountId, bytes: usize) -> Result<Permit, AcceptError> {
        let inside = &self.0;
        if self.is_closed() {
            return Err(AcceptError::Unavailable("the node is draining"));
        }
        let limit = inside.limit.load(Ordering::Acquire);
        {
            let mut accounts = inside.by_account.lock();
            let entered = accounts.entry(account).or_default();
            if *entered >= limit / ACCOUNT_SHARE {
                inside.admission.lock().refused();
                return Err(AcceptError::AccountOverloaded);
            }
            *entered += 1;
        }
        let permit = Permit {
            account,
            bytes,
            entered_at: inside.clock.mono(),
            beside: inside.accepts.fetch_add(1, Ordering::AcqRel),
            inside: inside.clone(),
        };
        let waiting = inside.bytes.fetch_add(bytes, Ordering::AcqRel);
        // A single request always fits, however large: its size was bounded at the door.
        if permit.beside >= limit || (waiting > 0 && waiting + bytes > NODE_BYTES) {
            inside.admission.lock().refused();
            return Err(TOO_MANY);
        }
        Ok(permit)
    }

    /// Whether another accept may come, of this account if it is known: to be asked before
    /// anything is spent on it.
    ///
    /// # Errors
    /// What [`Self::enter`] would answer.
    pub fn look(&self, account: Option<AccountId>) -> Result<(), AcceptError> {
        let inside = &self.0;
        let limit = inside.limit.load(Ordering::Acquire);
        let entered = account.map_or(0, |account| {
            inside.by_account.lock().get(&account).copied().unwrap_or(0)
        });
        let refusal = if entered >= limit / ACCOUNT_SHARE {
            AcceptError::AccountOverloaded
        } else if self.inside() >= limit {
            TOO_MANY
        } else {
            return Ok(());
        };
        inside.admission.lock().refused();
        Err(refusal)
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.0.accepts.load(Ordering::Acquire)
    }
}

const TOO_MANY: AcceptError = AcceptError::Unavailable("too many requests are being accepted");

impl Permit {
    /// What it was for is accepted, and whoever waited for that goes on.
    pub fn accepted(self) {
        let inside = &self.inside;
        let now = inside.clock.mono();
        let mut admission = inside.admission.lock();
        admission.accepted(now.since(self.entered_at), self.beside, now);
        inside.limit.store(admission.limit(), Ordering::Release);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inside.accepts.fetch_sub(1, Ordering::AcqRel);
        self.inside.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        let mut accounts = self.inside.by_account.lock();
        if let Some(entered) = accounts.get_mut(&self.account) {
            *entered -= 1;
            if *entered == 0 {
                accounts.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use zajil_model::time::Timestamp;

    use super::*;

    /// A clock that tells what it was set to.
    #[derive(Debug, Default)]
    struct Still(AtomicU64);

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(0)
        }

        fn mono(&self) -> Mono {
            Mono::from_nanos(self.0.load(Ordering::Relaxed))
        }
    }

    fn gate() -> Gate {
        Gate::new(Arc::new(Still::default()))
    }

    fn account(number: u64) -> AccountId {
        AccountId::new(number).unwrap()
    }

    /// Everybody goes in, each account once, until one is refused.
    fn fill(gate: &Gate) -> Vec<Permit> {
        (1..)
            .map_while(|number| gate.enter(account(number), 1).ok())
            .collect()
    }

    #[test]
    fn the_longer_they_wait_the_fewer_are_let_in() {
        let clock = Arc::new(Still::default());
        let gate = Gate::new(clock.clone());
        let pass = |millis: u64| clock.0.fetch_add(millis * 1_000_000, Ordering::Relaxed);
        let waiting_for = |millis| {
            let mut flood = fill(&gate);
            let inside = flood.len();
            pass(millis);
            flood.pop().unwrap().accepted();
            drop(flood);
            pass(100);
            inside
        };

        let many = (0..20).fold(0, |_, _| waiting_for(1));
        let few = (0..20).fold(0, |_, _| waiting_for(1_000));

        assert!(many > 2 * LEAST_LIMIT, "{many}");
        assert_eq!(few, LEAST_LIMIT);
    }

    #[test]
    fn one_account_cannot_fill_the_node() {
        let gate = gate();
        let flood: Vec<_> = (0..LEAST_LIMIT / ACCOUNT_SHARE)
            .map(|_| gate.enter(account(1), 10).unwrap())
            .collect();

        assert_eq!(
            gate.enter(account(1), 10).unwrap_err(),
            AcceptError::AccountOverloaded
        );
        assert_eq!(
            gate.look(Some(account(1))).unwrap_err(),
            AcceptError::AccountOverloaded
        );
        assert!(gate.look(None).is_ok());
        assert!(gate.enter(account(2), 10).is_ok());

        drop(flood);
        assert!(gate.enter(account(1), 10).is_ok());
        assert_eq!(gate.inside(), 0);
    }

    #[test]
    fn bodies_in_flight_are_bounded_by_bytes() {
        let gate = gate();
        let _large = gate.enter(account(1), NODE_BYTES).unwrap();

        assert!(matches!(
            gate.enter(account(2), 1),
            Err(AcceptError::Unavailable(_))
        ));
        assert_eq!(gate.inside(), 1);
    }

    #[test]
    fn a_closed_gate_lets_nobody_in() {
        let gate = gate();
        gate.close();

        assert!(matches!(
            gate.enter(account(1), 1),
            Err(AcceptError::Unavailable(_))
        ));
    }
}
