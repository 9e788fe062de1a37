//! What runs on shards, in place of the engine: it appends to the log of each shard that is open,
//! one at a time, and "sends" for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::{sleep, timeout};
use zajil_cluster::{Closed, Cluster, HandOver, Ownership, ShardError, Shards};
use zajil_model::id::{Epoch, MessageId, Shard, Tick};
use zajil_model::lease::NodeId;
use zajil_model::time::{Clock, Mono};

use crate::client::Client;
use crate::oracle::{Oracle, ProcessId};
use crate::rare::Rare;

/// How often a worker sends and appends for each shard.
const WORKS_EVERY: Duration = Duration::from_millis(450);

/// How long an append waits for its answer before it is repeated.
const APPEND_WITHIN: Duration = Duration::from_millis(1_500);

/// How long closing a shard waits for its append.
const CLOSE_PATIENCE: u32 = 100;

/// The link between the nodes, by which shards are handed over.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) nodes: Mutex<BTreeMap<NodeId, Cluster>>,
    pub(crate) cut: AtomicBool,
    /// Gives ids for all of them: later ones are higher.
    ticks: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: ProcessId,
    pub(crate) client: Client,
    pub(crate) ownership: Ownership,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) network: Arc<Network>,
    pub(crate) random: Mutex<SmallRng>,
    /// False in the variant in which nobody looks at the lease.
    pub(crate) looks_at_lease: bool,
    pub(crate) trouble: AtomicBool,
    pub(crate) shards: Mutex<BTreeMap<Shard, Open>>,
    pub(crate) opening: Mutex<BTreeMap<Shard, Epoch>>,
    pub(crate) silence: Mutex<Silence>,
}

/// How shards that are given away wait for the answers of their last frames.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// How long answers take.
    pub(crate) answers_take: Duration,
    /// When each shard was silent, and all of it answered.
    answered_at: BTreeMap<Shard, Mono>,
    /// How long one waited for its turn after that, at most.
    pub(crate) longest: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    epoch: Epoch,
    closing: bool,
    appending: bool,
}

impl Worker {
    pub(crate) const fn node(&self) -> NodeId {
        self.client.node
    }

    /// How many shards are open.
    pub(crate) fn serves(&self) -> usize {
        self.shards.lock().len()
    }

    /// What is open, with its epochs.
    pub(crate) fn open_shards(&self) -> BTreeMap<Shard, Epoch> {
        self.shards
            .lock()
            .iter()
            .map(|(shard, open)| (*shard, open.epoch))
            .collect()
    }

    /// The epoch in which this process would send for a shard if it ran now.
    pub(crate) fn can_send(&self, shard: Shard) -> Option<Epoch> {
        let open = *self.shards.lock().get(&shard)?;
        let may = self
            .ownership
            .may_send_for(shard, open.epoch, self.clock.mono());
        (!open.closing && (may || !self.looks_at_lease)).then_some(open.epoch)
    }

    pub(crate) async fn run(&self) {
        let mut appends = FuturesUnordered::<BoxFuture<'_, ()>>::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = appends.next() => {}
                () = sleep(WORKS_EVERY) => {
                    for shard in self.work() {
                        appends.push(Box::pin(self.append(shard)));
                    }
                }
            }
        }
    }

    /// Sends for every shard; answers those that append something.
    fn work(&self) -> Vec<Shard> {
        let shards: Vec<Shard> = self.shards.lock().keys().copied().collect();
        let may = |shard: &Shard| match self.can_send(*shard) {
            Some(epoch) => {
                self.oracle.sends(self.id, *shard, epoch);
                true
            }
            None => false,
        };
        let appends = |shard: &Shard| {
            let mut shards = self.shards.lock();
            let idle = shards.get_mut(shard).filter(|open| !open.appending);
            idle.map(|open| open.appending = true).is_some()
        };
        shards.into_iter().filter(may).filter(appends).collect()
    }

    /// One append; repeated as it was until its outcome is known or the shard is gone.
    async fn append(&self, shard: Shard) {
        let Some(epoch) = self.shards.lock().get(&shard).map(|open| open.epoch) else {
            return;
        };
        let tick = self.network.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        let id = MessageId::give(Tick(tick), shard);
        let is_open = |open: Option<&Open>| open.is_some_and(|open| open.epoch == epoch);
        while is_open(self.shards.lock().get(&shard)) {
            let append = self.client.append(shard, epoch, id);
            if let Ok(Some(())) = timeout(APPEND_WITHIN, append).await {
                // The answer leaves only when the lease was still ours by then.
                let now = self.clock.mono();
                if self.ownership.may_answer_for(shard, epoch, now) || !self.looks_at_lease {
                    self.oracle.acked(shard, id);
                }
                break;
            }
        }
        let mut shards = self.shards.lock();
        if let Some(open) = shards.get_mut(&shard).filter(|open| open.epoch == epoch) {
            open.appending = false;
        }
    }

    fn dice(&self, range: std::ops::Range<u64>) -> u64 {
        self.random.lock().random_range(range)
    }
}

