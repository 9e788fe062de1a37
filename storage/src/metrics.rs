//! What the embedded store tells of itself.

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

/// Calls that a full disk may refuse.
const OPERATIONS: [&str; 3] = ["append", "write", "own"];

/// Describes every metric of the store and makes it, so that it is there from the start; `node`
/// calls it once its recorder is in place.
pub fn describe() {
    for name in [APPEND, GROUP_BYTES, SYNC, FLUSH] {
        drop(histogram!(name));
    }
    counter!(GROUPS).increment(0);
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
