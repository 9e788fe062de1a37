//! Windows of API keys: one actor for each key that is in use.
//!
//! Every request takes one from the bucket of its key, whatever it carries. A bucket counts in
//! memory and reserves in the store ahead of what it counts (`zajil_model::quota`), so that no crash
//! lets more through than the limit. Requests count for themselves in what is reserved; the actor
//! reserves, and hears only of requests that have to wait for it. Idle buckets write what they
//! really used and stop.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use ractor::{Actor, ActorRef};
use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::task::TaskTracker;
use zajil_model::id::{KeyId, Shard};
pub use zajil_model::quota::Answer as Quota;
use zajil_model::time::{Clock, Mono, Timestamp};
use zajil_storage::{Store, StoreError};

use crate::directory::{ApiKey, Cache};
use crate::owners::questions::AskWindow;
use crate::owners::{Asked, Owners};
use bucket::{BucketMsg, Counter};
use supervisor::{Supervisor, SupervisorMsg};

mod bucket;
mod supervisor;

/// Requests of one key that wait for their answer at once. A bucket answers in microseconds; only
/// while it reads or writes its row do they gather, and then for milliseconds.
const IN_FLIGHT: usize = 4_096;

/// How long a request waits for its answer: far longer than a healthy store needs.
const TAKE_DEADLINE: Duration = Duration::from_secs(2);

/// Keys that are remembered as used up: some 60 bytes each.
const USED_UP: usize = 10_000;

/// How long a bucket may take to write what it used when its shard leaves.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// How often a request looks for its bucket: the one that it found may be stopping just now.
const FIND_ROUNDS: usize = 3;

/// Why a bucket gave no answer; the request is answered 503.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Unavailable {
    /// Too many requests wait for this bucket, or it did not answer in time.
    #[error("the key's window is overloaded")]
    Overloaded,
    /// The shard of the key left this node before anything was counted.
    #[error("the key's window is moving to another node")]
    Moved,
    /// The engine is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The buckets of all keys; clones are the same ones.
#[derive(Clone)]
pub struct KeyBuckets(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    buckets: Buckets,
    supervisor: ActorRef<SupervisorMsg>,
    owners: Owners,
    /// Keys whose window another node says is used up: until it is over nobody need ask again.
    used_up: Cache<KeyId, Quota>,
}

/// Where buckets are found; the supervisor alone adds and removes them.
type Buckets = Arc<RwLock<FxHashMap<KeyId, Arc<Bucket>>>>;

/// The way to one bucket.
struct Bucket {
    actor: ActorRef<BucketMsg>,
    counter: Arc<Mutex<Counter>>,
    gate: Arc<Semaphore>,
    /// When the bucket was last asked.
    used_at: AtomicU64,
}

/// What is asked of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// To count a request.
    Count,
    /// What a request would be told.
    Look,
}

/// One request that waits for its answer.
struct Take {
    ask: Ask,
    limit: u64,
    reply: oneshot::Sender<Result<Quota, Unavailable>>,
    /// Gives the place in the gate back when the request is answered.
    _permit: OwnedSemaphorePermit,
}

impl fmt::Debug for KeyBuckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets = self.0.buckets.read().len();
        f.debug_struct("KeyBuckets")
            .field("buckets", &buckets)
            .finish_non_exhaustive()
    }
}

