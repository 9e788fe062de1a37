//! A node that does not own the instance: what asking the owner adds to a single send.
//!
//! The window of the key belongs to a third node, so that both ways ask for it alike, and the only
//! difference is the hop.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};
use zajil_model::id::Shard;
use zajil_tests::operator::UNLIMITED;

use crate::cluster::load::Sender;
use crate::cluster::{Channel, Cluster};
use crate::driver::{Driven, Driving, Pace, Plan, Until};
use crate::figure::{Figure, Reach};
use crate::measure::{Stretch, each, median, now};
use crate::runs::{Run, WARM_UP, tell};
use crate::site::Speed;
use crate::workload::instance_name;

const BENCH: &str = "hop";

/// Who owns the instances, who does not, and who owns the window of the key.
const OWNER: u8 = 1;
const OTHER: u8 = 2;
const KEEPER: u8 = 3;

/// Instances: a third of them is at each node, on shards of their own.
const INSTANCES: usize = 180;

/// Connections of the load.
const CONNECTIONS: usize = 16;

/// Keys that are made at most until one has its window at the third node: one in some hundred is on a
/// shard whose owner is known.
const KEYS: usize = 200;

/// How long an instance may take to be at work.
const AWAKE: Duration = Duration::from_secs(60);

/// How often is looked whether it is.
const LOOK: Duration = Duration::from_millis(200);

/// What one way of a send cost.
#[derive(Default)]
struct Way {
    /// Microseconds of CPU a send, of all nodes, what they use at rest taken off; of each turn.
    cpu: Vec<f64>,
    /// Microseconds until the answer, the middle of each turn.
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(super) async fn run(run: Run) -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    cluster
        .populate(INSTANCES, Speed::Still, Channel::Within)
        .await?;
    let at = awake(&cluster).await?;
    let of_owner = at.iter().filter(|(_, (_, node))| *node == OWNER);
    let names: Vec<_> = of_owner.map(|(_, (name, _))| name.clone()).collect();
    let key = key(&cluster, &at).await?;
    let (rate, seconds) = (run.count(400.0, 200.0), run.seconds(10.0, 4.0));
    let rest = at_rest(&cluster, seconds).await?;
    let stretch = cluster.together()?;
    let mut ways = [Way::default(), Way::default()];
    // The first turn of each way finds everything cold.
    for warm in std::iter::once(false).chain(std::iter::repeat_n(true, run.count(5, 3))) {
        for (way, node) in ways.iter_mut().zip([OWNER, OTHER]) {
            let address = cluster.nodes.node(node).at().api();
            let plan = Plan {
                address: address.context("the node runs")?,
                key: key.clone(),
                connections: CONNECTIONS,
                messages: 1,
                instances: names.clone(),
                pace: Pace::Open(rate),
                until: Until::Seconds(seconds),
                warm_up: WARM_UP,
            };
            let turn = turn(&cluster, plan, rest).await?;
            if warm {
                way.add(&turn);
            }
        }
    }
    let how = json!({
        "requests_per_second": rate, "seconds_each": seconds, "instances": names.len(),
        "connections": CONNECTIONS, "cpu_at_rest": rest, "others": stretch.others()?,
    });
    figures(&ways, how);
    Ok(())
}

impl Way {
    fn add(&mut self, turn: &Turn) {
        self.cpu.push(turn.cpu_each);
        self.p50.push(turn.driven.p50_us as f64);
        self.p99.push(turn.driven.p99_us as f64);
    }
}

/// What one turn did.
struct Turn {
    driven: Driven,
    cpu_each: f64,
}

/// Puts the nodes under load for a while; at rest they use `rest` of a processor.
async fn turn(cluster: &Cluster, plan: Plan, rest: f64) -> Result<Turn> {
    let driving = Driving::start(plan).await?;
    let (stretch, before) = (Stretch::begin()?, cluster.cpu()?);
    let driven = driving.end().await?.all_accepted()?;
    let used = (cluster.cpu()? - before).as_secs_f64() - rest * stretch.took().as_secs_f64();
    let cpu_each = each(Duration::from_secs_f64(used.max(0.0)), driven.messages);
    Ok(Turn { driven, cpu_each })
}

/// CPU that all nodes together use in a second without load.
async fn at_rest(cluster: &Cluster, seconds: f64) -> Result<f64> {
    let (began, before) = (now(), cluster.cpu()?);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let used = cluster.cpu()? - before;
    Ok(used.as_secs_f64() / (now() - began).as_secs_f64())
}

/// Sends every instance something, and waits until all are at work: each with its name and node.
async fn awake(cluster: &Cluster) -> Result<BTreeMap<u64, (String, u8)>> {
    let sender = Sender::new(cluster.nodes.customer.clone());
    // Two of them: the second waits for an hour, and keeps its instance at work.
    sender.feed(&cluster.nodes.instances, 2).await?;
    let began = now();
    loop {
        let at = cluster.at_work().await;
        if at.len() == INSTANCES {
            let names = (0..).map(instance_name);
            let named = cluster.nodes.instances.iter().zip(names);
            return Ok(named
                .filter_map(|(id, name)| Some((*id, (name, *at.get(id)?))))
                .collect());
        }
        anyhow::ensure!(
            now() - began < AWAKE,
            "{} of {INSTANCES} instances are at work",
            at.len()
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// A key whose window is at the third node.
async fn key(cluster: &Cluster, at: &BTreeMap<u64, (String, u8)>) -> Result<String> {
    let shards: BTreeMap<Shard, u8> = at
        .iter()
        .map(|(id, (_, node))| (Shard::of(*id), *node))
        .collect();
    let operator = cluster.nodes.node(OWNER).operator();
    let body = json!({
        "name": "hop", "permissions": ["send_message"], "rate_limit": UNLIMITED,
    });
    for _ in 0..KEYS {
        let made = operator
            .dashboard(
                cluster.nodes.account.id,
                Method::POST,
                "/api-keys",
                Some(body.clone()),
            )
            .await
            .expect_status(201)
            .data();
        let id = made["id"].as_u64().context("a key has an id")?;
        if shards.get(&Shard::of(id)) == Some(&KEEPER) {
            let text = made["key"].as_str().context("a new key is shown")?;
            return Ok(text.to_owned());
        }
    }
    anyhow::bail!("of {KEYS} keys none has its window at node {KEEPER}")
}

fn figures(ways: &[Way; 2], mut how: Value) {
    let [owner, other] = ways;
    how["cpu_us_each"] = json!({ "owner": owner.cpu, "other": other.cpu });
    how["p50_us"] = json!({ "owner": owner.p50, "other": other.p50 });
    how["p99_us"] = json!({ "owner": owner.p99, "other": other.p99 });
    let cpu = median(&other.cpu);
    tell(
        &Figure::new(BENCH, "cpu", cpu, "us/message", how.clone())
            .beside("at the owner", median(&owner.cpu))
            .reaching(Reach::AtMost(1.3))
            .costing(cpu),
    );
    let more = (median(&other.p50) - median(&owner.p50)) / 1e3;
    tell(&Figure::new(BENCH, "more_at_p50", more, "ms", how).reaching(Reach::AtMost(1.0)));
}
