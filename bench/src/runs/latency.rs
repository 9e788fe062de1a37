//! How long an answer takes when the node is half busy.

use anyhow::Result;
use serde_json::json;

use crate::disk::{SMALL_BLOCK, sync};
use crate::driver::{Pace, Plan};
use crate::figure::{Figure, Reach};
use crate::runs::accept::{CONNECTIONS, INSTANCES, Loaded, closed, highest_single, load};
use crate::runs::{Run, tell};
use crate::site::{Keeping, Site, Speed, Way};

const BENCH: &str = "accept_latency";

pub(super) async fn run(run: Run) -> Result<()> {
    let folder = run.folder()?;
    let disk = sync(folder.path(), SMALL_BLOCK, run.seconds(3.0, 1.0).min(3.0))?;
    let write = disk.times.value_at_quantile(0.5) as f64;
    let data = Keeping::Folder(folder.path().join("data"));
    let site = Site::listening(&data, Way::Simulator, INSTANCES, Speed::Still).await?;
    let half = highest_single(&site, run.seconds(5.0, 1.0).min(5.0)).await? / 2.0;
    let plan = closed(&site, 1, run.seconds(60.0, 3.0))?;
    let loaded = load(Plan {
        pace: Pace::Open(half),
        ..plan
    })
    .await?;
    site.close().await?;
    let front = front(half, run.seconds(10.0, 1.0).min(10.0)).await?;
    let mut how = loaded.how(CONNECTIONS, INSTANCES);
    how["offered_per_second"] = json!(half.round());
    how["front_us"] = json!({
        "p50": front.driven.p50_us, "p99": front.driven.p99_us, "max": front.driven.max_us,
    });
    let seconds = &loaded.driven.by_second;
    how["p99_us_by_second"] = json!(seconds.iter().map(|one| one.p99_us).collect::<Vec<_>>());
    how["synced_write_us"] = json!({
        "bytes": SMALL_BLOCK, "p50": write, "p99": disk.times.value_at_quantile(0.99),
    });
    let figures = [
        ("p50", loaded.driven.p50_us, 3.0),
        ("p99", loaded.driven.p99_us, 10.0),
    ];
    for (figure, value, most) in figures {
        tell(
            &Figure::new(BENCH, figure, value as f64, "us", how.clone())
                .beside("synced write of 25 KB", write)
                .reaching(Reach::AtMost(most))
                .costing(loaded.cpu_each),
        );
    }
    Ok(())
}

/// The front at the same rate: what the machine and the load themselves make an answer wait.
async fn front(rate: f64, seconds: f64) -> Result<Loaded> {
    let site = Site::listening(&Keeping::Nothing, Way::Simulator, INSTANCES, Speed::Still).await?;
    let plan = Plan {
        pace: Pace::Open(rate),
        ..closed(&site, 1, seconds)?
    };
    let loaded = load(plan).await?;
    site.close().await?;
    Ok(loaded)
}
