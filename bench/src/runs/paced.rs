//! Sending at the pace of each instance: how much of it is used, and how evenly.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tempfile::TempDir;
use zajil_model::instance::Instance;

use crate::courier::HandOver;
use crate::figure::{Figure, Reach};
use crate::jitter::{self, gap_error};
use crate::measure::{Stretch, each, micros};
use crate::runs::{Run, WARM_UP, tell};
use crate::site::{Keeping, Site, Speed, Way};

mod changes;

/// How long the bare loops are measured, before and after.
const BARE: f64 = 5.0;

/// Some instances with full queues, that stand still.
struct Ready {
    site: Arc<Site>,
    /// Hand-overs a second of each.
    rate: f64,
    /// Kept for as long as the site.
    _folder: TempDir,
}

impl Ready {
    async fn new(run: &Run, instances: usize, rate: f64, seconds: f64) -> Result<Self> {
        let folder = run.folder()?;
        let data = Keeping::Folder(folder.path().join("data"));
        let mut site = Site::open(&data, Way::Courier).await?;
        site.populate(instances, Speed::PerSecond(rate), true)
            .await?;
        // Twice the rate that any is changed to, so that no queue runs dry.
        let backlog = rate * (seconds + WARM_UP + 10.0) * 2.0;
        site.fill(&site.instances, backlog.ceil() as usize).await?;
        Ok(Self {
            site: Arc::new(site),
            rate,
            _folder: folder,
        })
    }

    async fn close(self) -> Result<()> {
        match Arc::into_inner(self.site) {
            Some(site) => site.close().await,
            None => Ok(()),
        }
    }
}

/// A stretch of time in which hand-overs are counted, as they are stamped.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn seconds(self) -> f64 {
        (self.to - self.from) as f64 / 1e6
    }

    fn holds(self, at: u64) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// What some instances did in a span.
struct Paced {
    /// The smallest share of its rate that any of them used.
    least_share: f64,
    /// All of them together.
    share: f64,
    /// By how much the gaps were wrong, in microseconds.
    gaps: Histogram<u64>,
    /// By how many hand-overs at most a window held more than its rate alone allows.
    excess: f64,
    sends: u64,
}

impl Paced {
    fn of(site: &Site, instances: &[Arc<Instance>], rate: f64, span: Span) -> Self {
        let allowed = rate * span.seconds();
        let gap = Duration::from_secs_f64(1.0 / rate);
        let (mut least_share, mut sends) = (f64::INFINITY, 0);
        let (mut gaps, mut excess) = (micros(), 0.0_f64);
        for instance in instances {
            let all = site.book.of(instance.id);
            excess = excess.max(most_above(rate, &all));
            let within: Vec<_> = all.iter().filter(|one| span.holds(one.at)).collect();
            least_share = least_share.min(within.len() as f64 / allowed);
            sends += within.len() as u64;
            for pair in within.windows(2) {
                let between = Duration::from_micros(pair[1].at - pair[0].at);
                gaps.saturating_record(gap_error(between, gap));
            }
        }
        let share = sends as f64 / (allowed * instances.len() as f64);
        Self {
            least_share,
            share,
            gaps,
            excess,
            sends,
        }
    }
}

/// The most by which the hand-overs of any window exceed its rate: at most the burst and one.
pub(super) fn most_above(rate: f64, hand_overs: &[HandOver]) -> f64 {
    let (mut most, mut lowest) = (0.0_f64, f64::INFINITY);
    for (n, one) in hand_overs.iter().enumerate() {
        let ahead = n as f64 - rate * one.at as f64 / 1e6;
        lowest = lowest.min(ahead);
        most = most.max(ahead - lowest + 1.0);
    }
    most
}

/// The hand-overs that any window may hold above its rate, at a burst of 1.
pub(super) const MOST_ABOVE: f64 = 2.0;

fn figures(bench: &'static str, paced: &Paced, cpu: f64, bare: &Histogram<u64>, how: &Value) {
    tell(
        &Figure::new(
            bench,
            "least_share",
            paced.least_share,
            "of the rate",
            how.clone(),
        )
        .reaching(Reach::AtLeast(0.99))
        .costing(cpu),
    );
    tell(
        &Figure::new(
            bench,
            "most_above_rate",
            paced.excess,
            "hand-overs",
            how.clone(),
        )
        .reaching(Reach::AtMost(MOST_ABOVE)),
    );
    tell(
        &Figure::new(
            bench,
            "gap_error_p99",
            paced.gaps.value_at_quantile(0.99) as f64,
            "us",
            how.clone(),
        )
        .beside("bare tokio loops", bare.value_at_quantile(0.99) as f64)
        .reaching(Reach::AtMost(3.0)),
    );
    tell(&Figure::new(bench, "cpu", cpu, "us/send", how.clone()).reaching(Reach::AtMost(20.0)));
}

pub(super) async fn thousand(run: Run) -> Result<()> {
    let (instances, rate) = (run.count(1_000, 200), 10.0);
    let seconds = run.seconds(60.0, 4.0);
    let every = Duration::from_secs_f64(1.0 / rate);
    let before = jitter::of_bare_loops(instances, every, BARE.min(seconds)).await;
    let ready = Ready::new(&run, instances, rate, seconds).await?;
    let site = ready.site.clone();
    site.set_paused(&site.instances, false).await?;
    tokio::time::sleep(Duration::from_secs_f64(WARM_UP)).await;
    let (stretch, from) = (Stretch::begin()?, site.book.now());
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let span = Span {
        from,
        to: site.book.now(),
    };
    let (cpu, foreign) = (stretch.cpu()?, stretch.foreign(Duration::ZERO)?);
    let paced = Paced::of(&site, &site.instances, ready.rate, span);
    let threads = stretch.by_thread(paced.sends);
    drop(site);
    ready.close().await?;
    let after = jitter::of_bare_loops(instances, every, BARE.min(seconds)).await;
    let p99s = [&before, &after].map(|bare| bare.value_at_quantile(0.99));
    let mut bare = before;
    bare.add(after)?;
    let how = json!({
        "seconds": span.seconds(), "instances": instances, "per_second": rate,
        "sends": paced.sends, "share_of_all": paced.share,
        "gap_error_p50_us": paced.gaps.value_at_quantile(0.5),
        "gap_error_max_us": paced.gaps.max(),
        "bare_gap_error_p50_us": bare.value_at_quantile(0.5), "cpu_us_by_thread": threads,
        "foreign_cpu": foreign, "bare_gap_error_p99_us_before_and_after": p99s,
    });
    figures("paced_1k", &paced, each(cpu, paced.sends), &bare, &how);
    Ok(())
}

pub(super) async fn ten_thousand(run: Run) -> Result<()> {
    changes::run(run).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(times: &[u64]) -> Vec<HandOver> {
        times
            .iter()
            .map(|at| HandOver { at: *at, wait: 0 })
            .collect()
    }

    #[test]
    fn an_even_pace_is_one_above_its_rate() {
        assert_eq!(most_above(10.0, &at(&[0, 100_000, 200_000, 300_000])), 1.0);
    }

    #[test]
    fn a_burst_anywhere_shows() {
        let times = [0, 100_000, 300_000, 300_000, 300_000, 400_000];

        assert!((most_above(10.0, &at(&times)) - 3.0).abs() < 1e-9);
    }
}
