//! How even shards lie on nodes, and what moves when one joins: computed, not measured.

use anyhow::Result;
use serde_json::json;
use zajil_model::placement::Evenness;

use crate::figure::{Figure, Reach};
use crate::runs::{Run, tell};

const BENCH: &str = "placement";

/// From the smallest cluster to the largest that the number of shards is meant for.
const NODES: [usize; 4] = [3, 10, 50, 100];

pub(super) async fn run(_run: Run) -> Result<()> {
    for nodes in NODES {
        let seen = Evenness::of(nodes);
        let how = json!({
            "nodes": nodes, "joining": 1, "fewest": seen.fewest, "most": seen.most,
        });
        let even = f64::from(u8::from(seen.is_even()));
        tell(
            &Figure::new(BENCH, "within_floor_and_ceiling", even, "of 1", how.clone())
                .reaching(Reach::AtLeast(1.0)),
        );
        tell(
            &Figure::new(BENCH, "moved_on_join", seen.moved as f64, "shards", how)
                .beside("share of the new node", seen.least_moved() as f64)
                .reaching(Reach::AtMost(1.05)),
        );
    }
    Ok(())
}
