//! A world of a few nodes: real engines in runtimes of their own over one database, one WhatsApp and
//! a wire, driven a tick at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use zajil_actors::engine::Engine;
use zajil_actors::owners::{Answers, Sharing, StoreRows};
use zajil_cluster::membership::fake::FakeGossip;
use zajil_cluster::membership::{Membership, Peer, Protocols};
use zajil_cluster::{Ownership, Place, Rows};
use zajil_model::id::{Epoch, InstanceId, MessageId, Shard};
use zajil_model::instance::Instance;
use zajil_model::lease::{Incarnation, NodeId};
use zajil_storage::{
    Budgets, ListFilter, ListRequest, MessageRecord, RowKey, RowWrite, Store, Table,
};

use crate::database::Database;
use crate::link::Network;
use crate::oracle::Oracle;
use crate::process::{Folder, Means, Process, runtime};
use crate::rare::{Rare, Reached};
use crate::store::{NodeStore, now, parts, replay};
use crate::variant::{Variant, VariantRows};
use crate::whatsapp::{Gate, WhatsApp};
use crate::wire::{End, Wire};

mod furnish;

/// Few enough for thousands of runs, and enough to be uneven.
pub(crate) const SHARDS: u16 = 12;

/// How far every machine runs before another one's turn: not longer than what is on its way takes.
pub(crate) const TICK: Duration = Duration::from_millis(3);

pub(crate) struct World {
    pub(crate) variant: Variant,
    pub(crate) random: SmallRng,
    pub(crate) wire: Wire,
    pub(crate) reached: Arc<Reached>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) database: Arc<Database>,
    pub(crate) whatsapp: Arc<WhatsApp>,
    pub(crate) network: Network,
    pub(crate) gossip: Arc<FakeGossip>,
    pub(crate) folders: BTreeMap<NodeId, Arc<Folder>>,
    /// The process of each node, while it runs.
    pub(crate) nodes: BTreeMap<NodeId, Process>,
    pub(crate) budgets: Budgets,
    started: u32,
}

impl World {
    pub(crate) fn new(seed: u64, variant: Variant, tells: bool) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let wire = Wire::new(random.random());
        let reached = Arc::new(Reached::default());
        let oracle = Oracle::new(wire.clone(), Arc::clone(&reached), tells);
        let database = Database::new(variant != Variant::NoSeal, Arc::clone(&reached));
        // The key of WhatsApp ids is made by chance where there is none.
        let key = RowKey::new(Table::Meta, "wa_id_key", Vec::new());
        database.write(NodeId(0), &[RowWrite::put(key, vec![7; 32])]);
        let budgets = if random.random_bool(0.5) {
            Budgets::default()
        } else {
            // What a large backlog would do: nearly nothing stays in memory.
            Budgets {
                flush_bytes: 2 << 10,
                hot_bytes: 1 << 10,
                body_bytes: 1 << 10,
                idle_heads: 2,
            }
        };
        let forgets_ids = random.random_bool(0.25);
        Self {
            variant,
            random,
            whatsapp: WhatsApp::new(wire.clone(), Arc::clone(&oracle), forgets_ids),
            network: Network::new(wire.clone(), Arc::clone(&reached)),
            wire,
            reached,
            oracle,
            database,
            gossip: FakeGossip::new(),
            folders: BTreeMap::new(),
            nodes: BTreeMap::new(),
            budgets,
            started: 0,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.wire.now()
    }

    /// Starts a process of a node, in its own data folder.
    pub(crate) fn start(&mut self, node: NodeId) {
        self.started += 1;
        let number = self.started;
        let speed = self.random.random_range(996..=1_004);
        let (runtime, clock) = runtime(self.now(), speed);
        let membership = self.gossip.join(peer(node, u64::from(number)));
        let ownership = Ownership::of_shards(node, SHARDS);
        let answers = Answers::default();
        let serve = Arc::new(answers.clone());
        let handle = runtime.handle().clone();
        let link = self.network.join(node, number, handle, serve);
        let store = NodeStore::new(
            node,
            self.wire.clone(),
            Arc::clone(&self.database),
            Arc::clone(&self.reached),
            (self.budgets, Arc::clone(&clock)),
        );
        let gate = Gate {
            whatsapp: Arc::clone(&self.whatsapp),
            process: number,
            end: End::Node(node),
            clock: Arc::clone(&clock),
        };
        let means = Means {
            number,
            node,
            store,
            rows: self.rows(node, membership.clone()),
            membership,
            folder: self.folders.entry(node).or_default().clone(),
            answers,
            sharing: Sharing {
                ownership,
                link: Some(Arc::new(link)),
            },
            transport: Arc::new(gate),
            clock,
        };
        self.oracle
            .trace(|| format!("node {} starts as process {number}", node.0));
        let process = Process::start(means, runtime, &self.wire, &self.oracle);
        self.database.runs(node, true);
        self.nodes.insert(node, process);
    }

    fn rows(
        &self,
        node: NodeId,
        membership: Arc<dyn Membership>,
    ) -> Arc<dyn Fn(StoreRows) -> Arc<dyn Rows> + Send + Sync> {
        let variant = self.variant;
        Arc::new(move |inner| {
            Arc::new(VariantRows {
                inner,
                node,
                variant,
                membership: Arc::clone(&membership),
            })
        })
    }

    /// A process ends here and now, with all that was in it.
    pub(crate) fn end(&mut self, node: NodeId) {
        if let Some(process) = self.nodes.remove(&node) {
            let number = process.number;
            self.oracle.trace(|| format!("process {number} ends"));
            self.oracle.ends(number);
            self.network.leave(node, number);
            self.gossip.leave(node);
            self.database.runs(node, false);
        }
    }

