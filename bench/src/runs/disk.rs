//! The disk alone.

use anyhow::Result;
use serde_json::json;

use crate::disk::{BLOCK, SMALL_BLOCK, sync};
use crate::figure::Figure;
use crate::measure::each;
use crate::runs::{Run, tell};

/// The bytes of a message.
const MESSAGE: u64 = 250;

pub(super) async fn run(run: Run) -> Result<()> {
    let folder = run.folder()?;
    let seconds = run.seconds(5.0, 1.0);
    for (figure, block) in [("messages_250kb", BLOCK), ("messages_25kb", SMALL_BLOCK)] {
        let synced = sync(folder.path(), block, seconds)?;
        let a_block = block as u64 / MESSAGE;
        let how = json!({
            "seconds": seconds, "block": block, "syncs_per_second": synced.rate.round(),
            "p50_us": synced.times.value_at_quantile(0.5),
            "p99_us": synced.times.value_at_quantile(0.99),
            "max_us": synced.times.max(),
        });
        let value = synced.rate * a_block as f64;
        tell(
            &Figure::new("disk", figure, value, "messages/s", how)
                .costing(each(synced.cpu, synced.count * a_block)),
        );
    }
    Ok(())
}
