//! What a message asks of the database, from its acceptance until it is settled.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::cluster::{Channel, Cluster, Requests};
use crate::driver::{Driving, Until};
use crate::figure::{Figure, Reach};
use crate::measure::now;
use crate::runs::{Run, tell};
use crate::site::Speed;
use crate::workload::BULK;

use super::plan;

mod tombstones;

const BENCH: &str = "cql_requests";

/// How often is looked whether all is sent.
const LOOK: Duration = Duration::from_millis(500);

/// How long nothing may be sent before the run is given up.
const STUCK: Duration = Duration::from_secs(60);

/// What is flushed each second is flushed within this.
const FLUSHED: Duration = Duration::from_secs(3);

/// What a message may ask, of all that was measured without pace.
const MOST: f64 = 0.05;

/// A read for every thousand messages would be one on the hot path: it would be there for each bulk,
/// each flush or each shard. What remains below comes from the clock, not from messages.
const MOST_READS: f64 = 0.001;

/// Kinds of requests that read.
const READS: [&str; 3] = ["read", "scan", "serial"];

/// What was asked meanwhile.
struct Asked {
    messages: u64,
    seconds: f64,
    requests: Requests,
}

impl Asked {
    fn of(&self, kinds: impl Fn(&str) -> bool) -> f64 {
        let counts = self.requests.iter().filter(|(kind, _)| kinds(kind));
        counts.map(|(_, count)| count).sum()
    }

    fn reads(&self) -> f64 {
        self.of(|kind| READS.contains(&kind))
    }

    /// Of some requests, those that each message is the cause of; a node at rest asks as well.
    fn above(&self, count: f64, at_rest: f64) -> f64 {
        (count - at_rest * self.seconds).max(0.0) / self.messages as f64
    }
}

/// A stretch in which requests are counted.
struct Counting {
    before: Requests,
    began: std::time::Instant,
}

impl Counting {
    async fn begin(cluster: &Cluster) -> Result<Self> {
        Ok(Self {
            before: cluster.requests().await?,
            began: now(),
        })
    }

    async fn end(self, cluster: &Cluster, messages: u64) -> Result<Asked> {
        let mut requests = cluster.requests().await?;
        for (kind, count) in &mut requests {
            *count -= self.before.get(kind).copied().unwrap_or_default();
        }
        Ok(Asked {
            messages,
            seconds: (now() - self.began).as_secs_f64(),
            requests,
        })
    }
}

pub(in crate::runs) async fn run(run: Run) -> Result<()> {
    unpaced(&run).await?;
    paced(&run).await
}

async fn unpaced(run: &Run) -> Result<()> {
    let (instances, messages) = (100, run.count(1_000_000, 100_000));
    let measured = measured(run, instances, Speed::Unlimited, messages, BULK).await?;
    let (asked, rest) = (&measured.asked, &measured.rest);
    let each = asked.of(|_| true) / asked.messages as f64;
    let figure = Figure::new(
        BENCH,
        "unpaced",
        each,
        "requests/message",
        measured.how.clone(),
    );
    tell(&figure.reaching(Reach::AtMost(MOST)));
    let at_rest = rest.reads() / rest.seconds;
    let reads = asked.above(asked.reads(), at_rest);
    let mut how = measured.how.clone();
    // What is believed for some seconds is read again after that, however many messages came.
    how["reads_per_second_above_rest"] = json!(asked.reads() / asked.seconds - at_rest);
    let figure = Figure::new(BENCH, "reads", reads, "reads/message", how);
    tell(&figure.reaching(Reach::AtMost(MOST_READS)));
    if let Some(most) = measured.tombstones {
        let figure = Figure::new(
            BENCH,
            "tombstones",
            most,
            "more in a read",
            measured.how.clone(),
        );
        tell(&figure.reaching(Reach::AtMost(0.0)));
    }
    Ok(())
}

async fn paced(run: &Run) -> Result<()> {
    let (instances, each) = (run.count(1_000, 200), run.count(30, 10));
    let measured = measured(
        run,
        instances,
        Speed::PerSecond(1.0),
        instances * each,
        each,
    )
    .await?;
    let asked = &measured.asked;
    let each = asked.of(|_| true) / asked.messages as f64;
    let figure = Figure::new(
        BENCH,
        "paced",
        each,
        "requests/message",
        measured.how.clone(),
    );
    tell(&figure);
    Ok(())
}

struct Measured {
    rest: Asked,
    asked: Asked,
    /// How many more tombstones a read of everything met in the end, where the server tells.
    tombstones: Option<f64>,
    how: Value,
}

/// Accepts `messages` messages in bulks of `bulk`, and waits until they are settled.
async fn measured(
    run: &Run,
    instances: usize,
    speed: Speed,
    messages: usize,
    bulk: usize,
) -> Result<Measured> {
    let mut cluster = Cluster::start(1).await?;
    cluster.populate(instances, speed, Channel::Within).await?;
    let counting = Counting::begin(&cluster).await?;
    tokio::time::sleep(Duration::from_secs_f64(run.seconds(20.0, 6.0))).await;
    let rest = counting.end(&cluster, 1).await?;
    // What it takes to wake an instance is no part of what a message takes: each gets one first.
    let first = settle(&cluster, instances, instances, 1).await?;
    let before = tombstones::met(&cluster).await?;
    let asked = settle(&cluster, instances, messages, bulk).await?;
    let after = tombstones::met(&cluster).await?;
    let each = |asked: &Asked, by: f64| -> Value {
        let of = |(kind, count): (&String, &f64)| (kind.clone(), json!(count / by));
        Value::Object(asked.requests.iter().map(of).collect())
    };
    let how = json!({
        "messages": asked.messages, "messages_each_request": bulk, "instances": instances,
        "seconds": asked.seconds, "requests_per_message": each(&asked, asked.messages as f64),
        "requests_per_first_message": each(&first, first.messages as f64),
        "requests_per_second_at_rest": each(&rest, rest.seconds),
        "tombstones_before": before, "tombstones_after": after,
    });
    Ok(Measured {
        rest,
        asked,
        tombstones: tombstones::more(before.as_ref(), after.as_ref()),
        how,
    })
}

/// Posts messages and waits until they are settled and flushed; answers what was asked meanwhile.
async fn settle(
    cluster: &Cluster,
    instances: usize,
    messages: usize,
    bulk: usize,
) -> Result<Asked> {
    let before = cluster.sent().await;
    let counting = Counting::begin(cluster).await?;
    let requests = messages.div_ceil(bulk) as u64;
    let plan = plan(cluster, instances, bulk, Until::Accepted(requests))?;
    let driven = Driving::start(plan).await?.end().await?.all_accepted()?;
    settled(cluster, before + driven.messages).await?;
    tokio::time::sleep(FLUSHED).await;
    counting.end(cluster, driven.messages).await
}

/// Waits until so many messages are sent.
async fn settled(cluster: &Cluster, messages: u64) -> Result<()> {
    let (mut sent, mut moved) = (0, now());
    while sent < messages {
        let counted = cluster.sent().await;
        if counted > sent {
            (sent, moved) = (counted, now());
        } else if now() - moved > STUCK {
            bail!("{sent} of {messages} messages are sent, and none for {STUCK:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
