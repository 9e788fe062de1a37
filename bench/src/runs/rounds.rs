//! What the runs share in which an owner goes away, again and again, under load.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use zajil_tests::clock::wall_micros;

use crate::cluster::load::{Posting, Sender, Told};
use crate::cluster::seen::Seen;
use crate::cluster::{Channel, Cluster};
use crate::figure::{Figure, Reach};
use crate::measure::now;
use crate::runs::{Run, tell};
use crate::site::Speed;

/// Nodes: each owns a third.
pub(super) const NODES: u8 = 3;

/// Hand-overs a second of each instance.
pub(super) const RATE: f64 = 10.0;

/// Single messages a second that customers post to all of them together, at any node.
const POSTED: f64 = 50.0;

/// How long nodes may take to share the shards evenly again. The promise is a minute.
const EVEN_WITHIN: Duration = Duration::from_secs(120);

/// How long all instances may take to be at work again.
const AT_WORK_WITHIN: Duration = Duration::from_secs(60);

/// How long nothing that was promised may be shown in the end, before what is left counts as lost:
/// what twenty rounds left in the queues takes minutes at their pace.
const STUCK: Duration = Duration::from_secs(60);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Three nodes, instances with full queues, customers, and the ledger.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) seen: Seen,
    pub(super) sender: Sender,
    /// Messages that are queued at each instance before a round.
    pub(super) queued: usize,
}

/// One round, before anything happens in it.
pub(super) struct Set {
    /// The node that will go away.
    pub(super) victim: u8,
    /// The instances at work there.
    pub(super) instances: Vec<u64>,
    /// The share of all of them.
    pub(super) share: f64,
    /// When the queues were begun to be filled.
    pub(super) fed: i64,
}

impl Stage {
    /// Starts everything. Each queue is good for `seconds` of sending.
    pub(super) async fn set_up(instances: usize, seconds: f64) -> Result<Self> {
        let mut cluster = Cluster::start(NODES).await?;
        cluster
            .populate(instances, Speed::PerSecond(RATE), Channel::Ledger)
            .await?;
        Ok(Self {
            seen: Seen::of(cluster.nodes.whatsapp.ledger())?,
            sender: Sender::new(cluster.nodes.customer.clone()),
            queued: (seconds * RATE) as usize,
            cluster,
        })
    }

    /// The load of customers.
    pub(super) fn post(&self) -> Posting {
        self.sender.post(&self.cluster.nodes.instances, POSTED)
    }

    /// Waits until every node has its share again, fills the queues, and waits until all send.
    pub(super) async fn begin(&mut self, round: usize) -> Result<Set> {
        let even = self.cluster.balanced(EVEN_WITHIN).await;
        ensure!(
            even.is_some(),
            "after {EVEN_WITHIN:?} the nodes own {:?} shards",
            self.cluster.owned().await
        );
        let all = self.cluster.nodes.instances.clone();
        let missing = self.missing(&all)?;
        let fed = wall_micros();
        self.sender.feed(&all, missing).await?;
        self.await_hand_overs(&all, wall_micros(), AT_WORK_WITHIN)
            .await?;
        let victim = u8::try_from(round % usize::from(NODES)).expect("there are few nodes") + 1;
        let at = self.cluster.at_work().await;
        let instances: Vec<_> = at
            .into_iter()
            .filter(|(_, node)| *node == victim)
            .map(|(instance, _)| instance)
            .collect();
        Ok(Set {
            victim,
            share: instances.len() as f64 / all.len() as f64,
            instances,
            fed,
        })
    }

    /// How many messages the emptiest queue lacks: all are fed alike, and what the rounds before left
    /// would grow from round to round otherwise.
    fn missing(&mut self, all: &[u64]) -> Result<usize> {
        self.seen.catch_up()?;
        let each = self.sender.told(|told| told.promised.len()) / all.len();
        let sent = all.iter().map(|one| self.seen.hand_overs(*one).len());
        let left = each.saturating_sub(sent.max().unwrap_or_default());
        Ok(self.queued.saturating_sub(left))
    }

    /// Waits until each of some instances handed something over after `at`; answers when that was,
    /// nothing for those that did not within `patience`.
    pub(super) async fn await_hand_overs(
        &mut self,
        instances: &[u64],
        at: i64,
        patience: Duration,
    ) -> Result<Vec<Option<i64>>> {
        let began = now();
        loop {
            self.seen.catch_up()?;
            let first: Vec<_> = instances
                .iter()
                .map(|one| self.seen.first_after(*one, at))
                .collect();
            if first.iter().all(Option::is_some) || now() - began > patience {
                return Ok(first);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until everybody who was promised a message was shown it, and says what became of all.
    pub(super) async fn end(&mut self) -> Result<Ended> {
        let promised = self.sender.told(|told| told.promised.clone());
        let (mut lost, mut moved) = (usize::MAX, now());
        while lost > 0 && now() - moved < STUCK {
            tokio::time::sleep(LOOK).await;
            self.seen.catch_up()?;
            let missing = self.seen.missing(&promised);
            if missing < lost {
                (lost, moved) = (missing, now());
            }
        }
        // What is acknowledged last is written down a moment later.
        let (mut statuses, began) = (self.cluster.statuses().await, now());
        while unsettled(&statuses) > 0 && now() - began < STUCK {
            tokio::time::sleep(LOOK).await;
            statuses = self.cluster.statuses().await;
        }
        Ok(self.ended(&promised, lost, &statuses))
    }

    fn ended(&self, promised: &BTreeSet<u32>, lost: usize, statuses: &Value) -> Ended {
        let told = self.sender.told(|told| {
            let waits = told.waits();
            json!({
                "messages": promised.len(), "requests": told.took.len(),
                "failed": told.failed, "repeated_as_told": told.repeated,
                "answer_p50_ms": waits.value_at_quantile(0.5) as f64 / 1e3,
                "answer_p99_ms": waits.value_at_quantile(0.99) as f64 / 1e3,
                "answer_max_ms": waits.max() as f64 / 1e3,
            })
        });
        Ended {
            lost,
            shown_twice: self.seen.shown_twice(),
            failed: self.sender.told(Told::failures),
            again: self.seen.again.len() as u64,
            unknown: statuses["unknown"].as_u64().unwrap_or_default(),
            how: json!({ "customers": told, "statuses": statuses, "frames_again": self.seen.again }),
        }
    }
}

/// Messages that are not settled.
fn unsettled(statuses: &Value) -> u64 {
    let of = |status: &str| statuses[status].as_u64().unwrap_or_default();
    of("scheduled") + of("pending") + of("processing")
}

/// What became of everything.
pub(super) struct Ended {
    /// Messages that were promised and shown to nobody.
    pub(super) lost: usize,
    /// Messages that somebody was shown more than once.
    pub(super) shown_twice: usize,
    /// Requests that failed though they were repeated as told.
    pub(super) failed: u64,
    /// Frames that were sent again under the same WhatsApp id.
    pub(super) again: u64,
    /// Messages of which nobody knows what became of them.
    pub(super) unknown: u64,
    pub(super) how: Value,
}

/// Tells how many of something there were, of which there must be none.
pub(super) fn tell_none(bench: &'static str, figure: &'static str, count: u64, how: &Value) {
    let figure = Figure::new(bench, figure, count as f64, "in all", how.clone());
    tell(&figure.reaching(Reach::AtMost(0.0)));
}

/// How often an owner goes away.
pub(super) fn rounds(run: &Run) -> usize {
    run.count(20, 3)
}
