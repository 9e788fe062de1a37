//! After a crash: how long until it accepts, and until it sends.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::driver::{Pace, Plan, Requests, Until};
use crate::figure::{Figure, Reach};
use crate::measure::now;
use crate::node::{Node, NodePlan, Order};
use crate::runs::{Run, tell};
use crate::workload::instance_name;

const BENCH: &str = "restart";

/// Instances that have work.
const INSTANCES: usize = 1_000;

/// What each of them may send a second.
const RATE: f64 = 10.0;

/// How often is tried whether it accepts.
const TRY: Duration = Duration::from_millis(2);

pub(super) async fn run(run: Run) -> Result<()> {
    let (small, large) = run.count((1_000_000, 10_000_000), (50_000, 200_000));
    once(
        &run,
        small,
        ["accepting_1m", "sending_1m", "all_sending_1m"],
    )
    .await?;
    once(
        &run,
        large,
        ["accepting_10m", "sending_10m", "all_sending_10m"],
    )
    .await
}

async fn once(run: &Run, messages: usize, figures: [&'static str; 3]) -> Result<()> {
    let folder = run.folder()?;
    let (address, key, pending) = prepare(&folder, messages).await?;
    let plan = NodePlan {
        dir: folder.path().join("data"),
        listen: Some((address, key.clone())),
    };
    let began = now();
    let mut node = Node::start(plan).await?;
    let accepting = async {
        accepted(address, key).await?;
        anyhow::Ok(now() - began)
    };
    let sending = async {
        node.tell(Order::Senders(1)).await?;
        let first = now() - began;
        node.tell(Order::Senders(INSTANCES)).await?;
        anyhow::Ok((first, now() - began))
    };
    let (accepting, sending) = tokio::join!(accepting, sending);
    let (accepting, (first, all)) = (accepting?, sending?);
    node.stop().await?;
    let how = json!({ "pending": pending, "instances": INSTANCES, "per_second": RATE });
    let seconds = [(accepting, Some(1.0)), (first, Some(2.0)), (all, None)];
    for (figure, (took, most)) in figures.into_iter().zip(seconds) {
        let figure = Figure::new(BENCH, figure, took.as_secs_f64(), "s", how.clone());
        tell(&match most {
            Some(most) => figure.reaching(Reach::AtMost(most)),
            None => figure,
        });
    }
    Ok(())
}

/// A node that was killed with messages pending; where it is to listen, its key, and how many.
async fn prepare(folder: &TempDir, messages: usize) -> Result<(SocketAddr, String, u64)> {
    let dir = folder.path().join("data");
    let mut node = Node::start(NodePlan { dir, listen: None }).await?;
    node.tell(Order::Populate(INSTANCES, RATE)).await?;
    let key = node.tell(Order::Key).await?.text;
    let pending = node.tell(Order::Fill(INSTANCES, messages)).await?.pending;
    node.kill().await?;
    // A port that was free a moment ago: the node that is measured has to be found at once.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await?
        .local_addr()?;
    Ok((free, key, pending))
}

/// Tries until a message is accepted.
async fn accepted(address: SocketAddr, key: String) -> Result<()> {
    let plan = Plan {
        address,
        key,
        connections: 1,
        messages: 1,
        instances: vec![instance_name(0)],
        pace: Pace::Closed,
        until: Until::Accepted(1),
        warm_up: 0.0,
    };
    let requests = Requests::prepare(&plan);
    loop {
        if attempt(address, requests.get(0)).await.unwrap_or(false) {
            return Ok(());
        }
        tokio::time::sleep(TRY).await;
    }
}

async fn attempt(address: SocketAddr, request: &[u8]) -> Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.context("no answer")?;
    Ok(answer.ends_with(b" 201"))
}
