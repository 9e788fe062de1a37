//! What stores tell of themselves.

use std::time::Duration;

use metrics::{
    Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::StoreError;

const APPEND: &str = "zajil_store_append_duration_seconds";
const GROUPS: &str = "zajil_store_groups_total";
const GROUP_BYTES: &str = "zajil_store_group_bytes";
const SYNC: &str = "zajil_store_sync_duration_seconds";
const ERRORS: &str = "zajil_store_errors_total";
const LOG_BYTES: &str = "zajil_store_log_bytes";
const LAG: &str = "zajil_store_projection_lag_bytes";
const FREE: &str = "zajil_store_free_bytes";
const FLUSH: &str = "zajil_store_flush_duration_seconds";
const CQL_ASKED: &str = "zajil_cql_requests_total";
const CQL_SECONDS: &str = "zajil_cql_request_duration_seconds";
const CQL_UNKNOWN: &str = "zajil_cql_unknown_outcomes_total";
const CQL_REPEATED: &str = "zajil_cql_repeated_total";
const CQL_SHARDS: &str = "zajil_cql_open_shards";
const CQL_REPLAYED: &str = "zajil_cql_replayed_appends_total";
const CQL_IN_FLIGHT: &str = "zajil_cql_requests_in_flight";

/// Calls that a full disk may refuse.
const OPERATIONS: [&str; 3] = ["append", "write", "own"];

/// Every read beside that of a single row.
pub(crate) const READ: &str = "read";

/// Describes every metric of the store and makes it, so that it is there from the start; `node`
/// calls it once its recorder is in place.
pub fn describe() {
    for name in [APPEND, GROUP_BYTES, SYNC, FLUSH] {
        drop(histogram!(name));
    }
    counter!(GROUPS).increment(0);
    // What an alarm waits for has to be there before it happens.
    counter!(ERRORS, "op" => READ, "reason" => "corrupt").increment(0);
    for operation in OPERATIONS {
        counter!(ERRORS, "op" => operation, "reason" => "full").increment(0);
    }
    gauge!(LOG_BYTES).set(0.0);
    gauge!(LAG).set(0.0);
    describe_histogram!(APPEND, Unit::Seconds, "from an append to its answer");
    describe_counter!(GROUPS, "groups that were written to the log");
    describe_histogram!(
        GROUP_BYTES,
        Unit::Bytes,
        "size of a group on disk, padding included"
    );
    describe_histogram!(
        SYNC,
        Unit::Seconds,
        "time that writing and syncing a group takes"
    );
    describe_counter!(ERRORS, "calls that failed, by operation and reason");
    describe_gauge!(
        LOG_BYTES,
        Unit::Bytes,
        "size of the log, from its oldest record to its end"
    );
    describe_gauge!(LAG, Unit::Bytes, "log that a start would replay");
    describe_gauge!(
        FREE,
        Unit::Bytes,
        "what may still be taken of the file system of the data"
    );
    describe_histogram!(
        FLUSH,
        Unit::Seconds,
        "time that a flush of the projection takes"
    );
}

/// A request was sent to the database.
pub(crate) fn cql_asked(kind: &'static str) {
    gauge!(CQL_IN_FLIGHT, "kind" => kind).increment(1);
}

/// The database answered, or did not in time.
pub(crate) fn cql_answered(kind: &'static str, outcome: &'static str, took: Duration) {
    gauge!(CQL_IN_FLIGHT, "kind" => kind).decrement(1);
    counter!(CQL_ASKED, "kind" => kind, "outcome" => outcome).increment(1);
    histogram!(CQL_SECONDS, "kind" => kind).record(took);
}

/// A write has no outcome that is known, and is looked into.
pub(crate) fn cql_unknown(what: &'static str) {
    counter!(CQL_UNKNOWN, "what" => what).increment(1);
}

/// So many shards are held here.
pub(crate) fn cql_shards(count: usize) {
    gauge!(CQL_SHARDS).set(count as f64);
}

/// So many appends of a shard's log were applied again when it was taken.
pub(crate) fn cql_replayed(appends: usize) {
    counter!(CQL_REPLAYED).increment(appends as u64);
}

/// The projection of a shard was flushed.
pub(crate) fn cql_flushed(took: Duration) {
    histogram!(FLUSH).record(took);
}

/// A request that failed is made again.
pub(crate) fn cql_repeated() {
    counter!(CQL_REPEATED).increment(1);
}

/// Describes what a store in a database tells, once it is opened.
pub(crate) fn describe_cql() {
    counter!(CQL_REPEATED).increment(0);
    counter!(CQL_REPLAYED).increment(0);
    for what in ["rows", "shard"] {
        counter!(CQL_UNKNOWN, "what" => what).increment(0);
    }
    gauge!(CQL_SHARDS).set(0.0);
    describe_counter!(CQL_ASKED, "requests to the database, by kind and outcome");
    describe_histogram!(
        CQL_SECONDS,
        Unit::Seconds,
        "time that a request to the database takes, by kind"
    );
    describe_gauge!(CQL_IN_FLIGHT, "requests that are not answered, by kind");
    describe_counter!(
        CQL_UNKNOWN,
        "conditional writes whose answer was lost and that were looked into"
    );
    describe_counter!(CQL_REPEATED, "requests that failed and were made again");
    describe_gauge!(CQL_SHARDS, "shards that this node holds in the database");
    describe_counter!(
        CQL_REPLAYED,
        "appends that were applied again when a shard was taken"
    );
}

/// How long appends take; held, because looking the histogram up costs more than a record.
#[derive(Clone)]
pub(crate) struct Appends(Histogram);

impl Appends {
    /// The histogram of this process.
    pub(crate) fn new() -> Self {
        Self(histogram!(APPEND))
    }

    /// An append was answered.
    pub(crate) fn answered(&self, took: Duration) {
        self.0.record(took);
    }
}

/// A group became durable.
pub(crate) fn group_written(bytes: u64, took: Duration) {
    counter!(GROUPS).increment(1);
    histogram!(GROUP_BYTES).record(bytes as f64);
    histogram!(SYNC).record(took);
}

/// A call failed.
pub(crate) fn failed(operation: &'static str, error: &StoreError) {
    counter!(ERRORS, "op" => operation, "reason" => reason(error)).increment(1);
}

/// The projection was flushed; the log is this long, and this much of it is not flushed.
pub(crate) fn flushed(took: Duration, log_bytes: u64, lag: u64) {
    histogram!(FLUSH).record(took);
    gauge!(LOG_BYTES).set(log_bytes as f64);
    gauge!(LAG).set(lag as f64);
}

/// This much is free on the file system of the data, in bytes.
pub(crate) fn free_space(bytes: u64) {
    gauge!(FREE).set(bytes as f64);
}

const fn reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::Full => "full",
        StoreError::Overloaded => "overloaded",
        StoreError::Fenced { .. } => "fenced",
        StoreError::Closed => "closed",
        StoreError::Io { .. } => "io",
        StoreError::Corrupt { .. } => "corrupt",
        StoreError::Invalid(_) => "invalid",
        StoreError::NotOpen(_) => "not_open",
    }
}
