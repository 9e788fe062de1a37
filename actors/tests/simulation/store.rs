//! The store as one process has it: the port over the shared [`Database`], in the way of the CQL
//! store. Each shard that is held has a projection in memory, made from its log when it was taken,
//! and a writer with one append on its way, which is repeated as it was until it has an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use zajil_model::id::{Epoch, InstanceId, Shard};
use zajil_model::lease::NodeId;
use zajil_storage::{Budgets, MemoryStore, StoreError};

use crate::clock::SimClock;
use crate::database::Database;
use crate::rare::Reached;
use crate::wire::{End, Lateness, Wire};

mod feed;
mod held;
mod places;
mod port;
mod writer;

use held::Held;
pub(crate) use held::{now, parts, replay};

/// How long a request to the database waits for its answer.
const WITHIN: Duration = Duration::from_secs(2);

/// The store of one process; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct NodeStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: NodeId,
    wire: Wire,
    database: Arc<Database>,
    reached: Arc<Reached>,
    budgets: Budgets,
    clock: Arc<SimClock>,
    /// The tick up to which a reader was told that it has seen everything.
    told: Arc<AtomicU64>,
    shards: Mutex<BTreeMap<Shard, Arc<Held>>>,
}

impl NodeStore {
    pub(crate) fn new(
        node: NodeId,
        wire: Wire,
        database: Arc<Database>,
        reached: Arc<Reached>,
        (budgets, clock): (Budgets, Arc<SimClock>),
    ) -> Self {
        Self(Arc::new(Inner {
            node,
            wire,
            database,
            reached,
            budgets,
            clock,
            told: Arc::default(),
            shards: Mutex::default(),
        }))
    }

    /// What is not settled of the shards that are held, as their projections say.
    pub(crate) fn unsettled(&self) -> u64 {
        let shards = self.0.shards.lock();
        let work = shards.values().filter_map(|held| held.work());
        work.flatten().map(|work| work.unsettled).sum()
    }

    /// Does something at the database; an error when no answer comes.
    async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        late: Lateness,
        act: impl FnOnce(&Database) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (there, back) = self.ways();
        let (answer, answered) = oneshot::channel();
        let (wire, database) = (self.0.wire.clone(), Arc::clone(&self.0.database));
        self.0.wire.send(there, late, move || {
            let result = act(&database);
            // Who asked may have gone.
            let answers = move || drop(answer.send(result));
            wire.send(back, Lateness::Seldom, answers);
        });
        match timeout(WITHIN, answered).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) | Err(_) => Err(StoreError::Io {
                operation: doing,
                reason: "the database does not answer".to_owned(),
            }),
        }
    }

    fn ways(&self) -> ((End, End), (End, End)) {
        let me = End::Node(self.0.node);
        ((me, End::Store), (End::Store, me))
    }

    fn held(&self, shard: Shard) -> Result<Arc<Held>, StoreError> {
        let held = self.0.shards.lock().get(&shard).cloned();
        held.filter(|held| held.is_alive())
            .ok_or(StoreError::NotOpen(shard))
    }

    /// The shard is not held here any more.
    fn forget(&self, shard: Shard, held: &Arc<Held>) {
        let mut shards = self.0.shards.lock();
        if shards.get(&shard).is_some_and(|now| Arc::ptr_eq(now, held)) {
            shards.remove(&shard);
        }
    }

    /// The projection of a shard that is held here, or one that is made for the question.
    async fn projection(&self, shard: Shard) -> Result<Arc<MemoryStore>, StoreError> {
        self.cold().await?;
        if let Ok(held) = self.held(shard) {
            return Ok(Arc::clone(&held.projection));
        }
        let log = self.ask("read a log", Lateness::Seldom, move |database| {
            database.read(shard)
        });
        let log = log.await?;
        let replayed = replay(shard, Epoch(1), &log, self.0.budgets).await?;
        Ok(replayed.projection)
    }

    /// Some of what is asked is not in memory: then it takes a moment, or does not come.
    async fn cold(&self) -> Result<(), StoreError> {
        if self.0.wire.dice(0..4) > 0 {
            return Ok(());
        }
        self.ask("read a projection", Lateness::Never, |_| ()).await
    }

    /// The projections of the shards of some instances, each with its instances.
    async fn by_shard(
        &self,
        instances: &[InstanceId],
    ) -> Result<Vec<(Arc<MemoryStore>, Vec<InstanceId>)>, StoreError> {
        let mut shards: BTreeMap<Shard, Vec<InstanceId>> = BTreeMap::new();
        for instance in instances {
            shards.entry(instance.shard()).or_default().push(*instance);
        }
        let mut parts = Vec::new();
        for (shard, instances) in shards {
            parts.push((self.projection(shard).await?, instances));
        }
        Ok(parts)
    }
}
