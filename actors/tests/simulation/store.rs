//! The store as one process has it: the port over the shared [`Database`], in the way of the CQL
//! store. Each shard that is held has a projection in memory, made from its log when it was taken,
//! and a writer with one append on its way, which is repeated as it was until it has an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use zajil_model::id::{Epoch, InstanceId, Shard};
use zajil_model::lease::NodeId;
use zajil_storage::{Budgets, MemoryStore, StoreError};

use crate::database::{Appended, Database, Group, Place};
use crate::rare::{Rare, Reached};
use crate::wire::{End, Lateness, Wire};

mod held;
mod port;

use held::Held;
pub(crate) use held::{now, replay};

/// How long a request to the database waits for its answer.
const WITHIN: Duration = Duration::from_secs(2);

/// The wait before an append without an answer is made again.
const AGAIN: Duration = Duration::from_millis(100);

/// How often an owner that appends finds out whether it still is one: with each flush.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

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
    shards: Mutex<BTreeMap<Shard, Arc<Held>>>,
}

impl NodeStore {
    pub(crate) fn new(
        node: NodeId,
        wire: Wire,
        database: Arc<Database>,
        reached: Arc<Reached>,
        budgets: Budgets,
    ) -> Self {
        Self(Arc::new(Inner {
            node,
            wire,
            database,
            reached,
            budgets,
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
        replay(shard, Epoch(1), &log, self.0.budgets).await
    }

    /// Some of what is asked is not in memory: then it takes a moment, or does not come.
    async fn cold(&self) -> Result<(), StoreError> {
        if self.0.wire.dice(0..4) > 0 {
            return Ok(());
        }
        self.ask("read a projection", Lateness::Never, |_| ()).await
    }

    /// Writes what waits for a shard, one group after the other.
    async fn write_all(self, shard: Shard, held: Arc<Held>) {
        let mut flushed_at = Instant::now();
        while let Some((number, calls)) = held.next_group() {
            let group: Group = Arc::new(calls.iter().map(|call| call.entries.clone()).collect());
            if !self
                .insist(shard, &held, (held.epoch, number), &group)
                .await
            {
                held.lose();
                for call in calls {
                    // It may be durable, and then the next owner has it.
                    (call.done)(Err(StoreError::Closed));
                }
                break;
            }
            for call in calls {
                held.apply(shard, call.entries);
                (call.done)(Ok(()));
            }
            if flushed_at.elapsed() >= FLUSH_EVERY {
                flushed_at = Instant::now();
                self.flush(shard, &held).await;
            }
        }
        for call in held.rest() {
            (call.done)(Err(StoreError::NotOpen(shard)));
        }
    }

    /// Appends again and again until it has an answer; false when the shard was lost meanwhile.
    async fn insist(&self, shard: Shard, held: &Held, place: Place, group: &Group) -> bool {
        while held.is_alive() {
            if self.append_once(shard, place, group).await {
                return true;
            }
            sleep(AGAIN).await;
        }
        false
    }

    /// One try to append; true when it is known to be there. The database does not look whose
    /// shard it is.
    async fn append_once(&self, shard: Shard, place: Place, group: &Group) -> bool {
        let (there, back) = self.ways();
        let (answer, answered) = oneshot::channel();
        let (wire, database) = (self.0.wire.clone(), Arc::clone(&self.0.database));
        let (group, reached) = (Arc::clone(group), Arc::clone(&self.0.reached));
        self.0.wire.send(there, Lateness::Often, move || {
            let accepts = held::accepts(&group);
            if database.append(shard, place, &group) == Appended::Void {
                reached.note(Rare::LateAppend);
            }
            let note = Arc::clone(&reached);
            let comes = move || {
                if answer.send(()).is_err() && accepts {
                    note.note(Rare::AcceptAppliedButTimedOut);
                }
            };
            if wire.send(back, Lateness::Seldom, comes).is_none() && accepts {
                reached.note(Rare::AcceptAppliedButTimedOut);
            }
        });
        matches!(timeout(WITHIN, answered).await, Ok(Ok(())))
    }

    /// Whether what is durable under an epoch counts: nobody took the shard before.
    async fn still_counts(&self, shard: Shard, epoch: Epoch) -> Result<(), StoreError> {
        let now = self.ask(
            "read the epoch of a shard",
            Lateness::Seldom,
            move |database| database.epoch(shard),
        );
        match now.await? {
            now if now == epoch => Ok(()),
            _ => Err(StoreError::Closed),
        }
    }

    /// A flush is conditional on the epoch: so a deposed owner finds out.
    async fn flush(&self, shard: Shard, held: &Held) {
        let epoch = self.ask("flush", Lateness::Seldom, move |database| {
            database.epoch(shard)
        });
        if epoch.await.is_ok_and(|epoch| epoch != held.epoch) {
            self.0.reached.note(Rare::FoundOutByFlush);
            held.lose();
        }
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
