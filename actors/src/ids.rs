//! Where ids come from: one hybrid clock per shard, below a ceiling that is durable.
//!
//! A shard is opened in the store the first time it is asked for an id, or, where several nodes
//! share a store, by whoever won it. [`ShardClocks::take`] never waits: it answers `None` when the shard is not open or its ceiling is in the way, and
//! [`ShardClocks::ensure`] mends that. The ceiling is raised in the background long before it is
//! reached, so that under load nobody waits for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use zajil_model::id::{
    AccountId, BatchId, ContactId, Epoch, InstanceId, KeyId, SHARDS, Shard, ShardClock,
    TICKS_PER_BUCKET, TemplateId, Tick, UserId,
};
use zajil_model::promise::Standing;
use zajil_model::time::{Clock, Timestamp};
use zajil_storage::{Store, StoreError};

use crate::owners::questions::AskPromise;

/// How far ahead of need a ceiling is moved: a minute of ids, so that a busy shard writes once a
/// minute and a restart after a crash skips at most a minute.
const CEILING_AHEAD: Duration = Duration::from_secs(60);

/// A ceiling nearer than this is raised in the background.
const CEILING_NEAR: Duration = Duration::from_secs(20);

/// How often [`ShardClocks::ensure`] looks again when others used up what it raised.
const ENSURE_ROUNDS: usize = 8;

/// The shard whose clock gives the ids of rows (accounts, contacts, batches …) on a node alone. One
/// clock keeps them in the order in which they were made.
const ROWS_SHARD: u16 = 0;

/// Who opens shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The first who asks for an id: a node alone owns every shard.
    OnDemand,
    /// Who won the ownership; everybody else is told that the shard is not open.
    ByOwner,
}

/// The clocks of all shards of this node.
pub struct ShardClocks {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    opening: Opening,
    slots: Box<[Slot]>,
}

#[derive(Default)]
struct Slot {
    open: Mutex<Option<Open>>,
    /// Held while the store is asked, so that it is asked once.
    asking: tokio::sync::Mutex<()>,
}

struct Open {
    epoch: Epoch,
    clock: ShardClock,
    raising: bool,
}

impl fmt::Debug for ShardClocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self
            .slots
            .iter()
            .filter(|slot| slot.open.lock().is_some())
            .count();
        f.debug_struct("ShardClocks")
            .field("open", &open)
            .finish_non_exhaustive()
    }
}

