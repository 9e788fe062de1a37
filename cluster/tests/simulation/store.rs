//! The store that all nodes share: linearizable, behind a network that is slow, cut, or loses
//! answers to what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use zajil_cluster::Member;
use zajil_model::id::{Epoch, MessageId, Shard};
use zajil_model::lease::shard::{Seals, ShardRow};
use zajil_model::lease::{NodeId, NodeRow};

use crate::clock::SimClock;
use crate::oracle::Oracle;
use crate::rare::Rare;

/// An answer that never comes is dropped after this, so that the run can end.
const NEVER: Duration = Duration::from_secs(30);

/// How a node reaches the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    #[default]
    Open,
    /// Requests are lost.
    Cut,
    /// Requests arrive, answers are lost.
    Deaf,
    /// Seconds late, both ways.
    Slow,
}

#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
    random: Mutex<SmallRng>,
    pub(crate) clock: SimClock,
    tasks: TaskTracker,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) seals: bool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) members: BTreeMap<NodeId, Member>,
    pub(crate) leases: BTreeMap<NodeId, NodeRow>,
    pub(crate) shards: BTreeMap<Shard, ShardRow>,
    pub(crate) logs: BTreeMap<Shard, Log>,
    ways: BTreeMap<NodeId, Way>,
    calm: bool,
}

/// The log of a shard: whoever appends may; what counts is decided by seals.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) epoch: Epoch,
    pub(crate) seals: Seals,
    pub(crate) entries: BTreeSet<(Epoch, MessageId)>,
}

impl Log {
    pub(crate) fn valid(&self) -> Vec<(Epoch, MessageId)> {
        let valid = |entry: &&(Epoch, MessageId)| !self.seals.is_void(entry.0, entry.1);
        self.entries.iter().filter(valid).copied().collect()
    }
}

impl Store {
    pub(crate) fn new(seed: u64, clock: SimClock, oracle: Arc<Oracle>, seals: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
            clock,
            tasks: TaskTracker::new(),
            oracle,
            seals,
        })
    }

    pub(crate) fn way(&self, node: NodeId, way: Way) {
        self.state.lock().ways.insert(node, way);
    }

    /// No more faults of its own, and every node reaches it.
    pub(crate) fn calm(&self) {
        let mut state = self.state.lock();
        state.calm = true;
        state.ways.clear();
    }

    /// The rows of all shards.
    pub(crate) fn shards(&self) -> BTreeMap<Shard, ShardRow> {
        self.state.lock().shards.clone()
    }

    /// Compares what counts now with what each owner read.
    pub(crate) fn compare(&self) {
        let logs: Vec<_> = {
            let state = self.state.lock();
            state
                .logs
                .iter()
                .map(|(shard, log)| (*shard, log.valid()))
                .collect()
        };
        for (shard, valid) in logs {
            self.oracle.compare(shard, &valid);
        }
    }

    pub(crate) fn lease(&self, node: NodeId) -> Option<NodeRow> {
        self.state.lock().leases.get(&node).copied()
    }

    /// Does something at the store, on behalf of a node; `None` when no answer comes. What is done
    /// says what it means when its answer is lost.
    pub(crate) async fn at<T: Send + 'static>(
        self: &Arc<Self>,
        node: NodeId,
        late: Lateness,
        act: impl FnOnce(&mut State) -> (T, Option<Rare>) + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let route = self.route(node, late);
        let store = Arc::clone(self);
        self.tasks.spawn(async move {
            let Some(there) = route.there else {
                sleep(NEVER).await;
                return;
            };
            sleep(there).await;
            let (result, if_lost) = act(&mut store.state.lock());
            sleep(route.back.unwrap_or(NEVER)).await;
            let came = route.back.is_some() && answer.send(result).is_ok();
            if let Some(rare) = if_lost.filter(|_| !came) {
                store.oracle.reached(rare);
            }
        });
        answered.await.ok()
    }

    fn route(&self, node: NodeId, late: Lateness) -> Route {
        let (way, calm) = {
            let state = self.state.lock();
            (
                state.ways.get(&node).copied().unwrap_or_default(),
                state.calm,
            )
        };
        let mut random = self.random.lock();
        let mut quick = || Duration::from_millis(random.random_range(1..8));
        let (there, back) = (quick(), quick());
        if calm && way == Way::Open {
            return Route {
                there: Some(there),
                back: Some(back),
            };
        }
        let mut chance = |per_mille: u32| random.random_range(0..1_000) < per_mille;
        let (lost, deaf, crawls) = (chance(3), chance(6), chance(late as u32));
        let long = Duration::from_millis(random.random_range(1_000..20_000));
        let slow = Duration::from_millis(random.random_range(300..3_000));
        match way {
            Way::Cut => Route {
                there: None,
                back: None,
            },
            Way::Deaf => Route {
                there: Some(there),
                back: None,
            },
            Way::Slow => Route {
                there: Some(slow),
                back: Some(slow / 2),
            },
            Way::Open if lost => Route {
                there: None,
                back: None,
            },
            Way::Open if crawls => Route {
                there: Some(long),
                back: Some(back),
            },
            Way::Open => Route {
                there: Some(there),
                back: (!deaf).then_some(back),
            },
        }
    }
}

/// How many of a thousand requests of a kind wait somewhere for seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lateness {
    Seldom = 4,
    /// Appends are plain writes, which servers hand on to each other.
    Often = 30,
}

struct Route {
    there: Option<Duration>,
    back: Option<Duration>,
}
