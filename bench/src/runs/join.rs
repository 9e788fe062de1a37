//! A fourth node joins under load: how long until each has its share, and whether any instance was ever
//! faster than it may be.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::cluster::load::Sender;
use crate::cluster::seen::Seen;
use crate::cluster::{Channel, Cluster};
use crate::courier::HandOver;
use crate::figure::{Figure, Reach};
use crate::measure::now;
use crate::runs::paced::{MOST_ABOVE, most_above};
use crate::runs::{Run, tell};
use crate::site::Speed;

const BENCH: &str = "join";

/// Nodes before it joins.
const NODES: u8 = 3;

/// Hand-overs a second of each instance.
const RATE: f64 = 5.0;

/// How long each queue lasts: longer than the joining may take.
const QUEUED: f64 = 80.0;

/// Within this all should have their share.
const WITHIN: f64 = 60.0;

/// How long is waited for it at most.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long all send before, and how long after is still looked at the paces.
const AROUND: Duration = Duration::from_secs(5);

pub(super) async fn run(run: Run) -> Result<()> {
    let instances = run.count(200, 60);
    let mut cluster = Cluster::start(NODES).await?;
    cluster
        .populate(instances, Speed::PerSecond(RATE), Channel::Ledger)
        .await?;
    let sender = Sender::new(cluster.nodes.customer.clone());
    let all = cluster.nodes.instances.clone();
    sender.feed(&all, (QUEUED * RATE) as usize).await?;
    tokio::time::sleep(AROUND).await;
    let (stretch, began) = (cluster.together()?, now());
    cluster.nodes.join().await?;
    let ready = (now() - began).as_secs_f64();
    let even = cluster.balanced(PATIENCE).await.map(|_| now() - began);
    let owned = cluster.owned().await;
    let others = stretch.others()?;
    tokio::time::sleep(AROUND).await;
    let mut seen = Seen::of(cluster.nodes.whatsapp.ledger())?;
    seen.catch_up()?;
    let excess = all
        .iter()
        .map(|one| most_above(RATE, &since_first(&seen.hand_overs(*one))));
    let excess = excess.fold(0.0, f64::max);
    let moved = cluster
        .at_work()
        .await
        .values()
        .filter(|node| **node > NODES)
        .count();
    let how = json!({
        "nodes": NODES, "instances": instances, "per_second": RATE, "ready_s": ready,
        "shards": owned, "instances_at_the_new_node": moved, "others": others,
        "frames_again": seen.again, "shown_twice": seen.shown_twice(),
    });
    let seconds = even.unwrap_or(PATIENCE).as_secs_f64();
    let figure = Figure::new(BENCH, "until_even", seconds, "s", how.clone());
    tell(&figure.reaching(Reach::AtMost(WITHIN)));
    let figure = Figure::new(BENCH, "most_above_rate", excess, "hand-overs", how);
    tell(&figure.reaching(Reach::AtMost(MOST_ABOVE)));
    Ok(())
}

/// Stamps of the wall clock as hand-overs, counted from the first.
fn since_first(stamps: &[i64]) -> Vec<HandOver> {
    let first = stamps.first().copied().unwrap_or_default();
    stamps
        .iter()
        .map(|at| HandOver {
            at: at.abs_diff(first),
            wait: 0,
        })
        .collect()
}
