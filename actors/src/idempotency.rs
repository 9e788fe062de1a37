//! Idempotency keys: a request that is repeated is answered again, not done again.
//!
//! While a request is being done, its key is held in memory, and twins wait for it. What lasts is
//! one row: how the request was answered. For messages the row is written *before* they are
//! appended, with the id of the first of them and the epoch that gave it (a promise). Whoever owns
//! the shard of that id by now knows the rest: found in the log, the promise was kept and its answer
//! is given again; not found, and the epoch is sealed, it never will be and the repetition starts
//! afresh. So no crash between the two can send twice, or lose an answer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_model::id::AccountId;
use zajil_model::time::{Clock, Day, Timestamp};
use zajil_storage::{Condition, RowKey, RowWrite, Store, StoreError, Table};

use crate::directory::rows::{decode, number};
use crate::ids::ShardClocks;
use crate::owners::questions::AskPromise;
use crate::owners::{OwnerError, Owners};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// How long a twin waits for the first to end.
const TWIN_WAITS: Duration = Duration::from_secs(2);

/// Requests with a key that are being done at once: as many as a node accepts at once, and more.
const IN_FLIGHT: usize = 16_384;

/// Twins that wait at once; more are told at once that theirs is in flight.
const WAITING: usize = 4_096;

/// How often old rows are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// How far back old rows are looked for; a node that was off for longer leaves some behind.
const SWEEP_DAYS: i32 = 30;

/// Rows that are deleted by one write.
const SWEEP_ROWS: usize = 200;

mod fate;
mod ticket;

pub use fate::Fate;
pub use ticket::Ticket;

/// Which request: what a key is unique within.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Whose request.
    pub account: AccountId,
    /// Its method.
    pub method: &'a str,
    /// Its path.
    pub path: &'a str,
    /// The `Idempotency-Key`.
    pub key: &'a str,
}

/// What a request with an idempotency key meets.
#[derive(Debug)]
pub enum Begin {
    /// It is the first: do it, and tell the ticket what came of it.
    Fresh(Ticket),
    /// It was done: answer this again.
    Replay {
        /// The status of the answer.
        status: u16,
        /// Its body.
        body: Vec<u8>,
    },
    /// A twin is being done; it did not end within 2 s.
    InFlight,
    /// The key was used for another body.
    Mismatch,
}

/// Why an idempotency key could not be looked at or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdempotencyError {
    /// Too many requests with keys are in flight.
    #[error("too many requests with idempotency keys are in flight")]
    Overloaded,
    /// A twin was faster; nothing was done for this one.
    #[error("a request with the same idempotency key was faster")]
    Lost,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whether a promise was kept is not known now.
    #[error(transparent)]
    Owner(#[from] OwnerError),
}

/// Idempotency keys of this node; clones are the same ones.
#[derive(Clone)]
pub struct Idempotency(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    clocks: Arc<ShardClocks>,
    owners: Owners,
    flights: Mutex<FxHashMap<KeyHash, Flight>>,
    waiting: Semaphore,
    /// When old rows are looked for next, in microseconds.
    sweep_at: AtomicI64,
}

/// SHA-256 of a scope: the name of a row.
type KeyHash = [u8; 32];

#[derive(Clone)]
struct Flight {
    body: [u8; 32],
    ended: CancellationToken,
}

/// An answer as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    body_hash: [u8; 32],
    at: Timestamp,
    /// `None` once it is certain that the request was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    promise: Option<AskPromise>,
    status: u16,
    /// JSON, as all bodies are.
    body: String,
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flights = self.0.flights.lock().len();
        f.debug_struct("Idempotency")
            .field("in_flight", &flights)
            .finish_non_exhaustive()
    }
}

