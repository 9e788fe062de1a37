//! Over CQL: how fast bulks are accepted, beside one insert a message; and what a message asks of
//! the database until it is settled.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::{Channel, Cluster};
use crate::driver::{Driven, Driving, Pace, Plan, Until};
use crate::figure::{Figure, Reach};
use crate::measure::{Stretch, each};
use crate::runs::accept::{CONNECTIONS, INSTANCES};
use crate::runs::{Run, tell};
use crate::site::Speed;
use crate::workload::{BULK, instance_name};

mod peer;
mod requests;

pub(super) use requests::run as requests;

const BENCH: &str = "cql_accept_bulk";

/// Seconds before anything is counted: the server compiles what is often done meanwhile.
const WARM_UP: f64 = 5.0;

/// A load for the only node of a cluster.
fn plan(cluster: &Cluster, instances: usize, messages: usize, until: Until) -> Result<Plan> {
    let address = cluster.nodes.node(1).at().api();
    Ok(Plan {
        address: address.context("the node runs")?,
        key: cluster.nodes.account.key.clone(),
        connections: CONNECTIONS,
        messages,
        instances: (0..instances).map(instance_name).collect(),
        pace: Pace::Closed,
        until,
        warm_up: 0.0,
    })
}

/// What a node did under load.
struct Loaded {
    driven: Driven,
    /// Microseconds of the node's CPU a message.
    cpu_each: f64,
    /// The share of the machine's time that was not this node's nor the driver's: the server's, and
    /// that of others.
    others: f64,
}

async fn accepting(cluster: &Cluster, instances: usize, seconds: f64) -> Result<Loaded> {
    let plan = Plan {
        warm_up: WARM_UP,
        ..plan(cluster, instances, BULK, Until::Seconds(seconds))?
    };
    let driving = Driving::start(plan).await?;
    let (stretch, before) = (Stretch::begin()?, cluster.cpu()?);
    let driven = driving.end().await?.all_accepted()?;
    let cpu = cluster.cpu()? - before;
    let others = stretch.foreign(cpu + Duration::from_micros(driven.cpu_us))?;
    let cpu_each = each(cpu, driven.messages);
    Ok(Loaded {
        driven,
        cpu_each,
        others,
    })
}

/// Bulks between two runs of the peer: a server that changed its speed meanwhile shows.
pub(super) async fn accept_bulk(run: Run) -> Result<()> {
    let seconds = run.seconds(20.0, 4.0);
    let instances = run.count(INSTANCES, 200);
    let mut cluster = Cluster::start(1).await?;
    cluster
        .populate(instances, Speed::Still, Channel::Within)
        .await?;
    let peer = peer::Inserts::prepare(&cluster.server.cql).await?;
    peer.run(WARM_UP).await?;
    let before = peer.run(seconds).await?;
    let ours = accepting(&cluster, instances, seconds).await?;
    let after = peer.run(seconds).await?;
    let limit = (before.rate + after.rate) / 2.0;
    let how = how(&ours, instances, [&before, &after]);
    let figure = Figure::new(BENCH, "messages", ours.driven.rate(), "messages/s", how);
    tell(
        &figure
            .beside("one insert a message", limit)
            .reaching(Reach::AtLeast(10.0))
            .costing(ours.cpu_each),
    );
    Ok(())
}

fn how(ours: &Loaded, instances: usize, peers: [&peer::Inserted; 2]) -> Value {
    json!({
        "seconds": ours.driven.seconds, "connections": CONNECTIONS, "instances": instances,
        "p50_us": ours.driven.p50_us, "p99_us": ours.driven.p99_us, "max_us": ours.driven.max_us,
        "driver_cpu_us_per_message": ours.driven.cpu_each(), "server_and_others": ours.others,
        "inserts": {
            "at_once": peer::AT_ONCE, "per_second": peers.map(|peer| peer.rate.round()),
            "p50_us": peers.map(|peer| peer.p50_us), "p99_us": peers.map(|peer| peer.p99_us),
            "cpu_us_each": peers.map(|peer| peer.cpu_each),
        },
    })
}
