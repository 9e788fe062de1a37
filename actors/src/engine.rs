//! The engine of one node, as the HTTP edge sees it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_cluster::{Cluster, Ownership};
pub use zajil_cluster::{PeerStatus, ShardsStatus, Status as ClusterStatus, Trouble};
use zajil_model::id::AccountId;
use zajil_model::time::Clock;
use zajil_model::wa_id::WaIdKey;
use zajil_storage::transfer::wa_key_row;
use zajil_storage::{Condition, Health, RowWrite, Store, StoreError, Written};
use zajil_transport::TransportFactory;

use crate::batch::{BatchError, BatchPorts, Batches};
use crate::context::{Context, ContextParts};
use crate::directory::Directory;
use crate::engine::instances::Instances;
use crate::gate::Gate;
use crate::idempotency::Idempotency;
use crate::ids::{Ids, Opening, ShardClocks};
use crate::instance::InstanceMsg;
use crate::instance::handle::Handle;
use crate::key_bucket::KeyBuckets;
use crate::owners::{Owners, RoutedStore, Sharing};
use crate::router::Router;
use crate::send::{AcceptError, DrainReport};
use crate::timer::Timer;
use twins::Twins;

mod accept;
mod answers;
mod gauges;
mod instances;
mod opt_outs;
mod release;
mod requests;
mod settle;
mod shards;
mod twins;

/// What the engine is given: its ports.
#[derive(Debug)]
pub struct Ports {
    /// Where state is kept.
    pub store: Arc<dyn Store>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The ways to WhatsApp.
    pub transports: Vec<Arc<dyn TransportFactory>>,
    /// Who else works on the same store.
    pub sharing: Sharing,
    /// Seeds jitter; two engines of one seed choose alike.
    pub seed: u64,
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed.
    #[error("cannot read the state to start with")]
    Store(#[from] StoreError),
    /// An actor could not be started.
    #[error("cannot start the supervision tree")]
    Spawn(#[from] ractor::SpawnErr),
    /// The campaigns could not be taken up.
    #[error("cannot take up the batches")]
    Batches(#[from] BatchError),
    /// The store lacks something.
    #[error("an import into this store was cut before its end: drop it, and import again")]
    Unfinished,
    /// The system gave no random numbers for a new key.
    #[error("the system gives no random numbers")]
    Random,
}

/// A running engine; clones are the same one.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    context: Arc<Context>,
    router: Router,
    instances: Instances,
    gate: Gate,
    batches: Batches,
    buckets: KeyBuckets,
    idempotency: Idempotency,
    /// The store as the edge reads it: what other nodes own is read there.
    reads: Arc<dyn Store>,
    owners: Owners,
    twins: Twins,
    /// This node's part in the cluster, once it joined.
    cluster: OnceLock<Cluster>,
}

/// How long a node of a cluster believes what it read of instances, which others change: as long as it
/// believes a key.
const BELIEVED: Duration = Duration::from_secs(5);

/// The wait before waking what has work is tried again.
const WAKE_AGAIN: Duration = Duration::from_secs(1);

/// How often a drain looks whether everybody left.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Of a drain's time, the part that is kept for closing what is left after the instances.
const DRAIN_REST: Duration = Duration::from_secs(3);

impl Engine {
    /// Starts the engine and wakes every instance that has work.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(ports: Ports) -> Result<Self, StartError> {
        let Ports {
            store,
            clock,
            transports,
            sharing,
            seed,
        } = ports;
        if release::is_unfinished(store.as_ref()).await? {
            return Err(StartError::Unfinished);
        }
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let opening = sharing.opening();
        let clocks = ShardClocks::new(store.clone(), clock.clone(), tasks.clone(), opening);
        let owners = Owners::new(sharing);
        let reads: Arc<dyn Store> = match opening {
            Opening::OnDemand => store.clone(),
            Opening::ByOwner => {
                let (store, owners) = (store.clone(), owners.clone());
                Arc::new(RoutedStore::new(store, owners, clock.clone()))
            }
        };
        let ids = Ids::new(clocks.clone());
        let directory = Directory::new(store.clone(), clock.clone(), ids.clone(), tasks.clone());
        let context = Arc::new(Context::new(ContextParts {
            timer: Timer::start(clock.clone(), &tasks, stop.clone()),
            wa_key: wa_key(store.as_ref()).await?,
            store: store.clone(),
            clock: clock.clone(),
            directory: directory.clone(),
            ownership: owners.ownership().clone(),
            clocks: clocks.clone(),
            tasks: tasks.clone(),
            transports,
            stop,
            seed,
        }));
        context.held.store(
            release::is_restored(store.as_ref()).await?,
            Ordering::Release,
        );
        let router = Router::start(context.clone()).await?;
        let instances = Instances::new(context.clone(), router.clone(), owners.clone());
        let batches = Batches::start(BatchPorts {
            store: reads.clone(),
            clock: clock.clone(),
            clocks: clocks.clone(),
            ids,
            directory,
            instances: Arc::new(instances.clone()),
            owners: owners.clone(),
            tracker: tasks.clone(),
        })
        .await?;
        let parts = Parts {
            gate: Gate::new(clock.clone()),
            buckets: KeyBuckets::start(store.clone(), clock.clone(), tasks.clone(), owners.clone())
                .await?,
            idempotency: Idempotency::new(store.clone(), clock, tasks, clocks, owners.clone()),
            twins: Twins::default(),
            cluster: OnceLock::new(),
            reads,
            owners,
            batches,
            instances,
            router,
            context,
        };
        let engine = Self(Arc::new(parts));
        engine.0.instances.belong_to(&engine.0);
        engine.wake_at_start();
        engine.forget_now_and_then();
        engine.count_instances();
        Ok(engine)
    }

    /// Where state is kept, as all nodes see it: what another node owns is read there.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.reads
    }

