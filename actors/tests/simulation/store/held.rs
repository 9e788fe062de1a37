//! A shard that a process holds: its projection, and what waits to be appended.

use std::sync::Arc;

use parking_lot::Mutex;
use zajil_model::id::{Epoch, Shard};
use zajil_storage::{Append, Budgets, Done, Entry, MemoryStore, Store, StoreError, Work};

use crate::database::{Group, Place};

/// One append that was asked for.
pub(super) struct Call {
    pub(super) entries: Vec<Entry>,
    pub(super) done: Done,
}

/// See above.
pub(super) struct Held {
    pub(super) epoch: Epoch,
    pub(super) projection: Arc<MemoryStore>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    calls: Vec<Call>,
    /// Groups that were begun.
    groups: u64,
    writing: bool,
    lost: bool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Held {
    pub(super) fn new(epoch: Epoch, projection: Arc<MemoryStore>) -> Self {
        Self {
            epoch,
            projection,
            waiting: Mutex::default(),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.waiting.lock().lost
    }

    pub(super) fn is_writing(&self) -> bool {
        self.waiting.lock().writing
    }

    /// The shard is not held here any more.
    pub(super) fn lose(&self) {
        self.waiting.lock().lost = true;
    }

    /// Takes a call; true when a writer has to be started.
    pub(super) fn push(&self, call: Call) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.calls.push(call);
        !std::mem::replace(&mut waiting.writing, true)
    }

    /// What is to be written next, with its number; `None` ends the writer.
    pub(super) fn next_group(&self) -> Option<(u64, Vec<Call>)> {
        let mut waiting = self.waiting.lock();
        if waiting.calls.is_empty() || waiting.lost {
            waiting.writing = false;
            return None;
        }
        waiting.groups += 1;
        Some((waiting.groups, std::mem::take(&mut waiting.calls)))
    }

    /// What was never written, once the shard is lost.
    pub(super) fn rest(&self) -> Vec<Call> {
        let mut waiting = self.waiting.lock();
        if !waiting.lost {
            return Vec::new();
        }
        waiting.writing = false;
        std::mem::take(&mut waiting.calls)
    }

    /// What is durable is seen by every read.
    pub(super) fn apply(&self, shard: Shard, entries: Vec<Entry>) {
        apply(&self.projection, shard, self.epoch, entries);
    }

    /// What has work, as long as it is held.
    pub(super) fn work(&self) -> Option<Vec<Work>> {
        let work = self.is_alive().then(|| self.projection.work())?;
        Some(now(work).expect("a projection in memory can be read"))
    }
}

/// Whether something is accepted in a group.
pub(super) fn accepts(group: &Group) -> bool {
    let mut entries = group.iter().flatten();
    entries.any(|entry| matches!(entry, Entry::Accept(_)))
}

/// The projection of a log.
pub(crate) async fn replay(
    shard: Shard,
    epoch: Epoch,
    log: &[(Place, Group)],
    budgets: Budgets,
) -> Result<Arc<MemoryStore>, StoreError> {
    let projection = Arc::new(MemoryStore::with_budgets(budgets));
    projection.open_shard(shard, Some(epoch)).await?;
    for (_, group) in log {
        for entries in group.iter() {
            apply(&projection, shard, epoch, entries.clone());
        }
    }
    Ok(projection)
}

fn apply(projection: &MemoryStore, shard: Shard, epoch: Epoch, entries: Vec<Entry>) {
    let append = Append {
        shard,
        epoch,
        entries,
    };
    let done = |result: Result<(), StoreError>| {
        result.expect("a projection in memory takes what counts");
    };
    projection.append(append, Box::new(done));
}

/// The answer of a store in memory, which never waits.
pub(crate) fn now<T>(answer: impl Future<Output = T>) -> T {
    use futures_util::FutureExt as _;
    let answer = std::pin::pin!(answer);
    answer
        .now_or_never()
        .expect("a store in memory does not wait")
}
