//! Admission: how much may be on its way into the engine at once.
//!
//! Mailboxes are unbounded, so what may enter is bounded here, before memory is spent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use zajil_model::id::AccountId;

use crate::send::AcceptError;

/// Accepts in flight on a node. At a commit of 1 ms this is four million requests a second; more
/// waiting would only add latency.
pub const NODE_ACCEPTS: usize = 4_096;

/// Bytes of bodies in flight on a node: 32 of the largest bulks.
pub const NODE_BYTES: usize = 256 << 20;

/// Accepts in flight of one account: half of the node's, so that one flood leaves room.
pub const ACCOUNT_ACCEPTS: usize = NODE_ACCEPTS / 2;

#[derive(Debug, Default)]
struct Inside {
    accepts: AtomicUsize,
    bytes: AtomicUsize,
    by_account: Mutex<FxHashMap<AccountId, usize>>,
    closed: AtomicBool,
}

/// The gate of a node.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Inside>);

/// Room for one accept; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    inside: Arc<Inside>,
    account: AccountId,
    bytes: usize,
}

impl Gate {
    /// Room for one accept of `bytes`.
    ///
    /// # Errors
    /// [`AcceptError::AccountOverloaded`] when the account has too much in flight,
    /// [`AcceptError::Unavailable`] when the node has, or is draining.
    pub fn enter(&self, account: AccountId, bytes: usize) -> Result<Permit, AcceptError> {
        let inside = &self.0;
        if inside.closed.load(Ordering::Acquire) {
            return Err(AcceptError::Unavailable("the node is draining"));
        }
        {
            let mut accounts = inside.by_account.lock();
            let entered = accounts.entry(account).or_default();
            if *entered >= ACCOUNT_ACCEPTS {
                return Err(AcceptError::AccountOverloaded);
            }
            *entered += 1;
        }
        let permit = Permit {
            inside: inside.clone(),
            account,
            bytes,
        };
        let accepts = inside.accepts.fetch_add(1, Ordering::AcqRel);
        let waiting = inside.bytes.fetch_add(bytes, Ordering::AcqRel);
        // A single request always fits, however large: its size was bounded at the door.
        if accepts >= NODE_ACCEPTS || (waiting > 0 && waiting + bytes > NODE_BYTES) {
            return Err(AcceptError::Unavailable(
                "too many requests are being accepted",
            ));
        }
        Ok(permit)
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
    use super::*;

    fn account(number: u64) -> AccountId {
        AccountId::new(number).unwrap()
    }

    #[test]
    fn one_account_cannot_fill_the_node() {
        let gate = Gate::default();
        let flood: Vec<_> = (0..ACCOUNT_ACCEPTS)
            .map(|_| gate.enter(account(1), 10).unwrap())
            .collect();

        assert_eq!(
            gate.enter(account(1), 10).unwrap_err(),
            AcceptError::AccountOverloaded
        );
        assert!(gate.enter(account(2), 10).is_ok());

        drop(flood);
        assert!(gate.enter(account(1), 10).is_ok());
        assert_eq!(gate.inside(), 0);
    }

    #[test]
    fn bodies_in_flight_are_bounded_by_bytes() {
        let gate = Gate::default();
        let _large = gate.enter(account(1), NODE_BYTES).unwrap();

        assert!(matches!(
            gate.enter(account(2), 1),
            Err(AcceptError::Unavailable(_))
        ));
        assert_eq!(gate.inside(), 1);
    }

    #[test]
    fn a_closed_gate_lets_nobody_in() {
        let gate = Gate::default();
        gate.close();

        assert!(matches!(
            gate.enter(account(1), 1),
            Err(AcceptError::Unavailable(_))
        ));
    }
}