impl ShardClocks {
    /// Clocks over a store; background raises run on `tracker`.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        tracker: TaskTracker,
        opening: Opening,
    ) -> Arc<Self> {
        let slots = (0..SHARDS).map(|_| Slot::default()).collect();
        Arc::new(Self {
            store,
            clock,
            tracker,
            opening,
            slots,
        })
    }

    /// Opens a shard under the epoch of an ownership that was won.
    ///
    /// # Errors
    /// What the store answers; `Fenced` when a later owner opened it.
    pub async fn open(&self, shard: Shard, epoch: Epoch) -> Result<(), StoreError> {
        let slot = self.slot(shard);
        let _asking = slot.asking.lock().await;
        self.open_slot(slot, shard, Some(epoch)).await
    }

    /// Gives no ids of a shard any more, once who asks the store for it has its answer.
    pub async fn close(&self, shard: Shard) {
        let _asking = self.slot(shard).asking.lock().await;
        self.lose(shard);
    }

    /// Gives no ids of a shard any more, at once. Should somebody be about to open it, it has to be
    /// lost again after that.
    pub fn lose(&self, shard: Shard) {
        *self.slot(shard).open.lock() = None;
    }

    /// The shard that gives the ids of rows on this node.
    fn of_rows(&self) -> Result<Shard, StoreError> {
        let fixed = Shard::new(ROWS_SHARD).expect("the shard of rows is below 1,024");
        if self.opening == Opening::OnDemand {
            return Ok(fixed);
        }
        let is_open = |shard: &Shard| self.slot(*shard).open.lock().is_some();
        Shard::all().find(is_open).ok_or(StoreError::NotOpen(fixed))
    }

    /// The first of `n` ticks in a row, with the epoch they belong to, without waiting; `None` when
    /// [`ensure`](Self::ensure) has to be called first.
    pub fn take(self: &Arc<Self>, shard: Shard, n: u64, now: Timestamp) -> Option<(Tick, Epoch)> {
        let mut slot = self.slot(shard).open.lock();
        let open = slot.as_mut()?;
        let (first, epoch) = (open.clock.take(n, now)?, open.epoch);
        let near = Tick::at(open.clock.last().time().max(now) + CEILING_NEAR);
        if near > open.clock.ceiling() && !open.raising {
            open.raising = true;
            let clocks = Arc::clone(self);
            self.tracker.spawn(async move {
                if let Err(error) = clocks.raise(shard, 1).await {
                    tracing::warn!(%shard, %error, "cannot raise the ceiling of ids");
                }
                if let Some(open) = clocks.slot(shard).open.lock().as_mut() {
                    open.raising = false;
                }
            });
        }
        Some((first, epoch))
    }

    /// The epoch under which this node holds a shard; `None` before it was opened.
    pub fn epoch(&self, shard: Shard) -> Option<Epoch> {
        self.slot(shard).open.lock().as_ref().map(|open| open.epoch)
    }

    /// What may still become of ids that were given ahead.
    pub fn standing(&self, asked: AskPromise) -> Standing {
        self.standing_in(&self.slot(asked.first.giver()).open.lock(), asked)
    }

    /// Begins something under ids that were given ahead, if they may be used. It is begun before
    /// anybody hears that they may not.
    ///
    /// # Errors
    /// Why they may not be used; nothing was begun.
    pub fn begin_under<T>(
        &self,
        given: AskPromise,
        begin: impl FnOnce() -> T,
    ) -> Result<T, Standing> {
        let open = self.slot(given.first.giver()).open.lock();
        match self.standing_in(&open, given) {
            Standing::Open => Ok(begin()),
            standing => Err(standing),
        }
    }

    fn standing_in(&self, open: &Option<Open>, asked: AskPromise) -> Standing {
        let held = open.as_ref().map(|open| open.epoch);
        // Read by who holds the lock: so what is over here is over for all who hold it later.
        Standing::of(asked.epoch, asked.given_at, held, self.clock.mono())
    }

    /// Opens the shard if it is not, and raises its ceiling so that `n` ticks may be taken.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn ensure(&self, shard: Shard, n: u64) -> Result<Epoch, StoreError> {
        if n > TICKS_PER_BUCKET {
            return Err(StoreError::Invalid("more ids at once than a bucket holds"));
        }
        if let Some(epoch) = self.fits(shard, n) {
            return Ok(epoch);
        }
        self.raise(shard, n).await
    }

    /// Takes `n` ticks in a row, opening or raising as needed, with the epoch they belong to.
    ///
    /// # Errors
    /// What the store answers; `Overloaded` when others took everything again and again.
    pub async fn give(self: &Arc<Self>, shard: Shard, n: u64) -> Result<(Tick, Epoch), StoreError> {
        for _ in 0..ENSURE_ROUNDS {
            self.ensure(shard, n).await?;
            if let Some(taken) = self.take(shard, n, self.clock.now()) {
                return Ok(taken);
            }
        }
        Err(StoreError::Overloaded)
    }

    fn slot(&self, shard: Shard) -> &Slot {
        &self.slots[usize::from(shard.number())]
    }

    /// The epoch, when `n` ticks may be taken now.
    fn fits(&self, shard: Shard, n: u64) -> Option<Epoch> {
        let slot = self.slot(shard).open.lock();
        let open = slot.as_ref()?;
        let mut trial = open.clock;
        trial.take(n, self.clock.now()).map(|_| open.epoch)
    }

    async fn open_slot(
        &self,
        slot: &Slot,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<(), StoreError> {
        let opened = self.store.open_shard(shard, epoch).await?;
        *slot.open.lock() = Some(Open {
            epoch: opened.epoch,
            clock: ShardClock::new(opened.last, opened.ceiling),
            raising: false,
        });
        Ok(())
    }

    async fn raise(&self, shard: Shard, n: u64) -> Result<Epoch, StoreError> {
        let slot = self.slot(shard);
        let _asking = slot.asking.lock().await;
        if slot.open.lock().is_none() {
            if self.opening == Opening::ByOwner {
                return Err(StoreError::NotOpen(shard));
            }
            self.open_slot(slot, shard, None).await?;
        }
        let (epoch, last, ceiling) = {
            let open = slot.open.lock();
            // It may be lost meanwhile.
            let open = open.as_ref().ok_or(StoreError::NotOpen(shard))?;
            (open.epoch, open.clock.last(), open.clock.ceiling())
        };
        let from = last.time().max(self.clock.now());
        let bucket_end = Tick((Tick::at(from).0 / TICKS_PER_BUCKET + 1) * TICKS_PER_BUCKET);
        let needed = Tick(Tick::at(from).0 + n + 1);
        // A run of ids that does not fit into this bucket begins with the next one.
        let needed = if needed > bucket_end {
            Tick(bucket_end.0 + n)
        } else {
            needed
        };
        let wanted = Tick::at(needed.time() + CEILING_AHEAD);
        if ceiling < wanted {
            let ceiling = self.store.raise_ceiling(shard, epoch, wanted).await?;
            if let Some(open) = slot.open.lock().as_mut() {
                open.clock.raise(ceiling);
            }
        }
        Ok(epoch)
    }
}

/// An id of a row that [`Ids`] gives.
pub trait RowId: Sized {
    /// The id that a tick makes on a shard.
    fn of_tick(tick: Tick, shard: Shard) -> Self;
}

impl RowId for AccountId {
    fn of_tick(tick: Tick, shard: Shard) -> Self {
        Self::give(tick, shard)
    }
}

impl RowId for UserId {
    fn of_tick(tick: Tick, shard: Shard) -> Self {
        Self::give(tick, shard)
    }
}

impl RowId for InstanceId {
    fn of_tick(tick: Tick, shard: Shard) -> Self {
        Self::give(tick, shard)
    }
}

impl RowId for ContactId {
    fn of_tick(tick: Tick, shard: Shard) -> Self {
        Self::give(tick, shard)
    }
}

impl RowId for TemplateId {
    fn of_tick(tick: Tick, shard: Shard) -> Self {
        Self::give(tick, shard)
    }
}

impl RowId for BatchId {
    fn of_tick(tick: Tick, shard: Shard) -> Self {
        Self::give(tick, shard)
    }
}

impl RowId for KeyId {
    fn of_tick(tick: Tick, shard: Shard) -> Self {
        Self::give(tick, shard)
    }
}

/// Gives ids to rows: never one twice, not even after a crash.
#[derive(Clone, Debug)]
pub struct Ids {
    clocks: Arc<ShardClocks>,
}

impl Ids {
    /// Ids from the clock that all rows of this node share.
    pub const fn new(clocks: Arc<ShardClocks>) -> Self {
        Self { clocks }
    }

    /// The next id.
    ///
    /// # Errors
    /// What the store answers when the shard must be opened or its ceiling raised.
    pub async fn give<T: RowId>(&self) -> Result<T, StoreError> {
        let shard = self.clocks.of_rows()?;
        let (tick, _) = self.clocks.give(shard, 1).await?;
        Ok(T::of_tick(tick, shard))
    }
}
