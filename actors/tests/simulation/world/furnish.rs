//! What a world has before anything goes wrong: an account, instances, and drafts of campaigns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::Rng;
use zajil_actors::directory::NewInstance;
use zajil_actors::engine::Engine;
use zajil_model::id::AccountId;
use zajil_model::instance::{Instance, TransportKind, TransportSettings};
use zajil_model::pace::{PaceSpec, Per};

use super::{SHARDS, World};
use crate::customers::Customers;
use crate::customers::campaign::{Campaign, Plan};

/// Instances that are used.
const INSTANCES: usize = 5;

/// Campaigns of a world at most.
const CAMPAIGNS: usize = 2;

/// Instances of a campaign at most.
const SENDERS: usize = 4;

impl World {
    /// Makes an account and instances on the shards of this world, in quiet times.
    pub(crate) fn furnish(&mut self) -> Customers {
        let node = *self.nodes.keys().next().expect("a node runs");
        let paces: Vec<PaceSpec> = (0..INSTANCES).map(|_| self.some_pace()).collect();
        let made = self.ask(node, Duration::from_secs(120), move |engine| async move {
            furnish(&engine, paces).await
        });
        let (account, instances) = made.expect("a quiet world makes instances");
        let campaigns = self.plan_campaigns(&instances);
        let campaigns = self.ask(node, Duration::from_secs(120), move |engine| async move {
            make_campaigns(&engine, account, campaigns).await
        });
        let campaigns = campaigns.expect("a quiet world makes campaigns");
        let (oracle, wire) = (Arc::clone(&self.oracle), self.wire.clone());
        Customers::new(account, instances, campaigns, oracle, wire)
    }

    /// What campaigns there will be, each of some of the instances.
    fn plan_campaigns(&mut self, instances: &[Arc<Instance>]) -> Vec<(Plan, Vec<Arc<Instance>>)> {
        let random = &mut self.random;
        let count = random.random_range(1..=CAMPAIGNS);
        let plan = |_| {
            let senders = random.random_range(2..=SENDERS);
            let from = random.random_range(0..instances.len());
            let round = instances.iter().cycle().skip(from).take(senders);
            (Campaign::plan(random), round.cloned().collect())
        };
        (0..count).map(plan).collect()
    }

    fn some_pace(&mut self) -> PaceSpec {
        let count = [2.0, 5.0, 10.0, 30.0][self.random.random_range(0..4)];
        PaceSpec {
            count,
            per: Per::Second,
            burst: Some(self.random.random_range(1..4)),
            jitter: 0.0,
            daily_cap: None,
            time_zone: None,
        }
    }
}

async fn furnish(engine: &Engine, paces: Vec<PaceSpec>) -> (AccountId, Vec<Arc<Instance>>) {
    let directory = engine.directory();
    let account = directory.create_account("Acme").await;
    let account = account.expect("a quiet world makes accounts").id;
    let (mut instances, mut shards) = (Vec::new(), BTreeSet::new());
    for number in 0.. {
        let Some(pace) = paces.get(instances.len()) else {
            break;
        };
        let new = NewInstance {
            name: format!("shop-{number}"),
            transport: TransportKind::Simulator,
            settings: TransportSettings::default(),
            pace: pace.clone(),
            queue_while_disconnected: false,
        };
        let made = directory.create_instance(account, new).await;
        let made = made.expect("a quiet world makes instances");
        // The others are of shards that this world does not have.
        if made.id.shard().number() < SHARDS && shards.insert(made.id.shard()) {
            instances.push(made);
        }
    }
    (account, instances)
}

/// Drafts that are made at once until enough are of shards that this world has.
const DRAFTS: usize = 64;

async fn make_campaigns(
    engine: &Engine,
    account: AccountId,
    plans: Vec<(Plan, Vec<Arc<Instance>>)>,
) -> Vec<Campaign> {
    let mut campaigns = Vec::new();
    for (number, (plan, instances)) in plans.into_iter().enumerate() {
        let id = loop {
            let draft = |_| {
                let new = Campaign::new_batch(&plan, &instances);
                engine.batches().create(account, new)
            };
            let drafts = join_all((0..DRAFTS).map(draft)).await;
            let ids = drafts.into_iter().flatten().map(|view| view.record.id);
            let mut ids = ids.filter(|id| id.shard().number() < SHARDS);
            if let Some(id) = ids.next() {
                break id;
            }
        };
        campaigns.push(Campaign {
            number,
            id,
            instances: instances.iter().map(|instance| instance.id).collect(),
            plan,
            notes: Arc::default(),
        });
    }
    campaigns
}
