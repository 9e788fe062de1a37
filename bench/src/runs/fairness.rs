//! Small senders beside one huge campaign: what they notice of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use zajil_actors::batch::{BLOCK_ROWS, BatchText, Duplicates, NewBatch, NewRow, RowErrors};
use zajil_model::batch::Command;
use zajil_model::id::BatchId;
use zajil_model::instance::Instance;
use zajil_model::lifecycle::Status;
use zajil_model::message::OnAmbiguous;

use crate::figure::{Figure, Reach};
use crate::measure::micros;
use crate::runs::{Run, tell};
use crate::site::{Keeping, Site, Speed, Way};
use crate::workload::Words;

const BENCH: &str = "fairness";

/// Messages of each small sender.
const MESSAGES: usize = 10;

/// How fast small senders may send: what a simulated number has when nobody says otherwise.
const RATE: f64 = 10.0;

/// How often the small ones send, with and without the big one.
const ROUNDS: usize = 5;

/// What the small ones waited.
struct Waits {
    all: Histogram<u64>,
    /// The first message of each, which no pace holds back.
    first: Histogram<u64>,
}

pub(super) async fn run(run: Run) -> Result<()> {
    let folder = run.folder()?;
    let mut site = Site::open(&Keeping::Folder(folder.path().join("data")), Way::Courier).await?;
    let small = run.count(1_000, 100);
    site.populate(small, Speed::PerSecond(RATE), false).await?;
    let small: Vec<_> = site.instances.clone();
    site.populate(1, Speed::Unlimited, false).await?;
    let big = site
        .instances
        .last()
        .context("an instance was made")?
        .clone();
    // Awake, so that neither side measures how actors start.
    site.fill(&small, 1).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let without = waits(&site, &small, None).await?;
    let rows = run.count(1_000_000, 50_000);
    let campaign = upload(&site, &big, rows).await?;
    let with = waits(&site, &small, Some(campaign)).await?;
    let left = site.engine.batches().view(site.account, campaign).await?;
    let how = json!({
        "small": small.len(), "messages_each": MESSAGES, "per_second": RATE, "rows": rows,
        "rounds": ROUNDS, "big_pending_at_end": left.counts[Status::Pending as usize],
        "big_sent": site.book.of(big.id).len(),
    });
    site.close().await?;
    figures(&with, &without, &how);
    Ok(())
}

fn figures(with: &Waits, without: &Waits, how: &Value) {
    let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64 / 1e3;
    tell(
        &Figure::new(BENCH, "wait_p99", p99(&with.all), "ms", how.clone())
            .beside("without the campaign", p99(&without.all))
            .reaching(Reach::AtMost(1.2)),
    );
    tell(
        &Figure::new(BENCH, "first_wait_p99", p99(&with.first), "ms", how.clone())
            .beside("without the campaign", p99(&without.first)),
    );
}

/// Lets every small sender send, some times, and looks how long each message waited.
async fn waits(site: &Site, small: &[Arc<Instance>], big: Option<BatchId>) -> Result<Waits> {
    if let Some(campaign) = big {
        site.engine
            .batches()
            .change(site.account, campaign, Command::Start)
            .await?;
    }
    let (mut all, mut first) = (micros(), micros());
    for _ in 0..ROUNDS {
        let seen: Vec<_> = small.iter().map(|one| site.book.of(one.id).len()).collect();
        site.fill(small, MESSAGES).await?;
        for (one, seen) in small.iter().zip(seen) {
            let hand_overs = loop {
                let hand_overs = site.book.of(one.id);
                if hand_overs.len() >= seen + MESSAGES {
                    break hand_overs;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            first.saturating_record(hand_overs[seen].wait);
            for hand_over in &hand_overs[seen..] {
                all.saturating_record(hand_over.wait);
            }
        }
    }
    Ok(Waits { all, first })
}

/// A campaign on one number, ready to be started.
async fn upload(site: &Site, big: &Arc<Instance>, rows: usize) -> Result<BatchId> {
    let new = NewBatch {
        name: "everybody".to_owned(),
        instances: vec![big.clone()],
        text: BatchText {
            content: "Hello {{name}}, the new season begins on Sunday.".to_owned(),
            template: None,
            variables: Vec::new(),
        },
        ttl_seconds: None,
        start_at: None,
        deadline: None,
        duplicates: Duplicates::Keep,
        on_ambiguous: OnAmbiguous::default(),
    };
    let batches = site.engine.batches();
    let batch = batches.create(site.account, new).await?.record.id;
    let mut upload = batches.upload(site.account, batch, 0).await?;
    let mut words = Words::new(0);
    for block in 0..rows.div_ceil(BLOCK_ROWS) {
        let count = BLOCK_ROWS.min(rows - block * BLOCK_ROWS);
        let row = |_| -> Result<NewRow, RowErrors> {
            Ok(NewRow {
                recipient: words.phone(),
                variables: vec![("name".to_owned(), "Maria".to_owned())],
                content: None,
                client_ref: None,
            })
        };
        upload.append_rows((0..count).map(row).collect()).await?;
    }
    drop(upload);
    batches.change(site.account, batch, Command::Seal).await?;
    Ok(batch)
}
