//! A node's part in a cluster, as the rest of the node sees it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use zajil_model::id::{Epoch, SHARDS, Shard};
use zajil_model::lease::{NodeId, NodeRow};
use zajil_model::time::Clock;

use crate::challenge::READS_AT_ONCE;
use crate::lease::Ended;
use crate::life;
use crate::membership::{Fact, Membership};
use crate::ownership::Ownership;
use crate::past::Past;
use crate::reconcile::{INVITES, Invite, TakeError};
use crate::rows::{Member, Rows, RowsError};
use crate::shards::{HandOver, Shards};
use crate::shared::Shared;
use crate::status::Status;

/// How long before the end of a drain everything that is left is dropped: time to give the lease
/// back.
const DRAIN_REST: Duration = Duration::from_secs(2);

/// For how long a node that leaves tries to give shards away under a lease that it could not renew:
/// by then its peers may have called it dead, and take them without it.
const LEASE_OVER_FOR: Duration = Duration::from_secs(2);

/// What became of the shards of a node that leaves.
enum Given {
    /// Others have them, or nobody.
    All,
    /// They could not be given away: the store did not answer for as long as a lease is good.
    LeaseOver,
}

/// What a node's part in the cluster is given.
#[derive(Clone, Debug)]
pub struct Ports {
    /// The rows that decide.
    pub rows: Arc<dyn Rows>,
    /// What runs on shards.
    pub shards: Arc<dyn Shards>,
    /// Who is probably alive.
    pub membership: Arc<dyn Membership>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The former life of this node.
    pub past: Arc<dyn Past>,
    /// What the rest of the node reads: made by [`Ownership::shared`] with this node's name.
    pub ownership: Ownership,
}

/// What a node's part in the cluster is set to.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// This node's name.
    pub node: NodeId,
    /// Where its link is reached.
    pub link: SocketAddr,
    /// Where its API is reached, where others may know.
    pub api: Option<SocketAddr>,
    /// How many shards there are: [`SHARDS`], or fewer in a simulation.
    pub shards: u16,
    /// Where the lease is renewed.
    pub renewals: Renewals,
}

impl Config {
    /// What a real node is set to.
    pub const fn new(node: NodeId, link: SocketAddr, api: Option<SocketAddr>) -> Self {
        Self {
            node,
            link,
            api,
            shards: SHARDS,
            renewals: Renewals::OwnThread,
        }
    }
}

/// Where the lease is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewals {
    /// On a thread of its own, however busy the node is. The store is asked from there.
    OwnThread,
    /// With everything else: for a simulation, whose time is that of one runtime.
    Here,
}

/// What a drain came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Shards that other nodes were given.
    pub given: usize,
    /// Shards that were dropped when the time was over.
    pub cut: usize,
}

/// A node's part in the cluster; clones are the same one.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    invites: mpsc::Sender<Invite>,
    invited: Arc<Mutex<Option<mpsc::Receiver<Invite>>>>,
}

impl Cluster {
    /// Joins, and goes on in a task until the node leaves. Answers once the node joined, which
    /// takes as long as the store does not answer.
    ///
    /// # Errors
    /// Another process runs as this node.
    pub async fn start(ports: Ports, config: Config, tasks: &TaskTracker) -> Result<Self, Ended> {
        let cluster = Self::new(ports, config);
        let running = cluster.clone();
        tasks.spawn(async move { running.run().await });
        let mut ended = cluster.shared.ended.subscribe();
        let mut holder = cluster.shared.holder.subscribe();
        tokio::select! {
            biased;
            over = ended.wait_for(Option::is_some) => {
                let over = over.ok().and_then(|over| over.clone());
                over.unwrap_or(Ok(())).map(|()| cluster.clone())
            }
            _ = holder.wait_for(Option::is_some) => Ok(cluster.clone()),
        }
    }

    /// A part that does nothing before it is [run](Self::run).
    pub fn new(ports: Ports, config: Config) -> Self {
        let (invites, invited) = mpsc::channel(INVITES);
        Self {
            shared: Shared::new(ports, config),
            invites,
            invited: Arc::new(Mutex::new(Some(invited))),
        }
    }

