//! Far more than fits: who is refused, what the others wait, and how soon it is over.

use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::driver::{Driven, Driving, Plan};
use crate::figure::{Figure, Reach};
use crate::measure::memory;
use crate::runs::accept::{CONNECTIONS, INSTANCES, closed, load};
use crate::runs::{Run, tell};
use crate::site::{Keeping, Site, Speed, Way};

const BENCH: &str = "overload";

/// Connections that all ask again as soon as they are answered, whatever the answer is: more than
/// a hundred times as many as the calm load has, and more than may be under way at once.
const FLOOD: usize = 8_000;

/// Statuses that an overloaded node may answer.
const ALLOWED: [u16; 2] = [429, 503];

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Messages of each instance that are accepted first: a node that has done nothing yet has empty
/// caches, and what fills them is not the flood's.
const WARM: usize = 300;

/// Seconds after which everything has to be as before.
const OVER: f64 = 5.0;

/// How long is looked after it, in seconds.
const AFTER: f64 = 10.0;

/// How much more memory is flat: a flood of connections takes some, each about 20 KiB.
const FLAT: f64 = 2.0;

pub(super) async fn run(run: Run) -> Result<()> {
    let folder = run.folder()?;
    let data = Keeping::Folder(folder.path().join("data"));
    let site = Site::listening(&data, Way::Simulator, INSTANCES, Speed::Still).await?;
    site.fill(&site.instances, WARM).await?;
    let calm = load(closed(&site, 1, run.seconds(10.0, 2.0).min(10.0))?)
        .await?
        .driven;
    let before = memory()?;
    let plan = closed(&site, 1, run.seconds(60.0, 4.0))?;
    let connections = run.count(FLOOD, 3_000);
    let driving = Driving::start(Plan {
        connections,
        ..plan
    })
    .await?;
    let (flooded, most) = watched(driving).await?;
    let after = Driving::start(Plan {
        warm_up: 0.0,
        ..closed(&site, 1, AFTER)?
    })
    .await?;
    let after = after.end().await?;
    site.close().await?;
    figures(&calm, &flooded, &after, [before, most], connections);
    Ok(())
}

/// The load to its end, and the most memory meanwhile.
async fn watched(driving: Driving) -> Result<(Driven, u64)> {
    let mut most = 0;
    let mut ended = pin!(driving.end());
    loop {
        tokio::select! {
            driven = &mut ended => return Ok((driven?, most)),
            () = tokio::time::sleep(LOOK) => most = most.max(memory()?),
        }
    }
}

fn figures(calm: &Driven, flooded: &Driven, after: &Driven, memory: [u64; 2], connections: usize) {
    let wrong: u64 = flooded
        .refused
        .iter()
        .filter(|(status, _)| !ALLOWED.contains(status))
        .map(|(_, count)| count)
        .sum();
    let how = json!({
        "seconds": flooded.seconds, "connections": connections, "instances": INSTANCES,
        "calm_connections": CONNECTIONS, "calm_per_second": calm.rate().round(),
        "accepted_per_second": flooded.rate().round(), "refused": flooded.refused,
        "p50_us": flooded.p50_us, "calm_p50_us": calm.p50_us,
        "broken": flooded.broken, "memory_before": memory[0], "memory_most": memory[1],
        "p99_us_after_by_second":
            after.by_second.iter().map(|second| second.p99_us).collect::<Vec<_>>(),
    });
    tell(
        &Figure::new(
            BENCH,
            "other_answers",
            (wrong + flooded.broken) as f64,
            "answers",
            how.clone(),
        )
        .reaching(Reach::AtMost(0.0)),
    );
    tell(
        &Figure::new(
            BENCH,
            "accepted_p99",
            flooded.p99_us as f64,
            "us",
            how.clone(),
        )
        .beside("without overload", calm.p99_us as f64)
        .reaching(Reach::AtMost(2.0)),
    );
    tell(
        &Figure::new(BENCH, "memory", memory[1] as f64, "bytes", how.clone())
            .beside("before", memory[0] as f64)
            .reaching(Reach::AtMost(FLAT)),
    );
    // The first second that is as before, and all after it too.
    let is_calm = |p99: u64| p99 <= 2 * calm.p99_us;
    let lasting = after
        .by_second
        .iter()
        .rposition(|second| !is_calm(second.p99_us));
    let over = lasting.map_or(0, |last| last + 1);
    tell(
        &Figure::new(BENCH, "seconds_until_calm", over as f64, "s", how)
            .reaching(Reach::AtMost(OVER)),
    );
}
