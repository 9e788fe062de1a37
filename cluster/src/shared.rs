//! What the shells of one node share. Each part is written by one of them and read by the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use zajil_model::id::Shard;
use zajil_model::lease::holder::Holder;
use zajil_model::lease::{NodeId, NodeRow, NodeState};
use zajil_model::time::Mono;

use crate::cluster::{Config, Ports};
use crate::lease::Ended;
use crate::metrics::Metrics;
use crate::status::Trouble;

/// How many of the last troubles are kept to be shown: enough to see what began it.
const TROUBLES: usize = 16;

/// The lease rows of the other nodes, as last read.
pub(crate) type Peers = Arc<BTreeMap<NodeId, NodeRow>>;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) ports: Ports,
    pub(crate) config: Config,
    /// The lease of this life; `None` between two lives. Written by who renews it.
    pub(crate) holder: watch::Sender<Option<Holder>>,
    /// `None` before they were read in this life. Written by the challenger.
    pub(crate) peers: watch::Sender<Option<Peers>>,
    /// Peers that look dead and are given one more lease. Written by the challenger.
    held_back: AtomicUsize,
    /// Shards that are being taken or given. Written by the reconciler.
    busy: AtomicUsize,
    /// There is something to reconcile.
    pub(crate) look: Notify,
    /// The lease row has to say something new.
    pub(crate) renew: Notify,
    /// The node gives everything away to end.
    pub(crate) leaving: AtomicBool,
    /// The node's wall clock is too far off the store's to take shards.
    pub(crate) clock_off: AtomicBool,
    /// Ends this node's part in the cluster.
    pub(crate) stop: CancellationToken,
    /// How it ended.
    pub(crate) ended: watch::Sender<Option<Result<(), Ended>>>,
    pub(crate) metrics: Metrics,
    troubles: Mutex<VecDeque<Trouble>>,
}

impl Shared {
    pub(crate) fn new(ports: Ports, config: Config) -> Arc<Self> {
        Arc::new(Self {
            ports,
            config,
            holder: watch::Sender::new(None),
            peers: watch::Sender::new(None),
            held_back: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            look: Notify::new(),
            renew: Notify::new(),
            leaving: AtomicBool::new(false),
            clock_off: AtomicBool::new(false),
            stop: CancellationToken::new(),
            ended: watch::Sender::new(None),
            metrics: Metrics::new(),
            troubles: Mutex::default(),
        })
    }

    pub(crate) fn me(&self) -> NodeId {
        self.ports.ownership.me()
    }

    pub(crate) fn mono(&self) -> Mono {
        self.ports.clock.mono()
    }

    /// Whether this node may take, challenge and send now.
    pub(crate) fn is_active(&self) -> bool {
        self.ports.ownership.may_send(self.mono())
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// What this node's lease row should say. A node that may take no shards says that it drains,
    /// so that nobody gives it any.
    pub(crate) fn state(&self) -> NodeState {
        if self.is_leaving() || self.clock_off.load(Ordering::Acquire) {
            NodeState::Draining
        } else {
            NodeState::Alive
        }
    }

    /// Every shard that there is.
    pub(crate) fn shards(&self) -> impl Iterator<Item = Shard> + use<> {
        Shard::all().take(usize::from(self.config.shards))
    }

    /// So many peers look dead that they are given one more lease.
    pub(crate) fn hold_back(&self, peers: usize) {
        self.held_back.store(peers, Ordering::Relaxed);
        self.metrics.held_back(peers);
    }

    pub(crate) fn held_back(&self) -> usize {
        self.held_back.load(Ordering::Relaxed)
    }

    /// So many shards are being taken or given.
    pub(crate) fn set_busy(&self, shards: usize) {
        self.busy.store(shards, Ordering::Relaxed);
        self.metrics.busy(shards);
    }

    pub(crate) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Something went wrong that a person may want to know of. What repeats itself is one trouble.
    pub(crate) fn trouble(&self, what: String) {
        let at = self.ports.clock.now();
        let mut troubles = self.troubles.lock();
        if let Some(last) = troubles.back_mut().filter(|last| last.what == what) {
            last.at = at;
            return;
        }
        tracing::warn!(node = self.me().0, "{what}");
        if troubles.len() == TROUBLES {
            troubles.pop_front();
        }
        troubles.push_back(Trouble { at, what });
    }

    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        self.troubles.lock().iter().cloned().collect()
    }
}