    /// The way to the owners of shards.
    pub(crate) fn owners(&self) -> &Owners {
        &self.0.owners
    }

    /// Who owns what.
    pub fn ownership(&self) -> &Ownership {
        self.0.owners.ownership()
    }

    /// Tells the time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.context.clock
    }

    /// Accounts, users, keys, instances, contacts, templates, suppressions.
    pub fn directory(&self) -> &Directory {
        &self.0.context.directory
    }

    /// Campaigns.
    pub fn batches(&self) -> &Batches {
        &self.0.batches
    }

    /// The windows of API keys.
    pub fn buckets(&self) -> &KeyBuckets {
        &self.0.buckets
    }

    /// Idempotency keys.
    pub fn idempotency(&self) -> &Idempotency {
        &self.0.idempotency
    }

    /// The WhatsApp id under which a message goes out.
    pub fn wa_id(&self, id: zajil_model::id::MessageId) -> zajil_model::wa_id::WaId {
        self.0.context.wa_key.of(id)
    }

    /// How the store is.
    pub fn health(&self) -> Health {
        self.store().health()
    }

    /// Whether sending is held after a restore.
    pub fn is_held(&self) -> bool {
        self.0.context.is_held()
    }

    /// Whether another accept may come, of this account if it is known: to be asked before
    /// anything is spent on it.
    ///
    /// # Errors
    /// What [`Self::send`] would answer because too many are under way.
    pub fn may_accept(&self, account: Option<AccountId>) -> Result<(), AcceptError> {
        self.0.gate.look(account)
    }

    /// Whether the engine takes no more work.
    pub fn is_draining(&self) -> bool {
        self.0.gate.is_closed()
    }

    /// Whether this node stops: its clients should go to another one.
    pub fn is_leaving(&self) -> bool {
        self.is_draining() || self.cluster().is_some_and(Cluster::is_leaving)
    }

    /// Instances with a running actor.
    pub fn running(&self) -> usize {
        self.0.router.len()
    }

    /// Bytes of messages that the windows of all instances hold.
    pub fn window_bytes(&self) -> usize {
        self.0.context.window_bytes.load(Ordering::Relaxed)
    }

    /// Wake-ups that actors asked for and that have not come: a few for each.
    pub fn wake_ups(&self) -> usize {
        self.0.context.timer.waiting()
    }

    /// This node is a part of a cluster from now on.
    pub fn joined(&self, cluster: Cluster) {
        self.0.cluster.get_or_init(|| cluster);
    }

    /// This node's part in the cluster; `None` for a node alone, and before it joined.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.0.cluster.get()
    }

    /// Wakes what has work, in the background: accepting does not wait for it. In a cluster each
    /// shard wakes its own when it is opened.
    fn wake_at_start(&self) {
        if self.is_held() {
            tracing::warn!("filled from a copy: nothing is sent before it is released");
        }
        if !self.ownership().is_alone() {
            return;
        }
        let (engine, stop) = (self.clone(), self.0.context.stop.clone());
        let wake = async move {
            while let Err(error) = engine.wake_all(|_| true).await {
                tracing::error!(%error, "cannot wake the instances that have work");
                tokio::time::sleep(WAKE_AGAIN).await;
            }
        };
        self.0.context.tasks.spawn(async move {
            // What is not woken before the node stops is woken at its next start.
            stop.run_until_cancelled(wake).await;
        });
    }

    /// What other nodes may have changed is read again after a while.
    fn forget_now_and_then(&self) {
        if self.ownership().is_alone() {
            return;
        }
        let (engine, stop) = (self.clone(), self.0.context.stop.clone());
        self.0.context.tasks.spawn(async move {
            let mut ticks = tokio::time::interval(BELIEVED);
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                engine.directory().forget_changeable();
                engine.look_at_hold().await;
            }
        });
    }

    /// Takes no more work, finishes what is in flight, and stops every actor in good order.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let parts = &self.0;
        parts.gate.close();
        let began = self.clock().mono();
        let count = parts.router.len();
        let patience = deadline.saturating_sub(DRAIN_REST);
        let mut cut = self.tell_to_drain();
        while cut > 0 && self.clock().mono().since(began) < patience {
            tokio::time::sleep(DRAIN_LOOK).await;
            cut = self.tell_to_drain();
        }
        parts.batches.stop().await;
        parts.buckets.stop().await;
        parts.router.stop();
        parts.context.stop.cancel();
        parts.context.tasks.close();
        let rest = deadline.saturating_sub(self.clock().mono().since(began));
        if tokio::time::timeout(rest, parts.context.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some tasks did not end before the deadline of the drain");
        }
        DrainReport {
            stopped: count.saturating_sub(cut),
            cut,
        }
    }

    /// Tells every actor to leave, one that was just started as well; answers how many there are.
    /// A handle without an actor (quarantined, or waiting to be started again) has nothing to
    /// finish.
    fn tell_to_drain(&self) -> usize {
        let drain = |handle: &Arc<_>| Handle::tell(handle, InstanceMsg::Drain);
        self.0
            .router
            .all()
            .iter()
            .filter(|handle| drain(handle))
            .count()
    }
}

/// The key of WhatsApp ids, made at the first start and kept for ever.
async fn wa_key(store: &dyn Store) -> Result<WaIdKey, StartError> {
    let key = wa_key_row();
    let parse = |bytes: &[u8]| {
        let detail = format!("{} bytes instead of 32", bytes.len());
        let corrupt = StoreError::Corrupt {
            what: "key of WhatsApp ids",
            detail,
        };
        bytes.try_into().map(WaIdKey::new).map_err(|_| corrupt)
    };
    if let Some(row) = store.row(&key).await? {
        return Ok(parse(&row.value)?);
    }
    let mut fresh = [0; 32];
    OsRng
        .try_fill_bytes(&mut fresh)
        .map_err(|_| StartError::Random)?;
    let write = RowWrite::put(key, fresh.to_vec()).when(Condition::Absent);
    match store.write(vec![write]).await? {
        Written::Applied => Ok(WaIdKey::new(fresh)),
        Written::Conflict { current, .. } => Ok(parse(&current.unwrap_or_default())?),
    }
}