    /// Joins and lives until the node leaves, or must end: see [`Self::ended`]. Dropping this ends
    /// it as a crash would.
    pub async fn run(&self) {
        let Some(invited) = self.invited.lock().take() else {
            return;
        };
        let ended = life::run(&self.shared, invited).await;
        if let Err(error) = &ended {
            self.shared.trouble(error.to_string());
        }
        self.shared.ended.send_replace(Some(ended));
    }

    /// Waits until this node's part is over.
    ///
    /// # Errors
    /// It ended although nobody asked: the process must end, too.
    pub async fn ended(&self) -> Result<(), Ended> {
        let mut ended = self.shared.ended.subscribe();
        let over = ended.wait_for(Option::is_some).await;
        over.ok().and_then(|over| over.clone()).unwrap_or(Ok(()))
    }

    /// Gives all shards away and then the lease, at the latest when the time is over.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let shared = &self.shared;
        let before = shared.ports.ownership.held().len();
        shared.leaving.store(true, Ordering::Release);
        shared.ports.membership.publish(Fact::Draining(true));
        shared.renew.notify_one();
        shared.look.notify_one();
        let giving = timeout(deadline.saturating_sub(DRAIN_REST), self.gave_everything());
        let cut = match giving.await {
            Ok(Given::All) => 0,
            Ok(Given::LeaseOver) | Err(_) => shared.ports.ownership.held().len(),
        };
        shared.stop.cancel();
        if timeout(DRAIN_REST, self.ended()).await.is_err() {
            tracing::warn!("the lease was not given back before the deadline of the drain");
        }
        DrainReport {
            given: before.saturating_sub(cut),
            cut,
        }
    }

    async fn gave_everything(&self) -> Given {
        let ports = &self.shared.ports;
        let mut changed = ports.ownership.changed();
        let held = || ports.ownership.held().len() + self.shared.busy();
        let mut good_at = ports.clock.mono();
        while held() > 0 {
            let now = ports.clock.mono();
            if ports.ownership.may_send(now) {
                good_at = now;
            } else if now.since(good_at) >= LEASE_OVER_FOR {
                return Given::LeaseOver;
            }
            // A shard that was dropped is released a moment later.
            drop(timeout(Duration::from_millis(100), changed.changed()).await);
        }
        Given::All
    }

    /// Another node released a shard to this one ([`Shards::tell`] there): it is taken at once.
    ///
    /// # Errors
    /// It was not taken.
    pub async fn take(&self, shard: Shard, hand_over: HandOver) -> Result<Epoch, TakeError> {
        let (reply, answer) = oneshot::channel();
        let invite = Invite {
            shard,
            hand_over,
            reply,
        };
        self.invites.try_send(invite).map_err(|_| TakeError::Busy)?;
        answer.await.unwrap_or(Err(TakeError::NoLease))
    }

    /// What this node owns and may do.
    pub fn ownership(&self) -> &Ownership {
        &self.shared.ports.ownership
    }

    /// Whether this node gives its shards away for good.
    pub fn is_leaving(&self) -> bool {
        self.shared.is_leaving()
    }

    /// How this node's part is.
    pub fn status(&self) -> Status {
        Status::of(&self.shared)
    }

    /// The lease rows of all nodes, read now: who has to confirm a barrier whose row is durable. A
    /// node that joins later reads that row before it sends.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn lease_rows(&self) -> Result<BTreeMap<NodeId, NodeRow>, RowsError> {
        let rows = &self.shared.ports.rows;
        let members = rows.members().await?;
        let read = |member: Member| async move {
            let lease = rows.read_lease(member.node).await?;
            Ok(lease.map(|row| (member.node, row)))
        };
        let leases = stream::iter(members)
            .map(read)
            .buffer_unordered(READS_AT_ONCE);
        leases
            .try_filter_map(|lease| async move { Ok(lease) })
            .try_collect()
            .await
    }
}