#[async_trait]
impl Shards for Worker {
    fn joined(&self) {}

    async fn open(
        &self,
        shard: Shard,
        epoch: Epoch,
        from: Option<HandOver>,
    ) -> Result<(), ShardError> {
        if from.is_some_and(|from| from.released.next() == epoch) {
            self.oracle.reached(Rare::HandedOver);
        }
        self.opening.lock().insert(shard, epoch);
        let failed = |why: String| {
            self.oracle.reached(Rare::OpenFailed);
            ShardError(why)
        };
        let opened = self.client.open_log(shard, epoch).await;
        opened.map_err(|error| failed(error.to_string()))?;
        let (wait, unlucky) = (self.dice(2..300), self.dice(0..100) < 2);
        sleep(Duration::from_millis(wait)).await;
        if unlucky && self.trouble.load(Ordering::Relaxed) {
            return Err(failed("bad luck".to_owned()));
        }
        if self.opening.lock().remove(&shard) != Some(epoch) {
            self.oracle.reached(Rare::LostWhileOpening);
        }
        // It goes on although it was lost: who asked for it has to say so again.
        let open = Open {
            epoch,
            closing: false,
            appending: false,
        };
        self.shards.lock().insert(shard, open);
        Ok(())
    }

    async fn quiet(&self, shard: Shard, _epoch: Epoch) {
        let now = self.clock.mono();
        let answered_at = {
            let mut silence = self.silence.lock();
            let then = now + silence.answers_take;
            *silence.answered_at.entry(shard).or_insert(then)
        };
        sleep(answered_at.since(now)).await;
    }

    async fn close(
        &self,
        shard: Shard,
        epoch: Epoch,
        _next: Option<NodeId>,
    ) -> Result<Closed, ShardError> {
        {
            let mut silence = self.silence.lock();
            if let Some(answered_at) = silence.answered_at.remove(&shard) {
                let waited = self.clock.mono().since(answered_at);
                silence.longest = silence.longest.max(waited);
            }
        }
        let appending = || {
            let mut shards = self.shards.lock();
            let open = shards.get_mut(&shard).filter(|open| open.epoch == epoch);
            open.is_some_and(|open| {
                open.closing = true;
                open.appending
            })
        };
        for _ in 0..CLOSE_PATIENCE {
            if !appending() {
                self.shards.lock().remove(&shard);
                return Ok(Closed {
                    state: Bytes::from_static(b"pace"),
                });
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(ShardError("an append has no answer".to_owned()))
    }

    async fn lost(&self, shard: Shard, epoch: Epoch) {
        let mut shards = self.shards.lock();
        if shards.get(&shard).is_some_and(|open| open.epoch == epoch) {
            shards.remove(&shard);
        }
        drop(shards);
        self.opening.lock().remove(&shard);
    }

    async fn tell(&self, next: NodeId, shard: Shard, hand_over: HandOver) -> Option<Epoch> {
        sleep(Duration::from_millis(self.dice(1..6))).await;
        let unlucky = self.dice(0..100) < 3 && self.trouble.load(Ordering::Relaxed);
        if unlucky || self.network.cut.load(Ordering::Relaxed) {
            return None;
        }
        let next = self.network.nodes.lock().get(&next).cloned()?;
        next.take(shard, hand_over).await.ok()
    }
}
