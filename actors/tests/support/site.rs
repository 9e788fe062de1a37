//! Several nodes in one process: one store, a network without wires, time that tests move.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use zajil_actors::engine::{Engine, Ports};
use zajil_actors::owners::{Answers, Sharing, StoreRows};
use zajil_actors::send::{AcceptError, Reserved, Submission};
use zajil_cluster::link::fake::FakeNetwork;
use zajil_cluster::membership::fake::FakeGossip;
use zajil_cluster::membership::{Peer, Protocols};
use zajil_cluster::{Cluster, Config, NoPast, Ownership, Renewals};
use zajil_model::id::{AccountId, MessageId, RequestId, Shard};
use zajil_model::instance::Instance;
use zajil_model::lease::{Incarnation, NodeId};
use zajil_model::lifecycle::Status;
use zajil_model::message::{Lane, Message};
use zajil_model::pace::PaceSpec;
use zajil_model::time::Clock;
use zajil_storage::{MemoryStore, Store};

use super::{TokioClock, WhatsApp, simulated};

/// One node that runs.
pub struct Running {
    pub engine: Engine,
    pub cluster: Cluster,
    life: JoinHandle<()>,
}

/// Nodes over one store.
pub struct Site {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub whatsapp: WhatsApp,
    pub network: FakeNetwork,
    gossip: Arc<FakeGossip>,
    pub nodes: BTreeMap<u64, Running>,
    requests: u128,
}

impl Site {
    /// A site of nodes 1 to `count`, balanced.
    pub async fn new(count: u64) -> Self {
        Self::on(Arc::new(MemoryStore::new()), count).await
    }

