//! The store that all nodes share: linearizable, behind a network that is slow, cut, or loses
//! answers to what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use zajil_cluster::membership::Membership;
use zajil_cluster::{Cas, Member, Rows, RowsError};
use zajil_model::id::{Epoch, MessageId, Shard};
use zajil_model::lease::shard::{Seals, ShardRow};
use zajil_model::lease::{NodeId, NodeRow, NodeState};
use zajil_model::time::{Clock, Timestamp};

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
    clock: SimClock,
    tasks: TaskTracker,
    oracle: Arc<Oracle>,
    seals: bool,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<NodeId, Member>,
    leases: BTreeMap<NodeId, NodeRow>,
    shards: BTreeMap<Shard, ShardRow>,
    logs: BTreeMap<Shard, Log>,
    ways: BTreeMap<NodeId, Way>,
    calm: bool,
}

/// The log of a shard: whoever appends may; what counts is decided by seals.
#[derive(Debug, Default)]
struct Log {
    epoch: Epoch,
    seals: Seals,
    entries: BTreeSet<(Epoch, MessageId)>,
}

impl Log {
    fn valid(&self) -> Vec<(Epoch, MessageId)> {
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

    /// No more faults of its own.
    pub(crate) fn calm(&self) {
        let mut state = self.state.lock();
        state.calm = true;
        state.ways.clear();
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
    async fn at<T: Send + 'static>(
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
        if calm {
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
enum Lateness {
    Seldom = 4,
    /// Appends are plain writes, which servers hand on to each other.
    Often = 30,
}

struct Route {
    there: Option<Duration>,
    back: Option<Duration>,
}

/// The store as one process sees it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) store: Arc<Store>,
    pub(crate) node: NodeId,
    /// For the variant in which gossip decides: whom it does not hear is dead.
    pub(crate) believes: Option<Arc<dyn Membership>>,
}

impl Client {
    async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, RowsError> {
        self.change(doing, |state| (act(state), None)).await
    }

    async fn change<T: Send + 'static>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&mut State) -> (T, Option<Rare>) + Send + 'static,
    ) -> Result<T, RowsError> {
        let answer = self.store.at(self.node, Lateness::Seldom, act).await;
        answer.ok_or_else(|| RowsError::timeout(doing))
    }

    /// Opens the log of a shard in an epoch, reads what counts of the ones before, and seals it.
    pub(crate) async fn open_log(&self, shard: Shard, epoch: Epoch) -> Result<(), RowsError> {
        let fenced = self.ask("open the log", move |state| {
            let log = state.logs.entry(shard).or_default();
            let fenced = epoch < log.epoch;
            log.epoch = log.epoch.max(epoch);
            fenced
        });
        let refused = || RowsError {
            doing: "open the log",
            why: "a later owner was here".to_owned(),
        };
        if fenced.await? {
            return Err(refused());
        }
        let oracle = Arc::clone(&self.store.oracle);
        let tail = self
            .ask("read the log", move |state| {
                state.logs.entry(shard).or_default().valid()
            })
            .await?;
        let seals = self.store.seals;
        let (own, read) = (Arc::clone(&oracle), tail.clone());
        let sealed = self.ask("seal the log", move |state| {
            let log = state.logs.entry(shard).or_default();
            if log.epoch != epoch {
                return false;
            }
            if seals {
                log.seals.seal_below(epoch, read.iter().copied());
            }
            let view = read.iter().filter(|(of, _)| *of < epoch).map(|(_, id)| *id);
            own.read(shard, epoch, &view.collect());
            true
        });
        if sealed.await? {
            Ok(())
        } else {
            Err(refused())
        }
    }

    /// Appends, whoever owns the shard by now. `None`: it may have happened, or will.
    pub(crate) async fn append(&self, shard: Shard, epoch: Epoch, id: MessageId) -> Option<()> {
        let oracle = Arc::clone(&self.store.oracle);
        let append = move |state: &mut State| {
            let log = state.logs.entry(shard).or_default();
            log.entries.insert((epoch, id));
            if log.seals.is_void(epoch, id) {
                oracle.reached(Rare::LateAppend);
            }
            ((), None)
        };
        self.store.at(self.node, Lateness::Often, append).await
    }
}

#[async_trait]
impl Rows for Client {
    async fn read_lease(&self, node: NodeId) -> Result<Option<NodeRow>, RowsError> {
        let row = self
            .ask("read a lease", move |state| {
                state.leases.get(&node).copied()
            })
            .await?;
        let unheard = self
            .believes
            .as_ref()
            .is_some_and(|view| view.peers().get(node).is_none());
        if unheard && node != self.node {
            return Ok(row.map(|row| NodeRow {
                state: NodeState::Dead,
                ..row
            }));
        }
        Ok(row)
    }

    async fn cas_lease(
        &self,
        node: NodeId,
        before: Option<NodeRow>,
        after: NodeRow,
    ) -> Cas<NodeRow> {
        let oracle = Arc::clone(&self.store.oracle);
        let own = node == self.node;
        let change = move |state: &mut State| {
            let current = state.leases.get(&node).copied();
            if current != before {
                return (Err(current), None);
            }
            state.leases.insert(node, after);
            oracle.traced(&("lease", node, after.incarnation, after.sequence));
            if after.state == NodeState::Dead {
                oracle.declared_dead(node);
            }
            (Ok(()), Some(Rare::LostAnswerToRenewal).filter(|_| own))
        };
        match self.change("change a lease", change).await {
            Ok(Ok(())) => Cas::Applied,
            Ok(Err(current)) => {
                if !own {
                    self.store.oracle.reached(Rare::ChallengeRefused);
                }
                Cas::Conflict(current)
            }
            Err(error) => Cas::Unknown(error),
        }
    }

    async fn members(&self) -> Result<Vec<Member>, RowsError> {
        self.ask("read the members", |state| {
            state.members.values().copied().collect()
        })
        .await
    }

    async fn add_member(&self, member: Member) -> Result<(), RowsError> {
        let add = move |state: &mut State| {
            state.members.insert(member.node, member);
        };
        self.ask("add a member", add).await
    }

    async fn shard_rows(&self) -> Result<Vec<(Shard, ShardRow)>, RowsError> {
        let all = |state: &mut State| state.shards.iter().map(|(s, row)| (*s, *row)).collect();
        self.ask("read the shards", all).await
    }

    async fn read_shard(&self, shard: Shard) -> Result<Option<ShardRow>, RowsError> {
        self.ask("read a shard", move |state| {
            state.shards.get(&shard).copied()
        })
        .await
    }

    async fn cas_shard(
        &self,
        shard: Shard,
        before: Option<ShardRow>,
        after: ShardRow,
    ) -> Cas<ShardRow> {
        let oracle = Arc::clone(&self.store.oracle);
        let change = move |state: &mut State| {
            let current = state.shards.get(&shard).copied();
            if current != before {
                return (Err(current), None);
            }
            state.shards.insert(shard, after);
            oracle.row_changed(shard, before, after);
            (Ok(()), Some(Rare::LostAnswerToShard))
        };
        match self.change("change a shard", change).await {
            Ok(Ok(())) => Cas::Applied,
            Ok(Err(current)) => Cas::Conflict(current),
            Err(error) => Cas::Unknown(error),
        }
    }

    async fn clock(&self) -> Result<Timestamp, RowsError> {
        let now = self.store.clock.now();
        self.ask("read the clock", move |_| now).await
    }
}
