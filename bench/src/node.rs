//! A node in a process of its own, told line by line what to do: for figures that need a process
//! that is killed, or one whose memory nothing else is in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use zajil_model::lifecycle::Status;

use crate::measure::{self, Stretch};
use crate::site::{Keeping, Site, Speed, Way};
use crate::worker::{Task, Worker};

/// How a node is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodePlan {
    /// Its data folder.
    pub(crate) dir: PathBuf,
    /// Where it listens, and with which key, if it does.
    pub(crate) listen: Option<(SocketAddr, String)>,
}

/// What a node is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Make instances that may send so many messages a second; 0 is without limit.
    Populate(usize, f64),
    /// Make a key; it is the `text` of the answer.
    Key,
    /// Accept messages for the first so many instances, in equal parts.
    Fill(usize, usize),
    /// Pause the instances, or let them go on.
    Pause(bool),
    /// Wait until so many messages are sent.
    Sent(u64),
    /// Wait until so many instances handed something over.
    Senders(usize),
    /// Let go what is idle for some seconds and look at the memory.
    Memory(f64),
    /// Stop in good order.
    Stop,
}

/// What a node answers: how long it took, what it cost, and how it is now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// How long the order took.
    pub(crate) seconds: f64,
    /// CPU meanwhile.
    pub(crate) cpu_seconds: f64,
    /// Memory of the process in bytes.
    pub(crate) memory: u64,
    /// Messages that are sent.
    pub(crate) sent: u64,
    /// Messages that wait.
    pub(crate) pending: u64,
    /// What was asked for as a text.
    pub(crate) text: String,
}

/// A node at work in a child.
#[derive(Debug)]
pub(crate) struct Node(Worker);

impl Node {
    /// Starts it; answers at once.
    pub(crate) async fn start(plan: NodePlan) -> Result<Self> {
        Ok(Self(Worker::start(&Task::Node(plan)).await?))
    }

    /// Tells it something, and waits until it is done.
    pub(crate) async fn tell(&mut self, order: Order) -> Result<Report> {
        self.0.say(&serde_json::to_string(&order)?).await?;
        let line = self.0.line().await?;
        serde_json::from_str(&line).with_context(|| format!("the node said {line}"))
    }

    /// Kills it with signal 9.
    pub(crate) async fn kill(self) -> Result<()> {
        self.0.kill().await
    }

    /// Stops it in good order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.tell(Order::Stop).await?;
        self.0.end().await
    }
}

/// How often a node looks whether what it waits for has come.
const LOOK: Duration = Duration::from_millis(5);

/// How often it looks at totals, which cost something.
const LOOK_AT_TOTALS: Duration = Duration::from_millis(100);

/// Runs a node: this is the child.
pub(crate) async fn run(plan: NodePlan) -> Result<()> {
    let mut site = Site::open(&Keeping::Folder(plan.dir), Way::Courier).await?;
    if let Some((address, key)) = plan.listen {
        site.listen(address, key).await?;
    }
    site.remember().await?;
    let mut site = Arc::new(site);
    while let Some(order) = next_order().await? {
        let stretch = Stretch::begin()?;
        if matches!(order, Order::Stop) {
            Arc::into_inner(site)
                .context("somebody still uses the site")?
                .close()
                .await?;
            println!("{}", serde_json::to_string(&Report::default())?);
            return Ok(());
        }
        let text = obey(&mut site, order).await?;
        let (seconds, cpu_seconds) = (stretch.took().as_secs_f64(), stretch.cpu()?.as_secs_f64());
        // Waiting for the first hand-over must not itself take time.
        let totals = match order {
            Order::Senders(_) => zajil_storage::Totals::default(),
            _ => site.totals().await?,
        };
        let report = Report {
            seconds,
            cpu_seconds,
            memory: measure::memory()?,
            sent: totals.of(Status::Sent),
            pending: totals.of(Status::Pending) + totals.of(Status::Processing),
            text,
        };
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// What the parent says next; `None` when it is gone.
async fn next_order() -> Result<Option<Order>> {
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = line.await??;
    Ok(if line.is_empty() {
        None
    } else {
        Some(serde_json::from_str(&line)?)
    })
}

async fn obey(site: &mut Arc<Site>, order: Order) -> Result<String> {
    match order {
        Order::Populate(count, per_second) => {
            let speed = match per_second {
                0.0 => Speed::Unlimited,
                per_second => Speed::PerSecond(per_second),
            };
            let site = Arc::get_mut(site).context("somebody still uses the site")?;
            site.populate(count, speed, false).await?;
        }
        Order::Key => return site.new_key().await,
        Order::Fill(instances, messages) => {
            site.fill(&site.instances[..instances], messages / instances)
                .await?;
        }
        Order::Pause(paused) => site.set_paused(&site.instances, paused).await?,
        Order::Sent(messages) => site.wait_for_sent(messages, LOOK_AT_TOTALS).await?,
        Order::Senders(wanted) => {
            while site.book.senders() < wanted {
                tokio::time::sleep(LOOK).await;
            }
        }
        Order::Memory(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
        Order::Stop => {}
    }
    Ok(String::new())
}
