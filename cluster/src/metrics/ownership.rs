//! Leases, challenges, shards.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

const RENEWALS: &str = "zajil_lease_renewals_total";
const RENEW_SECONDS: &str = "zajil_lease_renew_duration_seconds";
const LOST: &str = "zajil_lease_lost_total";
const JOINS: &str = "zajil_lease_joins_total";
const CHALLENGES: &str = "zajil_lease_challenges_total";
const HELD_BACK: &str = "zajil_lease_challenges_held_back";
const TAKES: &str = "zajil_shard_takes_total";
const RELEASES: &str = "zajil_shard_releases_total";
const SHARDS_LOST: &str = "zajil_shards_lost_total";
const BUSY: &str = "zajil_shards_in_motion";
const UNOWNED: &str = "zajil_shards_unowned";
const EXPECTED: &str = "zajil_shards_expected";
const SCAN_SECONDS: &str = "zajil_ownership_scan_duration_seconds";
const HANDOVER_SECONDS: &str = "zajil_handover_duration_seconds";
const TAKEOVER_SECONDS: &str = "zajil_takeover_duration_seconds";

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Renewed,
    Unknown,
    Fenced,
}

/// The counters of a node's part in the cluster.
#[derive(Clone)]
pub(crate) struct Metrics {
    renewals: [Counter; 3],
    renew_seconds: Histogram,
    lost: Counter,
    joins: Counter,
    challenges: [Counter; 3],
    held_back: Gauge,
    shards: Shards,
}

#[derive(Clone)]
struct Shards {
    takes: [Counter; 2],
    releases: [Counter; 2],
    lost: Counter,
    busy: Gauge,
    unowned: Gauge,
    expected: Gauge,
    scan_seconds: Histogram,
    handover_seconds: Histogram,
    takeover_seconds: Histogram,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn describe() {
    let count = |name, what: &'static str| describe_counter!(name, Unit::Count, what);
    count(RENEWALS, "renewals of this node's lease, by outcome");
    count(LOST, "lives of this node that were declared dead");
    count(JOINS, "lives that this node began");
    count(CHALLENGES, "peers that this node declared dead, by outcome");
    count(TAKES, "shards that this node took, by outcome");
    count(RELEASES, "shards that this node gave away, by outcome");
    count(SHARDS_LOST, "shards that this node had to drop");
    describe_gauge!(
        HELD_BACK,
        Unit::Count,
        "peers that look dead and are given one more lease"
    );
    describe_gauge!(BUSY, Unit::Count, "shards that are being taken or given");
    describe_gauge!(UNOWNED, Unit::Count, "shards without a living owner");
    describe_gauge!(EXPECTED, Unit::Count, "shards that this node should own");
    let seconds = |name, what: &'static str| describe_histogram!(name, Unit::Seconds, what);
    seconds(RENEW_SECONDS, "time that a renewal took");
    seconds(SCAN_SECONDS, "time that reading all shard rows took");
    seconds(
        HANDOVER_SECONDS,
        "time from closing a shard to its opening elsewhere",
    );
    seconds(
        TAKEOVER_SECONDS,
        "time from taking a shard to its opening here",
    );
}

impl Metrics {
    /// Describes and registers everything, so that each series is there from the start.
    pub(crate) fn new() -> Self {
        describe();
        let outcomes = |name: &'static str, yes: &'static str, no: &'static str| {
            [yes, no].map(|outcome| counter!(name, "outcome" => outcome))
        };
        Self {
            renewals: ["renewed", "unknown", "fenced"]
                .map(|outcome| counter!(RENEWALS, "outcome" => outcome)),
            renew_seconds: histogram!(RENEW_SECONDS),
            lost: counter!(LOST),
            joins: counter!(JOINS),
            challenges: ["dead", "renewed", "unknown"]
                .map(|outcome| counter!(CHALLENGES, "outcome" => outcome)),
            held_back: gauge!(HELD_BACK),
            shards: Shards {
                takes: outcomes(TAKES, "open", "failed"),
                releases: outcomes(RELEASES, "taken", "untold"),
                lost: counter!(SHARDS_LOST),
                busy: gauge!(BUSY),
                unowned: gauge!(UNOWNED),
                expected: gauge!(EXPECTED),
                scan_seconds: histogram!(SCAN_SECONDS),
                handover_seconds: histogram!(HANDOVER_SECONDS),
                takeover_seconds: histogram!(TAKEOVER_SECONDS),
            },
        }
    }

    /// A renewal was made.
    pub(crate) fn renewal(&self, outcome: Outcome, took: Duration) {
        self.renewals[outcome as usize].increment(1);
        self.renew_seconds.record(took);
        if outcome == Outcome::Fenced {
            self.lost.increment(1);
        }
    }

    /// A life began.
    pub(crate) fn joined(&self) {
        self.joins.increment(1);
    }

    /// A peer was declared dead, or turned out to be alive, or neither is known.
    pub(crate) fn challenged(&self, applied: Option<bool>) {
        let place = match applied {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        };
        self.challenges[place].increment(1);
    }

    /// So many peers look dead that they are given one more lease.
    pub(crate) fn held_back(&self, peers: usize) {
        self.held_back.set(peers as f64);
    }

    /// A shard was taken and opened, or not.
    pub(crate) fn took(&self, open: bool, took: Duration) {
        self.shards.takes[usize::from(!open)].increment(1);
        if open {
            self.shards.takeover_seconds.record(took);
        }
    }

    /// A shard was given away, and its next owner opened it, or did not say so.
    pub(crate) fn gave(&self, taken: bool, took: Duration) {
        self.shards.releases[usize::from(!taken)].increment(1);
        if taken {
            self.shards.handover_seconds.record(took);
        }
    }

    /// A shard had to be dropped.
    pub(crate) fn lost_shard(&self) {
        self.shards.lost.increment(1);
    }

    /// So many shards are being taken or given.
    pub(crate) fn busy(&self, shards: usize) {
        self.shards.busy.set(shards as f64);
    }

    /// The rows of all shards were read.
    pub(crate) fn scanned(&self, took: Duration, unowned: usize, expected: usize) {
        self.shards.scan_seconds.record(took);
        self.shards.unowned.set(unowned as f64);
        self.shards.expected.set(expected as f64);
    }
}