    /// Every machine runs for a tick.
    pub(crate) fn tick(&mut self) {
        self.pass(TICK);
    }

    /// The same for another span: a longer one where nothing is on its way that matters.
    pub(crate) fn pass(&mut self, span: Duration) {
        let to = self.now() + span;
        for process in self.nodes.values_mut() {
            process.run(to);
        }
        self.wire.pass(to);
    }

    /// Whether a shard has no owner now, as far as the nodes know.
    pub(crate) fn is_moving(&self, shard: Shard) -> bool {
        let here = |process: &Process| {
            matches!(process.ownership().place(shard), Place::Here(_)) && !process.is_paused()
        };
        !self.nodes.values().any(here)
    }

    /// Whether every shard is served and nobody has much more than another.
    pub(crate) fn is_balanced(&self) -> bool {
        let share = SHARDS / self.nodes.len().max(1) as u16;
        let owned = |process: &Process| process.ownership().owned();
        self.nodes.values().map(owned).sum::<u16>() == SHARDS
            && self.nodes.values().all(|process| owned(process) >= share)
    }

    /// Asks the engine of a node something; `None` when it takes too long.
    pub(crate) fn ask<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &mut self,
        node: NodeId,
        within: Duration,
        question: impl FnOnce(Engine) -> F,
    ) -> Option<T> {
        let process = self.nodes.get(&node)?;
        let asked = question(process.engine()?.clone());
        let answer = Arc::new(Mutex::new(None));
        let tray = Arc::clone(&answer);
        process.handle().spawn(async move {
            let answer = asked.await;
            *tray.lock() = Some(answer);
        });
        let end = self.now() + within;
        while self.now() < end {
            self.tick();
            if let Some(answer) = answer.lock().take() {
                return Some(answer);
            }
        }
        None
    }

    /// The nodes whose engines run.
    pub(crate) fn ready(&self) -> Vec<NodeId> {
        let ready = self
            .nodes
            .iter()
            .filter(|(_, process)| process.engine().is_some());
        ready.map(|(node, _)| *node).collect()
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
        version: "test".to_owned(),
    }
}

impl World {
    /// What is stored of some instances, as who starts now would read it.
    pub(crate) fn stored(&self, instances: &[InstanceId]) -> BTreeMap<MessageId, MessageRecord> {
        let shards: BTreeSet<Shard> = instances.iter().map(|id| id.shard()).collect();
        let mut all = BTreeMap::new();
        for shard in shards {
            let log = self.database.read(shard);
            let projection = now(replay(shard, Epoch(1), &log, Budgets::default()));
            let of_shard = instances.iter().copied().filter(|id| id.shard() == shard);
            let filter = ListFilter {
                instances: of_shard.collect(),
                ..ListFilter::default()
            };
            let request = ListRequest {
                filter,
                before: None,
                skip: 0,
                limit: usize::MAX >> 1,
            };
            let replayed = projection.expect("what counts can be replayed");
            let page = now(replayed.projection.list(request));
            let page = page.expect("a store in memory can be read");
            all.extend(page.messages.into_iter().map(|it| (it.id(), it)));
        }
        all
    }
}

impl World {
    /// Notes each part of a campaign that was filled by more than one owner of its shard.
    pub(crate) fn note_fillers(&self) {
        let mut owners = BTreeMap::<_, BTreeSet<Epoch>>::new();
        for shard in Shard::all().take(usize::from(SHARDS)) {
            for ((epoch, _), group) in self.database.read(shard) {
                for part in parts(&group) {
                    owners.entry(part).or_default().insert(epoch);
                }
            }
        }
        for _ in owners.values().filter(|owners| owners.len() > 1) {
            self.reached.note(Rare::PartFilledByTwoOwners);
        }
    }
}

/// Messages that are told of for each instance of a world that does not come to rest.
const TOLD: usize = 2;

impl World {
    /// For what the messages wait that are not settled.
    pub(crate) fn what_waits(&mut self, instances: &[Arc<Instance>]) -> String {
        let mut all = String::new();
        for instance in instances {
            let owns = |node: &NodeId| self.nodes[node].ownership().owns(instance.id.shard());
            let Some(owner) = self.ready().into_iter().find(owns) else {
                all += &format!("\n  instance {} has no owner", instance.id);
                continue;
            };
            let asked = instance.clone();
            let told = self.ask(owner, Duration::from_secs(20), move |engine| async move {
                let row = engine.directory().instance_by_id(asked.id).await;
                let view = engine.observe(&asked).await;
                let filter = ListFilter {
                    instances: vec![asked.id],
                    ..ListFilter::default()
                };
                let request = ListRequest {
                    filter,
                    before: None,
                    skip: 0,
                    limit: 10_000,
                };
                let page = engine.store().list(request).await.unwrap_or_default();
                let mut waiting = page.messages;
                waiting.retain(|it| !it.state.status.is_settled());
                let mut reasons = Vec::new();
                for record in waiting.iter().rev().take(TOLD) {
                    let reason = engine.waiting_for(record).await;
                    reasons.push(format!("{} {:?} {reason:?}", record.id(), record.state));
                }
                let paused = row.ok().flatten().map(|row| row.paused);
                format!(
                    "paused {paused:?}, {view:?}, {} wait: {reasons:?}",
                    waiting.len()
                )
            });
            all += &format!("\n  instance {} at node {}: {told:?}", instance.id, owner.0);
        }
        all
    }
}