impl Idempotency {
    /// Keys over the store of this node; what they do in the background runs on `tracker`. `clocks`
    /// tell the epochs of its own shards, `owners` the way to all others.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        tracker: TaskTracker,
        clocks: Arc<ShardClocks>,
        owners: Owners,
    ) -> Self {
        let now = clock.now();
        Self(Arc::new(Inner {
            store,
            clock,
            tracker,
            clocks,
            owners,
            flights: Mutex::default(),
            waiting: Semaphore::new(WAITING),
            sweep_at: AtomicI64::new(now.as_micros()),
        }))
    }

    /// Begins a request. A twin that is in flight is waited for, up to 2 s.
    ///
    /// # Errors
    /// `Overloaded` when too many are in flight, or what the store answers.
    pub async fn begin(&self, scope: Scope<'_>, body: &[u8]) -> Result<Begin, IdempotencyError> {
        self.sweep_when_due();
        let (key, body) = (key_hash(scope), Sha256::digest(body).into());
        let held = match tokio::time::timeout(TWIN_WAITS, self.hold(key, body)).await {
            Ok(held) => held?,
            Err(_) => return Ok(Begin::InFlight),
        };
        match held {
            Hold::Held(held) => self.judge(held, body).await,
            Hold::OtherBody => Ok(Begin::Mismatch),
            Hold::NotNow => Ok(Begin::InFlight),
        }
    }

    /// Holds a key, after all twins that came before.
    async fn hold(&self, key: KeyHash, body: [u8; 32]) -> Result<Hold, IdempotencyError> {
        loop {
            let twin = {
                let mut flights = self.0.flights.lock();
                match flights.get(&key) {
                    Some(twin) => twin.clone(),
                    None if flights.len() >= IN_FLIGHT => return Err(IdempotencyError::Overloaded),
                    None => {
                        let ended = CancellationToken::new();
                        flights.insert(
                            key,
                            Flight {
                                body,
                                ended: ended.clone(),
                            },
                        );
                        return Ok(Hold::Held(Held {
                            inner: Arc::clone(&self.0),
                            key,
                            ended,
                        }));
                    }
                }
            };
            if twin.body != body {
                return Ok(Hold::OtherBody);
            }
            let Ok(_waiting) = self.0.waiting.try_acquire() else {
                return Ok(Hold::NotNow);
            };
            twin.ended.cancelled().await;
        }
    }

    /// What the row says of a request whose key is held.
    async fn judge(&self, held: Held, body: [u8; 32]) -> Result<Begin, IdempotencyError> {
        let now = self.0.clock.now();
        let stored = self
            .0
            .store
            .row(&answer_row(&held.key))
            .await?
            .map(|row| row.value);
        let fresh = |replaces| {
            Begin::Fresh(Ticket {
                held,
                body,
                replaces,
                promised: false,
            })
        };
        let Some(stored) = stored else {
            return Ok(fresh(None));
        };
        let answer: Answer = decode("idempotency key", &stored)?;
        if answer.at + KEPT <= now {
            return Ok(fresh(Some(stored)));
        }
        if answer.body_hash != body {
            return Ok(Begin::Mismatch);
        }
        if let Some(promise) = answer.promise {
            match self.fate(promise).await? {
                Fate::Kept => {}
                Fate::Open => return Ok(Begin::InFlight),
                Fate::Void => return Ok(fresh(Some(stored))),
            }
        }
        Ok(Begin::Replay {
            status: answer.status,
            body: answer.body.into_bytes(),
        })
    }

    fn sweep_when_due(&self) {
        let (now, order) = (self.0.clock.now(), Ordering::Relaxed);
        let due = self.0.sweep_at.load(order);
        let next = (now + SWEEP_EVERY).as_micros();
        if now.as_micros() < due
            || self
                .0
                .sweep_at
                .compare_exchange(due, next, order, order)
                .is_err()
        {
            return;
        }
        let keys = self.clone();
        self.0.tracker.spawn(async move {
            if let Err(error) = keys.sweep(now).await {
                tracing::warn!(%error, "cannot delete old idempotency keys");
            }
        });
    }

    /// Deletes what is older than it has to be.
    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        let newest = (now - KEPT).day().0 - 1;
        for day in (newest - SWEEP_DAYS..=newest).map(Day) {
            let partition = day_partition(day);
            loop {
                let store = &self.0.store;
                let rows = store
                    .rows(Table::Idempotency, &partition, None, SWEEP_ROWS, false)
                    .await?;
                if rows.is_empty() || self.0.tracker.is_closed() {
                    break;
                }
                for row in rows {
                    self.delete_old(row.key, now).await?;
                }
            }
        }
        Ok(())
    }

    /// Deletes the answer that an entry of a day names, unless a later one took its place.
    async fn delete_old(&self, entry: RowKey, now: Timestamp) -> Result<(), StoreError> {
        let row = RowKey::new(Table::Idempotency, entry.sort.clone(), []);
        let mut writes = vec![RowWrite::delete(entry)];
        if let Some(stored) = self.0.store.row(&row).await? {
            let answer: Answer = decode("idempotency key", &stored.value)?;
            if answer.at + KEPT <= now {
                writes.push(RowWrite::delete(row).when(Condition::Is(stored.value)));
            }
        }
        // A conflict means that the key was used again just now; the next sweep looks again.
        self.0.store.write(writes).await.map(|_| ())
    }
}

enum Hold {
    Held(Held),
    OtherBody,
    NotNow,
}

/// A key that is held; given back when it is dropped.
struct Held {
    inner: Arc<Inner>,
    key: KeyHash,
    ended: CancellationToken,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.flights.lock().remove(&self.key);
        self.ended.cancel();
    }
}

fn key_hash(scope: Scope<'_>) -> KeyHash {
    let mut hash = Sha256::new();
    hash.update(number(scope.account.get()));
    for part in [scope.method, scope.path, scope.key] {
        hash.update(number(part.len() as u64));
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

fn answer_row(key: &KeyHash) -> RowKey {
    RowKey::new(Table::Idempotency, *key, [])
}

/// Where the keys are listed that were used on a day.
fn day_partition(day: Day) -> Vec<u8> {
    [b"day".as_slice(), &day.0.to_be_bytes()].concat()
}
