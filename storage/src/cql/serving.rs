//! The shards that are held here: opened, asked, closed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zajil_model::id::{Epoch, Shard};

use super::alive::Alive;
use super::merge::{self, Ask, Merge};
use super::shard::{Open, ShardProjection, time_to_live};
use super::writer::{self, CALLS_WAITING, Job};
use super::{GATES, Serving, Shared, view};
use crate::codec;
use crate::{
    Append, ListPage, ListRequest, ShardOpened, StoreError, Totals, TotalsFilter, metrics,
};

/// Bytes of appends that may wait in all shards together.
const BYTES_WAITING: usize = 64 << 20;

/// How long a question to a projection may take before its asker is told so.
const QUESTION: Duration = Duration::from_secs(10);

/// A shard that is being opened or closed: found by whoever drops it.
struct Changing<'a> {
    shared: &'a Shared,
    key: Option<(Shard, Epoch)>,
    alive: Arc<Alive>,
}

impl<'a> Changing<'a> {
    fn new(shared: &'a Shared, shard: Shard, epoch: Option<Epoch>, alive: Arc<Alive>) -> Self {
        let key = epoch.map(|epoch| (shard, epoch));
        if let Some(key) = key {
            shared.changing.lock().insert(key, Arc::clone(&alive));
        }
        Self { shared, key, alive }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut changing = self.shared.changing.lock();
        // Another one may have begun with the same shard.
        if changing
            .get(&key)
            .is_some_and(|alive| Arc::ptr_eq(alive, &self.alive))
        {
            changing.remove(&key);
        }
    }
}

