//! A few nodes of one cluster: the real shells of this crate, over a fake store, fake gossip and
//! clocks of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_cluster::membership::fake::FakeGossip;
use zajil_cluster::membership::{Membership, Peer, Protocols};
use zajil_cluster::{Cluster, Config, Ended, Ownership, Past, Place, Ports, Renewals};
use zajil_model::id::Shard;
use zajil_model::lease::{Incarnation, NodeId, NodeState, Standing};

use crate::client::Client;
use crate::clock::SimClock;
use crate::oracle::{Oracle, ProcessId};
use crate::pause::{Pausable, Switch};
use crate::rare::Rare;
use crate::store::Store;
use crate::worker::{Network, Worker};

/// Few enough for thousands of runs, and enough to be uneven.
pub(crate) const SHARDS: u16 = 11;

/// What is taken away, to see that the checks notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Nothing.
    #[default]
    Whole,
    /// A node takes what belongs to one that gossip does not hear.
    GossipDecides,
    /// Nobody seals the log of the owner before.
    NoSeal,
    /// Nobody looks at the lease before a frame.
    NoLeaseCheck,
    /// The clocks run at very different speeds.
    WildClocks,
}

/// A process, and how to do it harm.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) id: ProcessId,
    pub(crate) node: NodeId,
    pub(crate) cluster: Cluster,
    pub(crate) worker: Arc<Worker>,
    pub(crate) switch: Arc<Switch>,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) kill: CancellationToken,
    pub(crate) over: Arc<AtomicBool>,
    folder: Arc<Folder>,
    /// The life in which it was seen suspended.
    suspended: Arc<Mutex<Option<Incarnation>>>,
}

impl Process {
    pub(crate) fn runs(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

/// A data folder.
#[derive(Debug, Default)]
pub(crate) struct Folder(Mutex<Option<Incarnation>>);

impl Past for Folder {
    fn previous(&self) -> Option<Incarnation> {
        *self.0.lock()
    }

    fn remember(&self, incarnation: Incarnation) -> io::Result<()> {
        *self.0.lock() = Some(incarnation);
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) variant: Variant,
    pub(crate) random: SmallRng,
    pub(crate) zero: Instant,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) store: Arc<Store>,
    pub(crate) gossip: Arc<FakeGossip>,
    pub(crate) network: Arc<Network>,
    pub(crate) tasks: TaskTracker,
    pub(crate) folders: BTreeMap<NodeId, Arc<Folder>>,
    /// The process of each node, the last one where it has ended.
    pub(crate) nodes: BTreeMap<NodeId, Process>,
    started: u32,
}

impl World {
    pub(crate) fn new(seed: u64, variant: Variant) -> Self {
        let zero = Instant::now();
        let oracle = Oracle::new(zero);
        let mut random = SmallRng::seed_from_u64(seed);
        let (seals, clock) = (variant != Variant::NoSeal, SimClock::new(zero, 1_000));
        let store = Store::new(random.random(), clock, oracle.clone(), seals);
        Self {
            variant,
            random,
            zero,
            oracle,
            store,
            gossip: FakeGossip::new(),
            network: Arc::default(),
            tasks: TaskTracker::new(),
            folders: BTreeMap::new(),
            nodes: BTreeMap::new(),
            started: 0,
        }
    }

    /// Starts the process of a node, in its own data folder.
    pub(crate) fn start(&mut self, node: NodeId) {
        let folder = self.folders.entry(node).or_default().clone();
        let lease = self
            .store
            .lease(node)
            .filter(|row| row.state != NodeState::Dead);
        if lease.is_some() && lease.map(|row| row.incarnation) == folder.previous() {
            self.oracle.reached(Rare::QuickRestart);
        }
        let membership = self.gossip.join(peer(node, u64::from(self.started)));
        let process = self.process(node, folder, membership);
        self.network
            .nodes
            .lock()
            .insert(node, process.cluster.clone());
        self.nodes.insert(node, process);
    }

    /// Starts a process by the name of a node, from a copy of its data folder.
    pub(crate) fn start_twin(&mut self, node: NodeId) -> Process {
        let elsewhere = FakeGossip::new().join(peer(node, u64::from(self.started)));
        self.process(node, Arc::default(), elsewhere)
    }

