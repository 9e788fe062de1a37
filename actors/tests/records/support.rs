//! The words of these tests: a clock that they move, and a node that they restart.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use zajil_actors::directory::records::DEFAULT_RATE_LIMIT;
use zajil_actors::directory::{Account, Directory, NewInstance, NewKey, Permission};
use zajil_actors::ids::{Ids, Opening, ShardClocks};
use zajil_model::instance::{Instance, TransportKind, TransportSettings};
use zajil_model::pace::PaceSpec;
use zajil_model::phone::Phone;
use zajil_model::time::{Clock, Mono, Timestamp};
use zajil_storage::{MemoryStore, Store};

/// 2026-11-23T09:46:40Z.
const BEGIN_SECONDS: i64 = 1_795_427_200;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct TestClock {
    micros: AtomicI64,
    nanos: AtomicU64,
}

impl TestClock {
    pub(crate) fn pass(&self, time: Duration) {
        self.micros
            .fetch_add(time.as_micros() as i64, Ordering::SeqCst);
        self.nanos
            .fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros.load(Ordering::SeqCst))
    }

    fn mono(&self) -> Mono {
        Mono::from_nanos(self.nanos.load(Ordering::SeqCst))
    }
}

/// One life of a node. The store outlives it.
pub(crate) struct Node {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) clocks: Arc<ShardClocks>,
    pub(crate) ids: Ids,
    pub(crate) tracker: TaskTracker,
    pub(crate) directory: Directory,
}

impl Node {
    pub(crate) fn new() -> Self {
        let clock = TestClock {
            micros: AtomicI64::new(BEGIN_SECONDS * 1_000_000),
            nanos: AtomicU64::new(1_000_000_000),
        };
        Self::on(Arc::new(MemoryStore::new()), Arc::new(clock))
    }

    /// A node that begins on what this one left behind.
    pub(crate) fn restarted(&self) -> Self {
        Self::on(Arc::clone(&self.store), Arc::clone(&self.clock))
    }

    fn on(store: Arc<dyn Store>, clock: Arc<TestClock>) -> Self {
        let tracker = TaskTracker::new();
        let clocks = ShardClocks::new(
            Arc::clone(&store),
            as_clock(&clock),
            tracker.clone(),
            Opening::OnDemand,
        );
        let ids = Ids::new(Arc::clone(&clocks));
        let directory = Directory::new(
            Arc::clone(&store),
            as_clock(&clock),
            ids.clone(),
            tracker.clone(),
        );
        Self {
            store,
            clock,
            clocks,
            ids,
            tracker,
            directory,
        }
    }

    pub(crate) fn as_clock(&self) -> Arc<dyn Clock> {
        as_clock(&self.clock)
    }

    pub(crate) async fn account(&self, name: &str) -> Account {
        self.directory.create_account(name).await.unwrap()
    }

    pub(crate) async fn instance(&self, account: &Account, name: &str) -> Arc<Instance> {
        self.directory
            .create_instance(account.id, new_instance(name))
            .await
            .unwrap()
    }

    /// Waits until everything in the background is done.
    pub(crate) async fn settle(&self) {
        self.tracker.close();
        self.tracker.wait().await;
        self.tracker.reopen();
    }
}

fn as_clock(clock: &Arc<TestClock>) -> Arc<dyn Clock> {
    let clock: Arc<TestClock> = Arc::clone(clock);
    clock
}

pub(crate) fn new_instance(name: &str) -> NewInstance {
    NewInstance {
        name: name.to_owned(),
        transport: TransportKind::Simulator,
        settings: TransportSettings::default(),
        pace: PaceSpec::default_for(TransportKind::Simulator),
        queue_while_disconnected: false,
    }
}

pub(crate) fn new_key(name: &str) -> NewKey {
    NewKey {
        user: None,
        name: name.to_owned(),
        permissions: BTreeSet::from(Permission::ALL),
        rate_limit: DEFAULT_RATE_LIMIT,
        expires_at: None,
        allowed_ips: Vec::new(),
        allowed_instances: BTreeSet::new(),
    }
}

pub(crate) fn phone(n: u64) -> Phone {
    Phone::parse(&format!("+9665{n:08}")).unwrap()
}

pub(crate) const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(crate) const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