impl Shared {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(())
    }

    /// A shard that is served here.
    pub(super) fn serving(&self, shard: Shard) -> Result<Serving, StoreError> {
        self.check()?;
        let found = self.shards.read().get(&shard).cloned();
        found.ok_or(StoreError::NotOpen(shard))
    }

    /// The same, if it is under this epoch.
    pub(super) fn under(&self, shard: Shard, ours: Epoch) -> Result<Serving, StoreError> {
        let serving = self.serving(shard)?;
        if serving.open.epoch != ours {
            let current = serving.open.epoch;
            return Err(StoreError::Fenced {
                shard,
                ours,
                current,
            });
        }
        serving.open.ground.alive.check()?;
        Ok(serving)
    }

    fn gate(&self, shard: Shard) -> &tokio::sync::Mutex<()> {
        &self.gates[usize::from(shard.number()) % GATES]
    }

    pub(super) async fn open_shard(
        self: Arc<Self>,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<ShardOpened, StoreError> {
        self.check()?;
        let changing = Changing::new(&self, shard, epoch, Arc::default());
        let _one_at_a_time = self.gate(shard).lock().await;
        if let Ok(serving) = self.serving(shard) {
            let current = serving.open.epoch;
            let is_alive = serving.open.ground.alive.check().is_ok();
            match epoch {
                None if is_alive => return Ok(serving.open.opened()),
                Some(ours) if ours <= current => {
                    return Err(StoreError::Fenced {
                        shard,
                        ours,
                        current,
                    });
                }
                _ => serving.open.ground.alive.lose(StoreError::NotOpen(shard)),
            }
            self.shards.write().remove(&shard);
        }
        let (open, opened) = Open::take(&self.means, shard, epoch, changing.alive.clone()).await?;
        let (sender, jobs) = mpsc::channel(CALLS_WAITING);
        let open = Arc::new(open);
        let ttl = time_to_live(self.config.retention);
        let handle = self.means.handle.clone();
        handle.spawn(writer::run(Arc::clone(&open), ttl, jobs));
        let jobs = sender;
        self.shards.write().insert(shard, Serving { open, jobs });
        metrics::cql_shards(self.shards.read().len());
        // Should the store have been closed meanwhile, nobody would close this shard; nor should it
        // be here when it was dropped.
        if let Err(error) = self.check().and_then(|()| changing.alive.check()) {
            self.shards.write().remove(&shard);
            return Err(error);
        }
        Ok(opened)
    }

    pub(super) async fn close_shard(
        self: Arc<Self>,
        shard: Shard,
        epoch: Epoch,
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.gate(shard).lock().await;
        let serving = match self.shards.read().get(&shard) {
            Some(serving) if serving.open.epoch == epoch => serving.clone(),
            _ => return Ok(()),
        };
        let alive = Arc::clone(&serving.open.ground.alive);
        let _changing = Changing::new(&self, shard, Some(epoch), alive);
        self.shards.write().remove(&shard);
        metrics::cql_shards(self.shards.read().len());
        self.end(serving).await
    }

    /// Ends what is held under an epoch, and whoever opens or closes it.
    pub(super) fn drop_shard(&self, shard: Shard, epoch: Epoch) {
        let lost = StoreError::NotOpen(shard);
        let changing = self.changing.lock().get(&(shard, epoch)).cloned();
        if let Some(alive) = changing {
            alive.lose(lost.clone());
        }
        let mut shards = self.shards.write();
        let is_it = |held: &Serving| held.open.epoch == epoch;
        if let Some(held) = shards.get(&shard).filter(|held| is_it(held)) {
            held.open.ground.alive.lose(lost);
            shards.remove(&shard);
            metrics::cql_shards(shards.len());
        }
    }

    /// Finishes what waits for a shard, and lets it go.
    async fn end(&self, serving: Serving) -> Result<(), StoreError> {
        let Serving { open, jobs } = serving;
        let (told, ended) = oneshot::channel();
        if jobs.send(Job::End(told)).await.is_ok() {
            // A writer that lost the shard answers nothing.
            ended.await.ok();
        }
        let finished = Open::release(&open).await;
        let shard = open.ground.shard;
        open.ground.alive.lose(StoreError::NotOpen(shard));
        finished
    }

    pub(super) async fn close(self: Arc<Self>) -> Result<(), StoreError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let shards: Vec<Serving> = self.shards.write().drain().map(|(_, one)| one).collect();
        let mut first = Ok(());
        let mut closing = tokio::task::JoinSet::new();
        for serving in shards {
            let shared = Arc::clone(&self);
            closing.spawn(async move { shared.end(serving).await });
        }
        while let Some(ended) = closing.join_next().await {
            first = first.and(ended.unwrap_or(Err(StoreError::Closed)));
        }
        first
    }

    /// The records of an append, on their way.
    pub(super) fn take(
        &self,
        append: Append,
    ) -> Result<(Serving, Vec<codec::Encoded>), StoreError> {
        let serving = self.under(append.shard, append.epoch)?;
        if self.waiting.load(Ordering::Acquire) > BYTES_WAITING {
            return Err(StoreError::Overloaded);
        }
        Ok((serving, codec::encode(append.entries)?))
    }

    /// Asks a shard that is held here, or else a view of it.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        shard: Shard,
        question: impl FnOnce(&ShardProjection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let projection = match self.serving(shard) {
            Ok(serving) if serving.open.ground.alive.check().is_ok() => {
                Arc::clone(&serving.open.projection)
            }
            Err(StoreError::NotOpen(_)) | Ok(_) => view::view(self, shard).await?,
            Err(error) => return Err(error),
        };
        self.question(projection, question).await
    }

    /// Asks a shard that is held here.
    pub(super) async fn own<T: Send + 'static>(
        &self,
        shard: Shard,
        question: impl FnOnce(&ShardProjection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let open = self.serving(shard)?.open;
        open.ground.alive.check()?;
        self.question(Arc::clone(&open.projection), question).await
    }

    /// Asks a projection, on a thread that may wait.
    pub(super) async fn question<T: Send + 'static>(
        &self,
        projection: Arc<ShardProjection>,
        question: impl FnOnce(&ShardProjection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let handle = &self.means.handle;
        let asked = handle.spawn_blocking(move || question(&projection));
        match tokio::time::timeout(QUESTION, asked).await {
            Ok(answer) => answer.unwrap_or(Err(StoreError::Closed)),
            Err(_) => Err(StoreError::Io {
                operation: "read a projection",
                reason: "the database does not answer".to_owned(),
            }),
        }
    }

    pub(super) async fn totals(
        self: Arc<Self>,
        filter: TotalsFilter,
    ) -> Result<Totals, StoreError> {
        let mut parts = Vec::new();
        for (shard, instances) in merge::by_shard(&filter.instances) {
            let part = TotalsFilter {
                instances,
                ..filter.clone()
            };
            parts.push(self.read(shard, move |p| p.totals(&part)).await?);
        }
        Ok(merge::totals(&filter, parts))
    }

    pub(super) async fn list(
        self: Arc<Self>,
        request: ListRequest,
    ) -> Result<ListPage, StoreError> {
        let shards = merge::by_shard(&request.filter.instances);
        if let (1, Some(shard)) = (shards.len(), shards.keys().next()) {
            return self.read(*shard, move |p| p.list(&request)).await;
        }
        let (mut merge, mut asks) = Merge::new(request);
        loop {
            for Ask { shard, request } in asks {
                let page = self.read(shard, move |p| p.list(&request)).await?;
                merge.answered(shard, page);
            }
            match merge.go_on() {
                Some(ask) => asks = vec![ask],
                None => return Ok(merge.page()),
            }
        }
    }
}
