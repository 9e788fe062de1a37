//! Several nodes over one CQL server, each `zajil serve` in a process of its own, and a made-up
//! WhatsApp whose ledger says what was handed over when.
//!
//! The nodes are this very executable (see [`WORD`]), so that what is measured is what was built.
//! Everything that was started ends with this value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use zajil_model::pace::{MAX_BURST, MAX_RATE};
use zajil_tests::Nodes;
use zajil_tests::nodes;
use zajil_tests::operator::Pace;
use zajil_tests::program::Program;
use zajil_transport::simulator::script::AT_ONCE;

use crate::crowd;
use crate::measure::{cpu_of, now};
use crate::server::Server;
use crate::site::Speed;
use crate::workload::instance_name;

pub(crate) mod load;
pub(crate) mod seen;
mod together;

use together::Together;

/// The hidden subcommand under which this executable does as `zajil` does.
pub(crate) const WORD: &str = "zajil";

/// Shards of a cluster, fixed for ever.
pub(crate) const SHARDS: u64 = 1_024;

/// How often is looked who owns how much.
const LOOK: Duration = Duration::from_millis(100);

/// How long a message is on its way at the made-up WhatsApp: as long as at a near server.
const LATENCY_MS: (u32, u32) = (2, 30);

/// Several nodes.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Nodes,
    pub(crate) server: Server,
}

/// Which WhatsApp the instances have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// The one that is a process of its own, with a ledger.
    Ledger,
    /// One inside each node, which answers at once.
    Within,
}

/// What the database was asked, by kind.
pub(crate) type Requests = BTreeMap<String, f64>;

impl Cluster {
    /// Starts so many nodes, and waits until each owns its share.
    pub(crate) async fn start(count: u8) -> Result<Self> {
        let server = Server::start().await?;
        let (min, max) = LATENCY_MS;
        let nodes = nodes::Plan::new()
            .run_as(Program::This(WORD))
            .nodes(count)
            .paces(Vec::new())
            .script(json!({ "latency": { "min_ms": min, "max_ms": max } }))
            .start_on(server.cql.clone(), "bench")
            .await?;
        Ok(Self { nodes, server })
    }

    /// Begins a stretch now.
    pub(crate) fn together(&self) -> Result<Together> {
        Together::begin(self.server.processes()?)
    }

    /// Makes instances.
    pub(crate) async fn populate(
        &mut self,
        count: usize,
        speed: Speed,
        channel: Channel,
    ) -> Result<()> {
        let settings = match channel {
            Channel::Ledger => json!({ "address": self.nodes.whatsapp.address().to_string() }),
            Channel::Within => json!({ "script": AT_ONCE }),
        };
        let (account, pace) = (self.nodes.account.id, pace(speed));
        let operators: Arc<Vec<_>> = Arc::new(
            self.nodes
                .running()
                .into_iter()
                .map(|node| self.nodes.node(node).operator())
                .collect(),
        );
        let first = self.nodes.instances.len();
        let made = Arc::new(Mutex::new(vec![0; count]));
        let all = made.clone();
        crowd::each(0..count, move |n| {
            let (operators, settings, made) = (operators.clone(), settings.clone(), made.clone());
            async move {
                let operator = &operators[n % operators.len()];
                let name = instance_name(first + n);
                made.lock()[n] = operator.make_instance(account, &name, pace, settings).await;
                Ok(())
            }
        })
        .await?;
        self.nodes.instances.extend(all.lock().iter());
        Ok(())
    }

    /// At which node each instance is at work; one that is at rest is nowhere.
    pub(crate) async fn at_work(&self) -> BTreeMap<u64, u8> {
        let mut found = BTreeMap::new();
        for node in self.nodes.running() {
            let text = self.nodes.node(node).ask("/metrics/instances").await.text();
            let ids = text.lines().filter_map(|line| {
                let rest = line.strip_prefix("zajil_instance_rate{id=\"")?;
                rest.split_once('"')?.0.parse::<u64>().ok()
            });
            found.extend(ids.map(|id| (id, node)));
        }
        found
    }

