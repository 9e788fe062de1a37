//! Ten thousand instances, a tenth of which are changed while they send.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde_json::json;
use zajil_model::instance::Instance;

use super::{Paced, Ready, Span, figures};
use crate::crowd;
use crate::figure::{Figure, Reach};
use crate::jitter;
use crate::measure::{Stretch, each, micros};
use crate::runs::{Run, WARM_UP, tell};
use crate::site::{Site, Speed};

const BENCH: &str = "paced_10k";

/// How soon a change has to be in force, in milliseconds.
const IN_FORCE: f64 = 100.0;

/// The rate that some are changed to: twice as fast.
const FASTER: f64 = 2.0;

/// A change of some instances: how long each took, and what went out although it was forbidden.
struct Changed {
    took: Histogram<u64>,
    /// When the last one was in force, as hand-overs are stamped.
    done: u64,
}

async fn change(
    site: &Arc<Site>,
    instances: &[Arc<Instance>],
    change: impl Fn(&mut Instance) + Clone + Send + Sync + 'static,
) -> Result<Changed> {
    let took = Arc::new(Mutex::new(micros()));
    let (all, of) = (took.clone(), site.clone());
    crowd::each(instances.to_vec(), move |instance| {
        let (site, took, change) = (of.clone(), took.clone(), change.clone());
        async move {
            let began = site.book.now();
            site.change(&instance, change).await?;
            took.lock().saturating_record(site.book.now() - began);
            Ok(())
        }
    })
    .await?;
    let took = all.lock().clone();
    Ok(Changed {
        took,
        done: site.book.now(),
    })
}

pub(super) async fn run(run: Run) -> Result<()> {
    let (instances, rate) = (run.count(10_000, 1_000), 1.0);
    let seconds = run.seconds(60.0, 6.0);
    let bare_seconds = super::BARE.min(seconds);
    let every = Duration::from_secs(1);
    let bare = jitter::of_bare_loops(instances, every, bare_seconds).await;
    let ready = Ready::new(&run, instances, rate, seconds).await?;
    let site = ready.site.clone();
    site.set_paused(&site.instances, false).await?;
    tokio::time::sleep(Duration::from_secs_f64(WARM_UP)).await;
    let (changed, untouched) = site.instances.split_at(instances / 10);
    let (faster, paused) = changed.split_at(changed.len() / 2);
    let (stretch, from) = (Stretch::begin()?, site.book.now());
    let third = Duration::from_secs_f64(seconds / 3.0);
    tokio::time::sleep(third).await;
    let pace = Speed::PerSecond(FASTER).pace();
    let sped_up = change(&site, faster, move |instance| instance.pace = pace.clone()).await?;
    let stopped = change(&site, paused, |instance| instance.paused = true).await?;
    tokio::time::sleep(third).await;
    let before_resume = site.book.now();
    let resumed = change(&site, paused, |instance| instance.paused = false).await?;
    tokio::time::sleep(third).await;
    let span = Span {
        from,
        to: site.book.now(),
    };
    let (cpu, sends) = (stretch.cpu()?, site.book.count());
    let foreign = stretch.foreign(Duration::ZERO)?;
    let quiet = Span {
        from: stopped.done,
        to: before_resume,
    };
    let strays: usize = paused
        .iter()
        .map(|instance| site.book.of(instance.id))
        .map(|all| all.iter().filter(|one| quiet.holds(one.at)).count())
        .sum();
    let calm = Paced::of(&site, untouched, ready.rate, span);
    let fast = Paced::of(
        &site,
        faster,
        FASTER,
        Span {
            from: sped_up.done,
            to: span.to,
        },
    );
    let back = Paced::of(
        &site,
        paused,
        ready.rate,
        Span {
            from: resumed.done,
            to: span.to,
        },
    );
    drop(site);
    ready.close().await?;
    let how = json!({
        "seconds": span.seconds(), "instances": instances, "per_second": rate,
        "changed": instances / 10, "sends": sends, "share_of_all": calm.share,
        "share_after_change": fast.share, "share_after_resume": back.share,
        "gap_error_p50_us": calm.gaps.value_at_quantile(0.5),
        "bare_gap_error_p50_us": bare.value_at_quantile(0.5), "foreign_cpu": foreign,
    });
    figures(
        BENCH,
        &calm,
        each(cpu, calm.sends + fast.sends + back.sends),
        &bare,
        &how,
    );
    let mut took = sped_up.took;
    took.add(stopped.took)?;
    took.add(resumed.took)?;
    let slowest = took.max() as f64 / 1e3;
    tell(
        &Figure::new(BENCH, "change_in_force_max", slowest, "ms", how.clone())
            .reaching(Reach::AtMost(IN_FORCE)),
    );
    tell(
        &Figure::new(BENCH, "sent_while_paused", strays as f64, "hand-overs", how)
            .reaching(Reach::AtMost(0.0)),
    );
    Ok(())
}
