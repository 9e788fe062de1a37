//! From the request to the stored status of its messages.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::driver::{Driving, Plan, Until};
use crate::figure::{Figure, Reach};
use crate::measure::{Stretch, each};
use crate::runs::accept::{CONNECTIONS, INSTANCES, closed};
use crate::runs::{Run, tell};
use crate::site::{Keeping, Site, Speed, Way};
use crate::workload::BULK;

const BENCH: &str = "e2e";

/// How often is looked whether all is sent.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn run(run: Run) -> Result<()> {
    let folder = run.folder()?;
    let data = Keeping::Folder(folder.path().join("data"));
    let site = Site::listening(&data, Way::Simulator, INSTANCES, Speed::Unlimited).await?;
    let wanted = run.count(1_000_000, 50_000_u64);
    let plan = closed(&site, BULK, 0.0)?;
    let plan = Plan {
        until: Until::Accepted(wanted / BULK as u64),
        warm_up: 0.0,
        ..plan
    };
    let stretch = Stretch::begin()?;
    let driven = Driving::start(plan).await?.end().await?.all_accepted()?;
    let accepted = stretch.took().as_secs_f64();
    site.wait_for_sent(driven.messages, LOOK).await?;
    let took = stretch.took().as_secs_f64();
    let server = each(stretch.cpu()?, driven.messages);
    let threads = stretch.by_thread(driven.messages);
    let foreign = stretch.foreign(Duration::from_micros(driven.cpu_us))?;
    site.close().await?;
    let how = json!({
        "messages": driven.messages, "connections": CONNECTIONS, "instances": INSTANCES,
        "seconds": took, "seconds_accepting": accepted, "server_cpu_us_per_message": server,
        "driver_cpu_us_per_message": driven.cpu_each(), "server_cpu_us_by_thread": threads,
        "foreign_cpu": foreign,
    });
    // CPU-seconds a million messages are microseconds a message.
    let all = server + driven.cpu_each();
    tell(
        &Figure::new(BENCH, "cpu", all, "CPU-s/million", how.clone())
            .reaching(Reach::AtMost(10.0))
            .costing(all),
    );
    let rate = driven.messages as f64 / took;
    tell(&Figure::new(BENCH, "messages", rate, "messages/s", how).costing(all));
    Ok(())
}
