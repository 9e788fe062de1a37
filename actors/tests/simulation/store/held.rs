//! A shard that a process holds: its projection, the places of its log, and what waits to be appended.

use std::sync::Arc;

use parking_lot::Mutex;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, Shard, Tick};
use zajil_model::message::Queue;
use zajil_storage::cql::LogClock;
use zajil_storage::{
    Append, Budgets, Cursor, Done, Entry, MemoryStore, RowWrite, StatusChange, Store, StoreError,
    Work,
};

use super::places::Places;
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
    pub(super) log: LogClock,
    places: Mutex<Places>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    calls: Vec<Call>,
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
    pub(super) fn new(epoch: Epoch, log: LogClock, replayed: Replayed) -> Self {
        Self {
            epoch,
            log,
            projection: replayed.projection,
            places: Mutex::new(replayed.places),
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

    /// What is to be written next; `None` ends the writer.
    pub(super) fn next_group(&self) -> Option<Vec<Call>> {
        let mut waiting = self.waiting.lock();
        if waiting.calls.is_empty() || waiting.lost {
            waiting.writing = false;
            return None;
        }
        Some(std::mem::take(&mut waiting.calls))
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

    /// What is durable is seen by every read; it was written at this place.
    pub(super) fn apply(&self, shard: Shard, place: u64, entries: Vec<Entry>) {
        let mut places = self.places.lock();
        places.begin(place, &self.projection);
        apply(&self.projection, shard, self.epoch, entries);
    }

    /// Whether there are changes of an account.
    pub(super) fn tells(&self, account: AccountId) -> bool {
        let first = now(self.projection.changes(account, None, 1));
        first.is_ok_and(|page| !page.changes.is_empty())
    }

    /// Changes of an account from a place of the log on.
    pub(super) fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, StatusChange)>, StoreError> {
        let places = self.places.lock();
        let after = after.map(|after| places.record(after));
        let page = now(self.projection.changes(account, after, limit))?;
        let placed = page.changes.into_iter();
        Ok(placed.map(|(at, it)| (places.place(at), it)).collect())
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

/// The rows that a group brings.
pub(super) fn rows(group: &Group) -> Vec<RowWrite> {
    let entries = group.iter().flatten();
    let rows = entries.filter_map(|entry| match entry {
        Entry::Rows(rows) => Some(rows.as_slice()),
        _ => None,
    });
    rows.flatten().cloned().collect()
}

/// The parts of campaigns that a group adds rows to.
pub(crate) fn parts(group: &Group) -> impl Iterator<Item = (BatchId, InstanceId)> {
    group.iter().flatten().filter_map(|entry| match entry {
        Entry::Accept(chunk) => match chunk.queue {
            Queue::Part(batch) => Some((batch, chunk.instance)),
            Queue::High | Queue::Normal => None,
        },
        _ => None,
    })
}

/// What a log comes to.
pub(crate) struct Replayed {
    pub(crate) projection: Arc<MemoryStore>,
    places: Places,
}

/// The projection of a log.
pub(crate) async fn replay(
    shard: Shard,
    epoch: Epoch,
    log: &[(Place, Group)],
    budgets: Budgets,
) -> Result<Replayed, StoreError> {
    let projection = Arc::new(MemoryStore::with_budgets(budgets));
    projection.open_shard(shard, Some(epoch)).await?;
    let mut places = Places::default();
    for ((_, first), group) in log {
        for (tick, entries) in (*first..).zip(group.iter()) {
            places.begin(Tick(tick).id(shard), &projection);
            apply(&projection, shard, epoch, entries.clone());
        }
    }
    Ok(Replayed { projection, places })
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
