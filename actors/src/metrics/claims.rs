//! Claims: attempts on channels that cannot tell a repetition.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

const OPEN: &str = "zajil_claims_open";
const TAKEN: &str = "zajil_claims_taken_total";
const FULL: &str = "zajil_claims_full_total";
const FOUND: &str = "zajil_claims_found_total";
const WRITES: &str = "zajil_claim_writes_total";
const WRITE: &str = "zajil_claim_write_duration_seconds";

/// What is counted of claims.
#[derive(Clone)]
pub struct ClaimMeters {
    open: Gauge,
    taken: Counter,
    full: Counter,
    found: [Counter; 2],
    writes: [Counter; 2],
    write: Histogram,
}

impl std::fmt::Debug for ClaimMeters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClaimMeters").finish_non_exhaustive()
    }
}

impl ClaimMeters {
    pub(super) fn new() -> Self {
        describe_gauge!(
            OPEN,
            Unit::Count,
            "attempts on channels without idempotency that have no durable outcome: what a crash would leave unknown"
        );
        describe_counter!(TAKEN, Unit::Count, "attempts that were claimed");
        describe_counter!(
            FULL,
            Unit::Count,
            "times that an instance had as many claims without an outcome as it may have"
        );
        describe_counter!(
            FOUND,
            Unit::Count,
            "attempts that a former owner left without an outcome, by what is done about them"
        );
        describe_counter!(
            WRITES,
            Unit::Count,
            "appends of claims, by whether they are known to count; of the others no frame leaves"
        );
        describe_histogram!(
            WRITE,
            Unit::Seconds,
            "time until an append of claims is known to count"
        );
        Self {
            open: gauge!(OPEN),
            taken: counter!(TAKEN),
            full: counter!(FULL),
            found: ["unknown", "resend"].map(|then| counter!(FOUND, "then" => then)),
            writes: ["failed", "ok"].map(|outcome| counter!(WRITES, "outcome" => outcome)),
            write: histogram!(WRITE),
        }
    }

    /// An attempt was claimed.
    pub fn taken(&self) {
        self.taken.increment(1);
        self.open.increment(1.0);
    }

    /// An instance has no room for another.
    pub fn full(&self) {
        self.full.increment(1);
    }

    /// So many are not open any more.
    pub fn ended(&self, count: usize) {
        self.open.decrement(count as f64);
    }

    /// One of a former owner was found, which is sent again or not.
    pub fn found(&self, again: bool) {
        self.found[usize::from(again)].increment(1);
    }

    /// An append was answered after so long.
    pub fn answered(&self, took: Duration, counts: bool) {
        self.writes[usize::from(counts)].increment(1);
        if counts {
            self.write.record(took);
        }
    }
}
