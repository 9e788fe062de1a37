//! One process of a node: a real engine in a runtime of its own.
//!
//! Its runtime is driven by the world, a tick at a time, at the speed of its own clock. A process
//! that is stopped is not driven, and finds its clocks far ahead when it goes on; one that is
//! killed loses its runtime, with all that was in it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::OnceCell;
use zajil_actors::engine::{Engine, Ports};
use zajil_actors::owners::{Answers, Sharing, StoreRows};
use zajil_cluster::membership::Membership;
use zajil_cluster::{Cluster, Config, Ended, Ownership, Past, Renewals, Rows};
use zajil_model::lease::{Incarnation, NodeId};

use crate::clock::SimClock;
use crate::oracle::{Oracle, Running};
use crate::store::NodeStore;
use crate::wire::Wire;
use crate::world::SHARDS;

/// The wait before a node that could not start tries again, as who starts it would.
const START_AGAIN: Duration = Duration::from_millis(500);

/// How long a node may take to leave.
const LEAVES_WITHIN: Duration = Duration::from_secs(20);

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

/// What a process is given.
pub(crate) struct Means {
    pub(crate) number: u32,
    pub(crate) node: NodeId,
    pub(crate) store: NodeStore,
    pub(crate) rows: Arc<dyn Fn(StoreRows) -> Arc<dyn Rows> + Send + Sync>,
    pub(crate) membership: Arc<dyn Membership>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) answers: Answers,
    pub(crate) sharing: Sharing,
    pub(crate) transport: Arc<dyn zajil_transport::TransportFactory>,
    pub(crate) clock: Arc<SimClock>,
}

/// What runs in a process, once it does.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    engine: OnceCell<Engine>,
    cluster: OnceCell<Cluster>,
    over: AtomicBool,
}

/// See above.
pub(crate) struct Process {
    pub(crate) number: u32,
    pub(crate) node: NodeId,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) store: NodeStore,
    pub(crate) leaving: bool,
    ownership: Ownership,
    inside: Arc<Inside>,
    runtime: Runtime,
    paused: bool,
    /// The true time up to which it ran.
    ran_to: Duration,
}

/// A runtime in which nothing runs yet, and its clock.
pub(crate) fn runtime(now: Duration, speed: u32) -> (Runtime, Arc<SimClock>) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can always be built");
    let clock = runtime.block_on(async { Arc::new(SimClock::new(now, speed)) });
    (runtime, clock)
}

impl Process {
    /// Starts a process.
    pub(crate) fn start(means: Means, runtime: Runtime, wire: &Wire, oracle: &Oracle) -> Self {
        let ownership = means.sharing.ownership.clone();
        let running = Running {
            ownership: ownership.clone(),
            clock: Arc::clone(&means.clock),
        };
        oracle.begins(means.number, running);
        let inside = Arc::new(Inside::default());
        let process = Self {
            number: means.number,
            node: means.node,
            clock: Arc::clone(&means.clock),
            store: means.store.clone(),
            leaving: false,
            ownership,
            inside: Arc::clone(&inside),
            runtime,
            paused: false,
            ran_to: wire.now(),
        };
        process.runtime.spawn(live(means, inside));
        process
    }

    /// Its engine, once it runs.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.inside.engine.get()
    }

    pub(crate) fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Whether it ended by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.inside.over.load(Ordering::Relaxed)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Stops it, as by `SIGSTOP`.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Lets it go on; its clocks went on without it.
    pub(crate) fn resume(&mut self, now: Duration) {
        if std::mem::take(&mut self.paused) {
            let (from, to) = (self.ran_to, now);
            let slept = self.clock.instant_at(to) - self.clock.instant_at(from);
            self.runtime
                .block_on(async { tokio::time::advance(slept).await });
            self.ran_to = now;
        }
    }

    /// Runs up to a true time.
    pub(crate) fn run(&mut self, to: Duration) {
        if !self.paused {
            let until = self.clock.instant_at(to);
            self.runtime
                .block_on(async { tokio::time::sleep_until(until).await });
            self.ran_to = to;
        }
    }

    /// Tells it to leave, as by `SIGTERM`; it is over when it left.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
        let inside = Arc::clone(&self.inside);
        self.runtime.spawn(async move {
            if let (Some(cluster), Some(engine)) = (inside.cluster.get(), inside.engine.get()) {
                cluster.drain(LEAVES_WITHIN).await;
                engine.drain(Duration::from_secs(5)).await;
            }
            inside.over.store(true, Ordering::Relaxed);
        });
    }
}

async fn live(means: Means, inside: Arc<Inside>) {
    let Means {
        number,
        node,
        store,
        rows,
        membership,
        folder,
        answers,
        sharing,
        transport,
        clock,
    } = means;
    let store: Arc<dyn zajil_storage::Store> = Arc::new(store);
    let engine = loop {
        let ports = Ports {
            store: Arc::clone(&store),
            clock: clock.clone(),
            transports: vec![Arc::clone(&transport)],
            sharing: sharing.clone(),
            seed: u64::from(number),
        };
        match Engine::start(ports).await {
            Ok(engine) => break engine,
            Err(_) => tokio::time::sleep(START_AGAIN).await,
        }
    };
    let ports = zajil_cluster::Ports {
        rows: rows(StoreRows::new(store, clock.clone())),
        shards: engine.shards().shared(),
        membership,
        clock,
        past: folder,
        ownership: sharing.ownership,
    };
    let config = Config {
        shards: SHARDS,
        renewals: Renewals::Here,
        ..Config::new(node, ([127, 0, 0, 1], 7_000).into(), None)
    };
    let cluster = Cluster::new(ports, config);
    answers.speak_for(engine.clone());
    engine.joined(cluster.clone());
    // Both are set once, here.
    drop(inside.cluster.set(cluster.clone()));
    drop(inside.engine.set(engine));
    cluster.run().await;
    if matches!(cluster.ended().await, Err(Ended::Twin(_))) {
        inside.over.store(true, Ordering::Relaxed);
    }
}
