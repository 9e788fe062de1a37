//! The owner of a third of the instances is killed under load: how long until somebody else sends for
//! them, and what was lost or shown twice.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use zajil_tests::clock::wall_micros;

use crate::figure::{Figure, Reach};
use crate::measure::micros;
use crate::runs::rounds::{NODES, RATE, Set, Stage, rounds, tell_none};
use crate::runs::{Run, tell};

const BENCH: &str = "failover";

/// Instances.
const INSTANCES: usize = 60;

/// How long each queue lasts: it is full when the owner is killed.
const QUEUED: f64 = 12.0;

/// An instance that sends nothing for so long is counted with this.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(run: Run) -> Result<()> {
    let mut stage = Stage::set_up(INSTANCES, QUEUED).await?;
    let stretch = stage.cluster.together()?;
    let posting = stage.post();
    let (mut waits, mut told) = (micros(), Vec::new());
    for round in 0..rounds(&run) {
        let set = stage.begin(round).await?;
        let took = kill(&mut stage, &set).await?;
        told.push(json!({
            "node": set.victim, "share": set.share,
            "first_s": took.iter().min().map(|least| *least as f64 / 1e6),
            "last_s": took.iter().max().map(|most| *most as f64 / 1e6),
        }));
        took.iter().for_each(|took| waits.saturating_record(*took));
        stage.cluster.nodes.start(set.victim).await?;
    }
    posting.stop().await;
    let ended = stage.end().await?;
    let mut how = json!({
        "nodes": NODES, "instances": INSTANCES, "per_second": RATE, "seconds": stretch.took().as_secs_f64(),
        "others": stretch.others()?,
        "samples": waits.len(), "p50_s": waits.value_at_quantile(0.5) as f64 / 1e6,
        "max_s": waits.max() as f64 / 1e6, "rounds": told,
    });
    how["ended"] = ended.how.clone();
    let p99 = waits.value_at_quantile(0.99) as f64 / 1e6;
    let figure = Figure::new(BENCH, "first_send_p99", p99, "s", how.clone());
    tell(&figure.reaching(Reach::AtMost(10.0)));
    tell_none(BENCH, "lost", ended.lost as u64, &how);
    tell_none(BENCH, "shown_twice", ended.shown_twice as u64, &how);
    Ok(())
}

/// Kills the node; answers after how many microseconds each of its instances was sent for again.
async fn kill(stage: &mut Stage, set: &Set) -> Result<Vec<u64>> {
    let killed = stage.cluster.nodes.kill(set.victim).await;
    // What is stamped later is not the dead node's.
    let gone = wall_micros();
    let first = stage
        .await_hand_overs(&set.instances, gone, PATIENCE)
        .await?;
    let took = |at: Option<i64>| at.map_or(PATIENCE.as_micros() as u64, |at| at.abs_diff(killed));
    Ok(first.into_iter().map(took).collect())
}