    /// How many shards each running node owns, as it knows by itself.
    pub(crate) async fn owned(&self) -> BTreeMap<u8, u64> {
        let mut owned = BTreeMap::new();
        for node in self.nodes.running() {
            let told = self.nodes.node(node).ask("/cluster").await.data();
            let own = told["nodes"].as_array().into_iter().flatten();
            let own = own.filter(|one| one["here"] == json!(true));
            owned.insert(
                node,
                own.filter_map(|one| one["shards_owned"].as_u64()).sum(),
            );
        }
        owned
    }

    /// Waits until every running node owns its share of the shards; answers how long that took, or
    /// nothing when it did not within `patience`.
    pub(crate) async fn balanced(&self, patience: Duration) -> Option<Duration> {
        let began = now();
        loop {
            let owned = self.owned().await;
            if is_even(&owned) {
                return Some(now() - began);
            }
            if now() - began > patience {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the running nodes asked of the database since they began, by kind.
    pub(crate) async fn requests(&self) -> Result<Requests> {
        let mut all = Requests::new();
        for node in self.nodes.running() {
            let text = self.nodes.node(node).ask("/metrics").await.text();
            for (kind, count) in counted(&text, "zajil_cql_requests_total", "kind") {
                *all.entry(kind).or_default() += count;
            }
        }
        Ok(all)
    }

    /// Messages that the running nodes know to be sent.
    pub(crate) async fn sent(&self) -> u64 {
        let mut sent = 0.0;
        for node in self.nodes.running() {
            let text = self.nodes.node(node).ask("/metrics").await.text();
            let acks = counted(&text, "zajil_acks_total", "level");
            sent += acks.get("sent").copied().unwrap_or_default();
        }
        sent as u64
    }

    /// CPU of all running nodes together since they began.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut all = Duration::ZERO;
        for node in self.nodes.running() {
            let process = self.nodes.node(node).process();
            all += cpu_of(process.context("a running node has a process")?.pid())?;
        }
        Ok(all)
    }

    /// How many messages have each status.
    pub(crate) async fn statuses(&self) -> Value {
        self.nodes.customer.get("/stats").await.data()["by_status"].take()
    }
}

/// Whether the owners of all shards have their share of them, no more and no less.
fn is_even(owned: &BTreeMap<u8, u64>) -> bool {
    let nodes = owned.len() as u64;
    let share = SHARDS / nodes..=SHARDS.div_ceil(nodes);
    owned.values().all(|count| share.contains(count)) && owned.values().sum::<u64>() == SHARDS
}

/// The samples of a metric in an exposition, summed by the value of one label.
fn counted(text: &str, name: &str, label: &str) -> Requests {
    let mut sums = Requests::new();
    let label = format!("{label}=\"");
    for line in text.lines() {
        let value = || {
            let (labels, value) = line
                .strip_prefix(name)?
                .strip_prefix('{')?
                .split_once("} ")?;
            let (_, rest) = labels.split_once(&label)?;
            Some((
                rest.split_once('"')?.0.to_owned(),
                value.parse::<f64>().ok()?,
            ))
        };
        if let Some((of, value)) = value() {
            *sums.entry(of).or_default() += value;
        }
    }
    sums
}

/// How fast instances send, as their operator sets it.
fn pace(speed: Speed) -> Pace {
    let (rate, burst) = match speed {
        Speed::Still => (1.0 / 3_600.0, 1),
        Speed::PerSecond(rate) => (rate, 1),
        Speed::Unlimited => (MAX_RATE, MAX_BURST),
    };
    Pace { rate, burst }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_metric_are_summed_by_one_label() {
        let text = "# TYPE a counter\na{kind=\"read\",outcome=\"ok\"} 3\n\
                    a{kind=\"read\",outcome=\"unknown\"} 1\na{kind=\"lwt\",outcome=\"ok\"} 2\n\
                    ab{kind=\"read\"} 9\n";

        let sums = counted(text, "a", "kind");

        assert_eq!(
            sums,
            [("lwt".to_owned(), 2.0), ("read".to_owned(), 4.0)].into()
        );
    }

    #[test]
    fn shards_are_even_when_every_node_has_its_share_and_none_is_missing() {
        let of = |counts: [u64; 3]| is_even(&(1..).zip(counts).collect());

        assert!(of([341, 342, 341]));
        assert!(!of([341, 341, 341]), "one has no owner");
        assert!(!of([340, 342, 342]), "one has too few");
    }
}
