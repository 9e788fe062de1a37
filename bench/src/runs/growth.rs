//! The same load over more and more instances: what a message costs.

use anyhow::Result;
use serde_json::json;

use crate::driver::{Pace, Plan};
use crate::figure::{Figure, Reach};
use crate::runs::accept::{CONNECTIONS, closed, load};
use crate::runs::{Run, tell};
use crate::site::{Keeping, Site, Speed, Way};
use crate::workload::BULK;

const BENCH: &str = "growth";

/// Bulks a second: a third of what a small machine can do.
const RATE: f64 = 500.0;

pub(super) async fn run(run: Run) -> Result<()> {
    let sizes = run.count([100, 1_000, 10_000], [100, 300, 1_000]);
    let mut first = None;
    for instances in sizes {
        let folder = run.folder()?;
        let data = Keeping::Folder(folder.path().join("data"));
        let site = Site::listening(&data, Way::Simulator, instances, Speed::Still).await?;
        let plan = closed(&site, BULK, run.seconds(20.0, 2.0))?;
        // Every instance is awake before anything is counted.
        let warm_up = plan.warm_up.max(1.5 * instances as f64 / RATE);
        let loaded = load(Plan {
            pace: Pace::Open(RATE),
            warm_up,
            ..plan
        })
        .await?;
        site.close().await?;
        let mut how = loaded.how(CONNECTIONS, instances);
        how["offered_per_second"] = json!(RATE * BULK as f64);
        let fewest = *first.get_or_insert(loaded.cpu_each);
        let figure = match instances {
            10_000 => "cpu_10k",
            1_000 => "cpu_1k",
            _ => "cpu_least",
        };
        tell(
            &Figure::new(BENCH, figure, loaded.cpu_each, "us/message", how)
                .beside("with the fewest instances", fewest)
                .reaching(Reach::AtMost(1.3))
                .costing(loaded.cpu_each),
        );
    }
    Ok(())
}
