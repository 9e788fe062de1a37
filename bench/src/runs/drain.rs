//! Sending what is stored, without a pace.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::figure::{Figure, Reach};
use crate::measure::{Stretch, each};
use crate::runs::accept::INSTANCES;
use crate::runs::{Run, tell};
use crate::site::{Keeping, Site, Speed, Way};

const BENCH: &str = "drain";

/// How often is looked whether all is sent.
const LOOK: Duration = Duration::from_millis(50);

pub(super) async fn run(run: Run) -> Result<()> {
    let folder = run.folder()?;
    let mut site = Site::open(&Keeping::Folder(folder.path().join("data")), Way::Simulator).await?;
    site.populate(INSTANCES, Speed::Unlimited, true).await?;
    let messages = run.count(1_000_000, 50_000_u64);
    let filling = Stretch::begin()?;
    site.fill(&site.instances, messages as usize / INSTANCES)
        .await?;
    let filled = each(filling.cpu()?, messages);
    let site = Arc::new(site);
    // What the accepts left to do in the background is not the drain's.
    tokio::time::sleep(Duration::from_secs_f64(run.seconds(3.0, 1.0).min(3.0))).await;
    let stretch = Stretch::begin()?;
    site.set_paused(&site.instances, false).await?;
    site.wait_for_sent(messages, LOOK).await?;
    let (took, cpu) = (stretch.took().as_secs_f64(), stretch.cpu()?);
    let how = json!({
        "messages": messages, "instances": INSTANCES, "seconds": took,
        "cpu_seconds": cpu.as_secs_f64(), "accept_cpu_us_per_message": filled,
        "cpu_us_by_thread": stretch.by_thread(messages),
        "foreign_cpu": stretch.foreign(Duration::ZERO)?,
    });
    if let Some(site) = Arc::into_inner(site) {
        site.close().await?;
    }
    let per_core = messages as f64 / cpu.as_secs_f64();
    tell(
        &Figure::new(
            BENCH,
            "messages_per_core",
            per_core,
            "messages/s/core",
            how.clone(),
        )
        .reaching(Reach::AtLeast(150_000.0))
        .costing(each(cpu, messages)),
    );
    let rate = messages as f64 / took;
    tell(&Figure::new(BENCH, "messages", rate, "messages/s", how).costing(each(cpu, messages)));
    Ok(())
}
