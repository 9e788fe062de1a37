//! Instances that exist and do nothing: what each takes of the memory.

use anyhow::Result;
use serde_json::json;

use crate::figure::{Figure, Reach};
use crate::node::{Node, NodePlan, Order};
use crate::runs::{Run, tell};

const BENCH: &str = "idle";

/// Instances that have work, in both nodes.
const ACTIVE: usize = 1_000;

/// Seconds until a node has settled.
const SETTLE: f64 = 5.0;

pub(super) async fn run(run: Run) -> Result<()> {
    let exist = run.count(100_000, 10_000);
    let few = memory(&run, ACTIVE).await?;
    let many = memory(&run, exist).await?;
    let each = (many as f64 - few as f64) / (exist - ACTIVE) as f64;
    let how = json!({
        "instances": exist, "active": ACTIVE, "memory": many,
        "memory_with_the_active_alone": few,
    });
    tell(
        &Figure::new(BENCH, "memory_each", each.max(0.0), "bytes", how)
            .reaching(Reach::AtMost(1_024.0)),
    );
    Ok(())
}

/// The memory of a node that was started with `exist` instances, once a few of them worked.
async fn memory(run: &Run, exist: usize) -> Result<u64> {
    let folder = run.folder()?;
    let plan = NodePlan {
        dir: folder.path().join("data"),
        listen: None,
    };
    let mut making = Node::start(plan.clone()).await?;
    making.tell(Order::Populate(exist, 10.0)).await?;
    making.stop().await?;
    let mut node = Node::start(plan).await?;
    node.tell(Order::Fill(ACTIVE, ACTIVE * 10)).await?;
    node.tell(Order::Senders(ACTIVE)).await?;
    let memory = node.tell(Order::Memory(SETTLE)).await?.memory;
    node.stop().await?;
    Ok(memory)
}
