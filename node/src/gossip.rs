//! Gossip over the lives of a node: each life of its lease has gossip of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_cluster::Cluster;
use zajil_cluster::config::gossip::GossipConfig;
use zajil_cluster::link::PROTOCOLS;
use zajil_cluster::membership::gossip::{Gossip, Ports};
use zajil_cluster::membership::{Fact, Membership, Peer, View};
use zajil_model::lease::{Incarnation, NodeId};
use zajil_model::time::Clock;

/// How often it is looked whether the node lives a new life, or its gossip failed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a node says of itself, whichever life it lives.
#[derive(Clone, Copy, Debug)]
pub struct Itself {
    /// Its number.
    pub node: NodeId,
    /// Where its link is reached.
    pub link: SocketAddr,
    /// Where its API is reached.
    pub api: SocketAddr,
}

/// Membership from before the node joined to its last life.
#[derive(Debug)]
pub struct LivesOfGossip {
    view: watch::Sender<View>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    gossip: Option<Arc<Gossip>>,
    /// What was published last of each kind, for the next life.
    sequence: Option<Fact>,
    draining: Option<Fact>,
    shards: Option<Fact>,
}

impl LivesOfGossip {
    /// Nobody is heard yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            view: watch::Sender::new(View::default()),
            now: Mutex::default(),
        })
    }

    /// Gossips for each life of the node, until the node stops.
    pub async fn run(
        self: Arc<Self>,
        itself: Itself,
        config: GossipConfig,
        cluster: Cluster,
        clock: Arc<dyn Clock>,
        stopping: CancellationToken,
    ) {
        let mut lives: Option<Incarnation> = None;
        while stopping
            .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await
            .is_some()
        {
            let life = cluster.status().incarnation;
            if life.is_none() || life == lives {
                continue;
            }
            if let Some(life) = life
                && self.begin(itself, life, &config, &clock, &stopping).await
            {
                lives = Some(life);
            }
        }
        let last = self.now.lock().gossip.take();
        if let Some(last) = last {
            last.stop().await;
        }
    }

    /// Begins to gossip for a life; answers whether it did.
    async fn begin(
        self: &Arc<Self>,
        itself: Itself,
        life: Incarnation,
        config: &GossipConfig,
        clock: &Arc<dyn Clock>,
        stopping: &CancellationToken,
    ) -> bool {
        let before = self.now.lock().gossip.take();
        if let Some(before) = before {
            before.stop().await;
        }
        let tasks = TaskTracker::new();
        let ports = Ports {
            clock: clock.clone(),
            random: StdRng::from_os_rng(),
            tasks: tasks.clone(),
        };
        let gossip = match Gossip::start(config, self.says(itself, life), ports).await {
            Ok(gossip) => gossip,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot gossip");
                return false;
            }
        };
        let (mut changed, lives) = (gossip.changed(), Arc::clone(self));
        let stopping = stopping.clone();
        tasks.spawn(async move {
            // It ends with the gossip whose views it passes on.
            while stopping
                .run_until_cancelled(changed.changed())
                .await
                .is_some_and(|it| it.is_ok())
            {
                lives.view.send_replace(changed.borrow_and_update().clone());
            }
        });
        self.now.lock().gossip = Some(gossip);
        true
    }

    fn says(&self, itself: Itself, incarnation: Incarnation) -> Peer {
        let mut peer = Peer {
            node: itself.node,
            incarnation,
            link: itself.link,
            api: Some(itself.api),
            lease_sequence: 0,
            draining: false,
            shards_version: 0,
            protocols: PROTOCOLS,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let now = self.now.lock();
        for fact in [now.sequence, now.draining, now.shards]
            .into_iter()
            .flatten()
        {
            peer.apply(fact);
        }
        peer
    }
}

impl Membership for LivesOfGossip {
    fn peers(&self) -> View {
        self.view.borrow().clone()
    }

    fn changed(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    fn publish(&self, fact: Fact) {
        let mut now = self.now.lock();
        match fact {
            Fact::LeaseSequence(_) => now.sequence = Some(fact),
            Fact::Draining(_) => now.draining = Some(fact),
            Fact::ShardsVersion(_) => now.shards = Some(fact),
        }
        if let Some(gossip) = &now.gossip {
            gossip.publish(fact);
        }
    }
}
