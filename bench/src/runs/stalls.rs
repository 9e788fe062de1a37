//! Accepting without stalls, while everything is sent.

use anyhow::Result;
use serde_json::json;

use crate::figure::{Figure, Reach};
use crate::measure::median;
use crate::runs::accept::{CONNECTIONS, INSTANCES, closed, load};
use crate::runs::{Run, tell};
use crate::site::{Keeping, Site, Speed, Way};
use crate::workload::BULK;

const BENCH: &str = "accept_stalls";

pub(super) async fn run(run: Run) -> Result<()> {
    let folder = run.folder()?;
    let data = Keeping::Folder(folder.path().join("data"));
    let site = Site::listening(&data, Way::Simulator, INSTANCES, Speed::Unlimited).await?;
    let loaded = load(closed(&site, BULK, run.seconds(60.0, 4.0))?).await?;
    let totals = site.totals().await?;
    site.close().await?;
    let rates: Vec<f64> = loaded
        .driven
        .by_second
        .iter()
        .map(|second| second.messages as f64)
        .collect();
    let worst = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let mut how = loaded.how(CONNECTIONS, INSTANCES);
    how["messages_by_second"] = json!(rates);
    how["sent_meanwhile"] = json!(totals.of(zajil_model::lifecycle::Status::Sent));
    tell(
        &Figure::new(BENCH, "worst_second", worst, "messages/s", how.clone())
            .beside("median second", median(&rates))
            .reaching(Reach::AtLeast(0.7))
            .costing(loaded.cpu_each),
    );
    let slowest = loaded.driven.max_us as f64 / 1e3;
    tell(&Figure::new(BENCH, "worst_answer", slowest, "ms", how).reaching(Reach::AtMost(100.0)));
    Ok(())
}