    fn process(
        &mut self,
        node: NodeId,
        folder: Arc<Folder>,
        membership: Arc<dyn Membership>,
    ) -> Process {
        self.started += 1;
        let id = ProcessId(self.started);
        let speed = match self.variant {
            Variant::WildClocks => self.random.random_range(700..=1_400),
            _ => self.random.random_range(996..=1_004),
        };
        let clock = Arc::new(SimClock::new(self.zero, speed));
        let ownership = Ownership::shared(node);
        let believes = (self.variant == Variant::GossipDecides).then(|| membership.clone());
        let client = |believes| Client {
            store: self.store.clone(),
            node,
            believes,
        };
        let worker = Arc::new(Worker {
            id,
            client: client(None),
            ownership: ownership.clone(),
            clock: clock.clone(),
            oracle: self.oracle.clone(),
            network: self.network.clone(),
            random: Mutex::new(SmallRng::seed_from_u64(self.random.random())),
            looks_at_lease: self.variant != Variant::NoLeaseCheck,
            trouble: AtomicBool::new(true),
            shards: Mutex::default(),
            opening: Mutex::default(),
            silence: Mutex::default(),
        });
        let ports = Ports {
            rows: Arc::new(client(believes)),
            shards: worker.clone(),
            membership,
            clock: clock.clone(),
            past: folder.clone(),
            ownership,
        };
        let config = Config {
            shards: SHARDS,
            renewals: Renewals::Here,
            ..Config::new(node, ([127, 0, 0, 1], 7_000).into(), None)
        };
        let process = Process {
            id,
            node,
            cluster: Cluster::new(ports, config),
            worker,
            switch: Arc::default(),
            clock,
            kill: CancellationToken::new(),
            over: Arc::default(),
            folder,
            suspended: Arc::default(),
        };
        self.run(process.clone());
        process
    }

    fn run(&self, process: Process) {
        let oracle = self.oracle.clone();
        oracle.begins(process.id, process.worker.clone());
        let (cluster, worker) = (process.cluster.clone(), process.worker.clone());
        let runs = async move {
            tokio::select! {
                biased;
                () = cluster.run() => {}
                () = worker.run() => {}
            }
        };
        let runs = Pausable {
            process: Box::pin(runs),
            switch: process.switch.clone(),
        };
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = process.kill.cancelled() => {}
                () = runs => note_end(&process, &oracle).await,
            }
            process.over.store(true, Ordering::Relaxed);
            oracle.ends(process.id);
        });
    }

    /// Looks at what the processes say of themselves.
    pub(crate) fn sample(&self) {
        for process in self.nodes.values().filter(|process| process.runs()) {
            let status = process.cluster.status();
            let mut suspended = process.suspended.lock();
            match status.standing {
                Standing::Suspended => *suspended = status.incarnation,
                Standing::Active if suspended.is_some() && *suspended == status.incarnation => {
                    self.oracle.reached(Rare::SuspendedAndBack);
                    *suspended = None;
                }
                Standing::Active | Standing::Fenced => {}
            }
            if status.shards.held_back > 0 {
                self.oracle.reached(Rare::MassGuard);
            }
            let off = status.not_ready.iter().any(|why| why.contains("clock"));
            if off && process.worker.serves() == 0 && !status.draining {
                self.oracle.reached(Rare::ClockOff);
            }
        }
    }

    /// Why it is not as it should be when nothing is wrong any more; `None` when it is.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let mut owned = BTreeMap::<NodeId, usize>::new();
        for shard in Shard::all().take(usize::from(SHARDS)) {
            let here = |process: &&Process| {
                matches!(process.cluster.ownership().place(shard), Place::Here(_))
                    && process.worker.can_send(shard).is_some()
            };
            let owners: Vec<NodeId> = self
                .nodes
                .values()
                .filter(here)
                .map(|process| process.node)
                .collect();
            let [owner] = owners.as_slice() else {
                return Some(format!("shard {shard} is served by {owners:?}"));
            };
            *owned.entry(*owner).or_default() += 1;
        }
        let (shards, nodes) = (usize::from(SHARDS), self.nodes.len());
        let even = shards / nodes..=shards.div_ceil(nodes);
        let balanced = self
            .nodes
            .keys()
            .all(|node| even.contains(&owned.get(node).copied().unwrap_or(0)));
        (!balanced).then(|| format!("shards are not even: {owned:?}"))
    }

    /// What runs is exactly what is held.
    pub(crate) fn leftovers(&self) -> Option<String> {
        self.nodes.values().find_map(|process| {
            let open: BTreeSet<Shard> = process.worker.open_shards().into_keys().collect();
            let held: BTreeSet<Shard> = Shard::all()
                .filter(|shard| process.cluster.ownership().epoch(*shard).is_some())
                .collect();
            (open != held).then(|| format!("{:?} runs {open:?} and holds {held:?}", process.id))
        })
    }
}

async fn note_end(process: &Process, oracle: &Oracle) {
    if let Err(Ended::Twin(_)) = process.cluster.ended().await {
        let lived = process.folder.previous().is_some();
        oracle.reached(if lived {
            Rare::TwinTookOver
        } else {
            Rare::TwinRefused
        });
    }
    if process.worker.serves() > 0 {
        oracle.wrong(&format!("{:?} ended and left shards running", process.id));
    }
}

fn peer(node: NodeId, life: u64) -> Peer {
    Peer {
        node,
        incarnation: Incarnation(life),
        link: ([127, 0, 0, 1], 7_000).into(),
        api: None,
        lease_sequence: 0,
        draining: false,
        shards_version: 0,
        protocols: Protocols {
            oldest: 1,
            newest: 1,
        },
        version: "0.1.0".to_owned(),
    }
}