    /// The same, over a store that holds something.
    pub async fn on(store: Arc<dyn Store>, count: u64) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
        let mut site = Self {
            store,
            whatsapp: WhatsApp::new(clock.clone()),
            network: FakeNetwork::new(1),
            gossip: FakeGossip::new(),
            nodes: BTreeMap::new(),
            clock,
            requests: 0,
        };
        for node in 1..=count {
            site.start(node).await;
        }
        site.balanced().await;
        site
    }

    /// Starts a node.
    pub async fn start(&mut self, node: u64) {
        let id = NodeId(node);
        let answers = Answers::default();
        let link = self.network.join(id, Arc::new(answers.clone()));
        let ownership = Ownership::shared(id);
        let engine = Engine::start(Ports {
            store: self.store.clone(),
            clock: self.clock.clone(),
            transports: vec![Arc::new(self.whatsapp.of_node(node))],
            sharing: Sharing {
                ownership: ownership.clone(),
                link: Some(Arc::new(link)),
            },
            seed: node,
        });
        let engine = engine.await.unwrap();
        let listens = SocketAddr::from(([127, 0, 0, 1], 7_000 + node as u16));
        let membership = self.gossip.join(Peer {
            node: id,
            incarnation: Incarnation(1),
            link: listens,
            api: None,
            lease_sequence: 0,
            draining: false,
            shards_version: 0,
            protocols: Protocols {
                oldest: 1,
                newest: 1,
            },
            version: "test".to_owned(),
        });
        let ports = zajil_cluster::Ports {
            rows: Arc::new(StoreRows::new(self.store.clone(), self.clock.clone())),
            shards: engine.shards().shared(),
            membership,
            clock: self.clock.clone(),
            past: Arc::new(NoPast),
            ownership,
        };
        let config = Config {
            renewals: Renewals::Here,
            ..Config::new(id, listens, None)
        };
        let cluster = Cluster::new(ports, config);
        answers.speak_for(engine.clone());
        engine.joined(cluster.clone());
        let running = cluster.clone();
        let life = tokio::task::spawn(async move { running.run().await });
        self.nodes.insert(
            node,
            Running {
                engine,
                cluster,
                life,
            },
        );
        self.gossip.spread();
    }

    /// A node dies without a word.
    pub fn kill(&mut self, node: u64) {
        let running = self.nodes.remove(&node).unwrap();
        self.whatsapp.node_died(node);
        self.network.crash(NodeId(node));
        running.life.abort();
        self.gossip.leave(NodeId(node));
        self.gossip.spread();
    }

    /// A node renews its lease no more, and does not know it.
    pub fn renews_no_more(&self, node: u64) {
        self.nodes[&node].life.abort();
    }

    /// A node leaves in good order.
    pub async fn drain(&mut self, node: u64) -> zajil_cluster::DrainReport {
        let running = self.nodes.remove(&node).unwrap();
        let report = running.cluster.drain(Duration::from_secs(20)).await;
        running.engine.drain(Duration::from_secs(5)).await;
        self.network.crash(NodeId(node));
        self.gossip.leave(NodeId(node));
        self.gossip.spread();
        report
    }

    /// Waits until every node owns its share.
    pub async fn balanced(&self) {
        let share = 1_024 / self.nodes.len() as u16;
        for _ in 0..2_000 {
            let owned = |node: &Running| node.engine.ownership().owned();
            let all: u16 = self.nodes.values().map(owned).sum();
            if all == 1_024 && self.nodes.values().all(|node| owned(node) >= share) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let owned = self
            .nodes
            .iter()
            .map(|(n, node)| (*n, node.engine.ownership().owned()));
        panic!("not balanced: {:?}", owned.collect::<Vec<_>>());
    }

    pub fn engine(&self, node: u64) -> &Engine {
        &self.nodes[&node].engine
    }

    /// The node that owns an instance.
    pub fn owner(&self, instance: &Instance) -> u64 {
        self.owner_of(instance.id.shard())
    }

    /// The node that owns a shard.
    pub fn owner_of(&self, shard: Shard) -> u64 {
        let owns = |node: &&u64| self.engine(**node).ownership().owns(shard);
        *self.nodes.keys().find(owns).expect("somebody owns it")
    }

    /// A node that does not own an instance.
    pub fn other(&self, instance: &Instance) -> u64 {
        let owner = self.owner(instance);
        *self.nodes.keys().find(|node| **node != owner).unwrap()
    }

    pub async fn account(&self) -> AccountId {
        let any = self.nodes.values().next().unwrap();
        any.engine
            .directory()
            .create_account("Acme")
            .await
            .unwrap()
            .id
    }

    pub async fn instance(&self, account: AccountId, name: &str, pace: PaceSpec) -> Arc<Instance> {
        let new = simulated(name, pace);
        let any = self.nodes.values().next().unwrap();
        any.engine
            .directory()
            .create_instance(account, new)
            .await
            .unwrap()
    }

    /// Instances that are as fast as each other.
    pub async fn instances(
        &self,
        account: AccountId,
        count: usize,
        pace: PaceSpec,
    ) -> Vec<Arc<Instance>> {
        let mut made = Vec::new();
        for n in 0..count {
            let name = format!("shop-{n}");
            made.push(self.instance(account, &name, pace.clone()).await);
        }
        made
    }

    pub async fn send(
        &mut self,
        through: u64,
        instance: &Arc<Instance>,
        messages: Vec<Message>,
    ) -> Result<Reserved, AcceptError> {
        let submission = self.submission(instance, messages);
        self.engine(through).send(submission, false).await
    }

    pub fn submission(&mut self, instance: &Arc<Instance>, messages: Vec<Message>) -> Submission {
        self.requests += 1;
        Submission {
            instance: instance.clone(),
            lane: Lane::Normal,
            bytes: messages.len() * 100,
            messages,
            request: RequestId(self.requests),
        }
    }

    /// Waits until every node tells of a message that it has a status.
    pub async fn becomes(&self, id: MessageId, status: Status) {
        for _ in 0..100_000 {
            let mut told = Vec::new();
            for node in self.nodes.values() {
                let found = node.engine.store().message(id).await.unwrap();
                told.push(found.map(|found| found.state.status));
            }
            if told.iter().all(|told| *told == Some(status)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{id} does not become {status:?}");
    }
}
