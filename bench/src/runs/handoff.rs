//! A node is asked to stop under load: how long its instances send nothing, and whether anybody notices.
//!
//! Every message goes to somebody new, so none waits for another one of its recipient. The pause of
//! an instance is the longest gap between two hand-overs, less the gap that its pace makes.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use zajil_tests::clock::wall_micros;

use crate::figure::{Figure, Reach};
use crate::measure::micros;
use crate::runs::rounds::{NODES, RATE, Set, Stage, rounds, tell_none};
use crate::runs::{Run, tell};

const BENCH: &str = "handoff";

/// Instances.
const INSTANCES: usize = 60;

/// How long each queue lasts: it must not run dry while a node stops, which takes 20 s at most.
const QUEUED: f64 = 30.0;

/// How long is looked before the signal: what gaps the machine makes anyhow.
const BEFORE: Duration = Duration::from_secs(3);

/// How long is looked after the process ended.
const AFTER: Duration = Duration::from_secs(2);

/// How long an instance that sends nothing is waited for after that.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pauses of all rounds, in microseconds.
struct Pauses {
    /// Of instances that were handed over.
    moved: Histogram<u64>,
    /// Of the same before the signal.
    before: Histogram<u64>,
    /// Of the others meanwhile.
    others: Histogram<u64>,
    /// Instances whose queue ran dry, so that their gaps say nothing.
    dry: u64,
}

pub(super) async fn run(run: Run) -> Result<()> {
    let mut stage = Stage::set_up(INSTANCES, QUEUED).await?;
    let stretch = stage.cluster.together()?;
    let posting = stage.post();
    let mut pauses = Pauses {
        moved: micros(),
        before: micros(),
        others: micros(),
        dry: 0,
    };
    let mut told = Vec::new();
    for round in 0..rounds(&run) {
        let set = stage.begin(round).await?;
        told.push(stop(&mut stage, &set, &mut pauses).await?);
        stage.cluster.nodes.start(set.victim).await?;
    }
    posting.stop().await;
    let ended = stage.end().await?;
    let mut how = json!({
        "nodes": NODES, "instances": INSTANCES, "per_second": RATE, "seconds": stretch.took().as_secs_f64(),
        "others": stretch.others()?,
        "samples": pauses.moved.len(), "ran_dry": pauses.dry,
        "p50_ms": at(&pauses.moved, 0.5), "max_ms": at(&pauses.moved, 1.0),
        "p99_ms_before": at(&pauses.before, 0.99), "p99_ms_of_others": at(&pauses.others, 0.99),
        "rounds": told,
    });
    how["ended"] = ended.how.clone();
    let p99 = at(&pauses.moved, 0.99);
    let figure = Figure::new(BENCH, "pause_p99", p99, "ms", how.clone());
    tell(&figure.reaching(Reach::AtMost(300.0)));
    tell_none(BENCH, "failed_requests", ended.failed, &how);
    tell_none(BENCH, "lost", ended.lost as u64, &how);
    tell_none(BENCH, "shown_twice", ended.shown_twice as u64, &how);
    // Who does not know what became of a frame sends it again, or says that it is unknown.
    tell_none(BENCH, "ambiguous", ended.again + ended.unknown, &how);
    Ok(())
}

/// Stops the node, and measures the pauses of all instances.
async fn stop(stage: &mut Stage, set: &Set, pauses: &mut Pauses) -> Result<Value> {
    let from = wall_micros();
    tokio::time::sleep(BEFORE).await;
    let asked = wall_micros();
    stage.cluster.nodes.stop(set.victim).await?;
    let ended = wall_micros();
    tokio::time::sleep(AFTER).await;
    let until = wall_micros();
    let all = stage.cluster.nodes.instances.clone();
    // Whoever pauses has to go on, or nobody knows for how long.
    stage.await_hand_overs(&all, until, PATIENCE).await?;
    let mut worst = 0;
    for instance in &all {
        let stamps = stage.seen.hand_overs(*instance);
        if stamps.len() - stamps.partition_point(|at| *at < set.fed) >= stage.queued {
            pauses.dry += 1;
            continue;
        }
        let pause = longest(&stamps, asked, until);
        if !set.instances.contains(instance) {
            pauses.others.saturating_record(pause);
            continue;
        }
        worst = worst.max(pause);
        pauses.moved.saturating_record(pause);
        pauses
            .before
            .saturating_record(longest(&stamps, from, asked));
    }
    Ok(json!({
        "node": set.victim, "share": set.share, "asked_at": asked, "stopped_s": (ended - asked) as f64 / 1e6,
        "worst_ms": worst as f64 / 1e3,
    }))
}

/// The longest pause that began or ended in a span, in microseconds; one whose end was not seen lasted
/// as long as it was waited for.
fn longest(stamps: &[i64], from: i64, to: i64) -> u64 {
    let gap = (1e6 / RATE) as u64;
    let first = stamps.partition_point(|at| *at <= from).saturating_sub(1);
    let last = stamps.partition_point(|at| *at < to);
    let Some(within) = stamps.get(first..=last) else {
        return PATIENCE.as_micros() as u64;
    };
    let gaps = within.windows(2).map(|pair| pair[1].abs_diff(pair[0]));
    gaps.max().unwrap_or_default().saturating_sub(gap)
}

/// A quantile in milliseconds.
fn at(pauses: &Histogram<u64>, quantile: f64) -> f64 {
    pauses.value_at_quantile(quantile) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_what_a_gap_has_above_that_of_the_pace() {
        let stamps = [0, 100_000, 200_000, 550_000, 650_000];

        assert_eq!(longest(&stamps, 150_000, 600_000), 250_000);
        assert_eq!(longest(&stamps, 50_000, 150_000), 0);
    }

    #[test]
    fn a_pause_whose_end_nobody_saw_lasts_as_long_as_it_was_waited_for() {
        let stamps = [0, 100_000, 200_000];

        let pause = longest(&stamps, 50_000, 300_000);

        assert_eq!(pause, PATIENCE.as_micros() as u64);
    }
}
