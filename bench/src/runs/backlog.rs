//! Ten million messages that wait: the memory they take, and what they do to the rest.

use anyhow::Result;
use serde_json::json;

use crate::figure::{Figure, Reach};
use crate::node::{Node, NodePlan, Order, Report};
use crate::runs::{Run, tell};

const BENCH: &str = "backlog";

/// Instances that they wait in.
const INSTANCES: usize = 100;

/// How many times the messages that wait at first go through the node before.
const WARM: usize = 10;

/// Seconds until a node has settled.
const SETTLE: f64 = 5.0;

/// The memory that the backlog may add: 64 MiB.
const MOST_ADDED: f64 = (64 << 20) as f64;

/// How fast it accepts and sends, and what memory it takes, at a depth.
struct Depth {
    accept: f64,
    drain: f64,
    memory: u64,
    pending: u64,
}

fn rate(report: &Report, messages: usize) -> f64 {
    messages as f64 / report.seconds
}

pub(super) async fn run(run: Run) -> Result<()> {
    let (few, many) = run.count((100_000, 10_000_000), (20_000, 200_000));
    let some = run.count(500_000, 20_000);
    let folder = run.folder()?;
    let plan = NodePlan {
        dir: folder.path().join("data"),
        listen: None,
    };
    let mut node = Node::start(plan).await?;
    node.tell(Order::Populate(INSTANCES, 0.0)).await?;
    // Warm: everything was done once, and the caches hold what they may.
    let warm = few * WARM;
    node.tell(Order::Fill(INSTANCES, warm)).await?;
    node.tell(Order::Sent(warm as u64)).await?;
    node.tell(Order::Pause(true)).await?;
    node.tell(Order::Fill(INSTANCES, few)).await?;
    let shallow = measure(&mut node, some).await?;
    let filling = node.tell(Order::Fill(INSTANCES, many)).await?;
    let deep = measure(&mut node, some).await?;
    node.stop().await?;
    let how = json!({
        "instances": INSTANCES, "pending": deep.pending, "pending_before": shallow.pending,
        "memory": deep.memory, "memory_before": shallow.memory,
        "fill_per_second": rate(&filling, many).round(),
        "fill_cpu_us_per_message": filling.cpu_seconds * 1e6 / many as f64,
    });
    let added = deep.memory.saturating_sub(shallow.memory) as f64;
    tell(
        &Figure::new(BENCH, "memory_added", added, "bytes", how.clone())
            .reaching(Reach::AtMost(MOST_ADDED)),
    );
    let slower = [
        ("accept", shallow.accept, deep.accept),
        ("drain", shallow.drain, deep.drain),
    ];
    for (figure, before, after) in slower {
        tell(
            &Figure::new(BENCH, figure, after, "messages/s", how.clone())
                .beside("the same with few queued", before)
                .reaching(Reach::AtLeast(1.0 / 1.2)),
        );
    }
    Ok(())
}

async fn measure(node: &mut Node, messages: usize) -> Result<Depth> {
    let settled = node.tell(Order::Memory(SETTLE)).await?;
    let accepting = node.tell(Order::Fill(INSTANCES, messages)).await?;
    let waiting = node.tell(Order::Memory(SETTLE)).await?;
    // Instances begin one after the other while they are let go on: that is part of it.
    let began = node.tell(Order::Pause(false)).await?;
    let drained = node
        .tell(Order::Sent(waiting.sent + messages as u64))
        .await?;
    node.tell(Order::Pause(true)).await?;
    Ok(Depth {
        accept: rate(&accepting, messages),
        drain: (drained.sent - waiting.sent) as f64 / (began.seconds + drained.seconds),
        memory: settled.memory,
        pending: settled.pending,
    })
}