impl KeyBuckets {
    /// Buckets over a store; what they do in the background runs on `tracker`.
    ///
    /// # Errors
    /// When the supervisor of the buckets cannot be started.
    pub async fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        tracker: TaskTracker,
        owners: Owners,
    ) -> Result<Self, ractor::SpawnErr> {
        let buckets = Buckets::default();
        let ports = bucket::Ports {
            store,
            clock: Arc::clone(&clock),
            tracker,
        };
        let supervisor = Supervisor::new(ports, Arc::clone(&buckets));
        let (supervisor, _) = Actor::spawn(None, supervisor, ()).await?;
        Ok(Self(Arc::new(Inner {
            clock,
            buckets,
            supervisor,
            owners,
            used_up: Cache::new(USED_UP),
        })))
    }

    /// Stops all buckets, each after it wrote what it really used.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self
            .0
            .supervisor
            .send_message(SupervisorMsg::Stop(done))
            .is_ok()
        {
            // An error means that it stopped already.
            stopped.await.ok();
        }
    }

    /// Takes one request from a key's window, under the limit that the key has now.
    ///
    /// # Errors
    /// When it is not known whether the window has room; nothing is counted then.
    pub async fn take(&self, key: &ApiKey) -> Result<Quota, Unavailable> {
        self.ask_owner(key, Ask::Count).await
    }

    /// What a request of a key would be told, without counting one.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn peek(&self, key: &ApiKey) -> Result<Quota, Unavailable> {
        self.ask_owner(key, Ask::Look).await
    }

    async fn ask_owner(&self, key: &ApiKey, ask: Ask) -> Result<Quota, Unavailable> {
        let (id, limit) = (key.id, key.rate_limit);
        if self.0.owners.ownership().owns(id.shard()) {
            match self.ask_window(id, limit, ask).await {
                Err(Unavailable::Moved) => {}
                answer => return answer,
            }
        }
        let over = |quota: &Quota| quota.limit == limit && self.0.clock.now() < quota.reset;
        if let Some(quota) = self.0.used_up.get(&id).filter(over) {
            return Ok(quota);
        }
        let question = AskWindow {
            key: id,
            limit,
            count: ask == Ask::Count,
        };
        let quota = match self.0.owners.ask(id.shard(), question).await {
            Ok(Asked::Here(_)) => return self.ask_window(id, limit, ask).await,
            Ok(Asked::There(answer)) => answer?,
            Err(_) => return Err(Unavailable::Overloaded),
        };
        if !quota.allowed {
            self.0.used_up.put_written(id, quota);
        }
        Ok(quota)
    }

    /// Answers another node.
    pub(crate) async fn answer(&self, asked: &AskWindow) -> Result<Quota, Unavailable> {
        let ask = if asked.count { Ask::Count } else { Ask::Look };
        self.ask_window(asked.key, asked.limit, ask).await
    }

    /// Closes the buckets of a shard that leaves this node, each after it wrote what it really used.
    pub(crate) async fn close_shard(&self, shard: Shard) {
        let leaving: Vec<(KeyId, Arc<Bucket>)> = {
            let buckets = self.0.buckets.read();
            let of_shard = buckets.iter().filter(|(key, _)| key.shard() == shard);
            of_shard
                .map(|(key, bucket)| (*key, Arc::clone(bucket)))
                .collect()
        };
        let close = |(key, bucket): (KeyId, Arc<Bucket>)| async move {
            // One that is gone wrote what it could.
            drop(bucket.actor.send_message(BucketMsg::Passivate));
            drop(bucket.actor.wait(Some(CLOSE_WITHIN)).await);
            // An error means that the node is stopping, and so is the bucket.
            drop(self.gone(key, &bucket).await);
        };
        join_all(leaving.into_iter().map(close)).await;
    }

    async fn ask_window(&self, key: KeyId, limit: u64, ask: Ask) -> Result<Quota, Unavailable> {
        for _ in 0..FIND_ROUNDS {
            if !self.0.owners.ownership().owns(key.shard()) {
                return Err(Unavailable::Moved);
            }
            let bucket = self.find(key).await?;
            bucket.touch(self.0.clock.mono());
            if let Some(quota) = bucket.answer(ask, limit, self.0.clock.now()) {
                return Ok(quota);
            }
            let permit = Arc::clone(&bucket.gate).try_acquire_owned();
            let permit = permit.map_err(|_| Unavailable::Overloaded)?;
            let (reply, answer) = oneshot::channel();
            let take = Take {
                ask,
                limit,
                reply,
                _permit: permit,
            };
            if bucket.actor.send_message(BucketMsg::Take(take)).is_err() {
                self.gone(key, &bucket).await?;
                continue;
            }
            match tokio::time::timeout(TAKE_DEADLINE, answer).await {
                Ok(Ok(answer)) => return answer,
                // It stopped with the request in its mailbox: not counted.
                Ok(Err(_)) => self.gone(key, &bucket).await?,
                Err(_) => return Err(Unavailable::Overloaded),
            }
        }
        Err(Unavailable::Overloaded)
    }

    async fn find(&self, key: KeyId) -> Result<Arc<Bucket>, Unavailable> {
        if let Some(bucket) = self.0.buckets.read().get(&key) {
            return Ok(Arc::clone(bucket));
        }
        self.ask(|reply| SupervisorMsg::Open(key, reply)).await?
    }

    /// Tells the supervisor that a bucket does not answer any more.
    async fn gone(&self, key: KeyId, bucket: &Bucket) -> Result<(), Unavailable> {
        let actor = bucket.actor.get_id();
        self.ask(|reply| SupervisorMsg::Gone(key, actor, reply))
            .await
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> SupervisorMsg,
    ) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.supervisor.send_message(message(reply));
        sent.map_err(|_| Unavailable::Stopping)?;
        answer.await.map_err(|_| Unavailable::Stopping)
    }
}

impl Bucket {
    fn new(actor: ActorRef<BucketMsg>, counter: Arc<Mutex<Counter>>, now: Mono) -> Self {
        Self {
            actor,
            counter,
            gate: Arc::new(Semaphore::new(IN_FLIGHT)),
            used_at: AtomicU64::new(now.as_nanos()),
        }
    }

    /// The answer, unless the actor has to reserve for it first.
    fn answer(&self, ask: Ask, limit: u64, now: Timestamp) -> Option<Quota> {
        let (quota, low) = self.counter.lock().answer(ask, limit, now)?;
        if low {
            // One that is gone is opened again by the first request that has to wait for it.
            self.actor.send_message(BucketMsg::Low(limit)).ok();
        }
        Some(quota)
    }

    fn touch(&self, now: Mono) {
        self.used_at.store(now.as_nanos(), Ordering::Relaxed);
    }

    fn used_at(&self) -> Mono {
        Mono::from_nanos(self.used_at.load(Ordering::Relaxed))
    }
}
