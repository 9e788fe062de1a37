//! Whether a node is ready, check by check, and what an accept means on it.

use std::collections::BTreeMap;

use serde::Serialize;
use zajil_actors::engine::{ClusterStatus, Engine};
use zajil_model::id::SHARDS;
use zajil_storage::Health;

/// What an accept means where the store is this node's own.
const EMBEDDED: &str = "embedded: one copy, on stable storage before an accept is answered";

/// What it means where the store is a database of several servers: they answer from memory.
const CQL: &str = "cql: in the memory of a quorum of the database's copies before an accept is \
                   answered, so that losing any one server or node loses nothing; a power cut of \
                   all at once can lose the last moments, unless the servers sync their commit \
                   log before they answer (commitlog_sync: batch or group)";

/// What `/readyz` tells.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    /// Whether requests should come here.
    pub(super) ready: bool,
    checks: BTreeMap<&'static str, Check>,
    durability: &'static str,
}

/// One thing that is looked at.
#[derive(Debug, Serialize)]
struct Check {
    ok: bool,
    detail: String,
    /// Whether it keeps the node from being ready; others are for people.
    #[serde(skip)]
    vital: bool,
}

impl Check {
    const fn vital(ok: bool, detail: String) -> Self {
        let vital = true;
        Self { ok, detail, vital }
    }

    const fn told(ok: bool, detail: String) -> Self {
        let vital = false;
        Self { ok, detail, vital }
    }
}

impl Readiness {
    /// How ready a node is that `drains` or does not.
    pub(super) fn of(engine: &Engine, drains: bool) -> Self {
        let cluster = engine.cluster().map(|cluster| cluster.status());
        let mut checks = of_node(engine, drains);
        checks.extend(cluster.iter().flat_map(of_cluster));
        Self {
            ready: checks.values().all(|check| check.ok || !check.vital),
            checks,
            durability: if cluster.is_some() { CQL } else { EMBEDDED },
        }
    }
}

fn of_node(engine: &Engine, drains: bool) -> BTreeMap<&'static str, Check> {
    let store = match engine.health() {
        Health::Ready => Check::vital(true, "ok".to_owned()),
        Health::ReadOnly(reason) => Check::vital(false, format!("read only: {reason}")),
        Health::Failed(reason) => Check::vital(false, format!("failed: {reason}")),
    };
    let damaged = engine.damaged();
    let messages = match damaged {
        0 => "ok".to_owned(),
        _ => format!("damaged on disk, for {damaged} instances: see the log"),
    };
    let draining = if drains { "draining" } else { "no" };
    let held = if engine.is_held() { "held" } else { "no" };
    BTreeMap::from([
        ("store", store),
        ("draining", Check::vital(!drains, draining.to_owned())),
        // The others are served; this is for people, and so is `zajil_instances_damaged`.
        ("messages", Check::told(damaged == 0, messages)),
        // A restored node serves reads and accepts; it only does not send yet.
        ("held", Check::told(true, held.to_owned())),
    ])
}

/// Whether the node has its part in the cluster, and whether somebody owns anything: a node that
/// owns nothing serves by asking those who do.
fn of_cluster(status: &ClusterStatus) -> [(&'static str, Check); 2] {
    let why = &status.not_ready;
    let part = match (why.is_empty(), status.lease_age_ms) {
        (false, _) => why.join("; "),
        (true, Some(age)) => format!("node {}: lease renewed {age} ms ago", status.node.0),
        (true, None) => format!("node {}", status.node.0),
    };
    let shards = &status.shards;
    let owned: u32 = shards.by_node.values().copied().map(u32::from).sum();
    let detail = format!(
        "{owned} of {SHARDS} have an owner, {} are served here",
        shards.here
    );
    [
        ("cluster", Check::vital(why.is_empty(), part)),
        ("shards", Check::vital(owned > 0, detail)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cluster::tests::{second_of_three, status};
    use super::*;

    fn ready(status: &ClusterStatus) -> bool {
        of_cluster(status).iter().all(|(_, check)| check.ok)
    }

    fn detail(status: &ClusterStatus, name: &str) -> String {
        let checks = BTreeMap::from(of_cluster(status));
        checks[name].detail.clone()
    }

    #[test]
    fn a_node_with_a_lease_is_ready_whoever_owns_the_shards() {
        let mut without = second_of_three();
        without.shards.here = 0;
        without.shards.by_node.remove(&without.node);

        assert!(ready(&second_of_three()));
        assert!(ready(&without));
        let shards = detail(&without, "shards");
        assert_eq!(shards, "683 of 1024 have an owner, 0 are served here");
    }

    #[test]
    fn a_node_that_joined_while_nobody_owns_anything_is_not_ready() {
        let empty = status(2);

        assert!(!ready(&empty));
        assert_eq!(
            detail(&empty, "shards"),
            "0 of 1024 have an owner, 0 are served here"
        );
    }

    #[test]
    fn every_reason_against_a_node_is_told() {
        let mut late = second_of_three();
        late.not_ready = vec![
            "the lease is late".to_owned(),
            "the clock is off".to_owned(),
        ];

        assert!(!ready(&late));
        let cluster = detail(&late, "cluster");
        assert_eq!(cluster, "the lease is late; the clock is off");
    }

    #[test]
    fn what_an_accept_means_is_told_for_each_store() {
        assert!(CQL.contains("memory of a quorum") && CQL.contains("power cut"));
        assert!(EMBEDDED.contains("stable storage"));
    }
}
