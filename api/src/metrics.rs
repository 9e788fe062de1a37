//! What the HTTP edge counts: requests, how long they take, how many there are, what is refused.

use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge};
use metrics::{describe_histogram, gauge, histogram};
use parking_lot::RwLock;
use rustc_hash::FxHashMap;

const REQUESTS: &str = "zajil_http_requests_total";
const DURATION: &str = "zajil_http_request_duration_seconds";
const IN_FLIGHT: &str = "zajil_http_in_flight";
const REJECTED: &str = "zajil_http_rejected_total";
const CONNECTIONS: &str = "zajil_http_connections";
const ROWS: &str = "zajil_http_upload_rows_total";

/// The route of a request that no route matched.
const NO_ROUTE: &str = "other";

/// What refusals are counted by; others are plain answers.
const REASONS: [(&str, &str); 8] = [
    ("invalid_key", "auth"),
    ("invalid_credentials", "auth"),
    ("missing_permission", "auth"),
    ("ip_not_allowed", "auth"),
    ("rate_limited", "rate_limit"),
    ("validation", "validation"),
    ("unavailable", "overload"),
    ("request_timeout", "slow_client"),
];

/// Handles of what the edge counts, made once and kept.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    in_flight: Gauge,
    rows: Counter,
    rejected: Vec<(&'static str, Counter)>,
}

/// Handles of one route.
pub(crate) struct RouteMetrics {
    name: Box<str>,
    /// Made with the first answer: most routes of a node are never used.
    duration: OnceLock<Histogram>,
    codes: RwLock<FxHashMap<(&'static str, u16), Counter>>,
}

impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteMetrics")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl HttpMetrics {
    /// Describes the families and makes the handles, each with a zero.
    pub(crate) fn new() -> Self {
        describe_counter!(REQUESTS, "Requests by route, method and status code.");
        describe_histogram!(
            DURATION,
            Unit::Seconds,
            "Time from the head of a request to its answer."
        );
        describe_gauge!(IN_FLIGHT, "Requests that are being carried out.");
        describe_counter!(REJECTED, "Requests that were refused, by reason.");
        describe_gauge!(CONNECTIONS, "Open connections.");
        describe_counter!(ROWS, "Rows of batches that were uploaded.");
        // Both families are there before the first request.
        drop(histogram!(DURATION, "route" => NO_ROUTE));
        counter!(REQUESTS, "route" => NO_ROUTE, "method" => "GET", "code" => "404").increment(0);
        let rejected = REASONS
            .into_iter()
            .map(|(code, reason)| (code, counter!(REJECTED, "reason" => reason)))
            .collect();
        Self {
            in_flight: gauge!(IN_FLIGHT),
            rows: counter!(ROWS),
            rejected,
        }
    }

    /// A request began.
    pub(crate) fn began(&self) {
        self.in_flight.increment(1.0);
    }

    /// A request ended, whatever came of it.
    pub(crate) fn ended(&self) {
        self.in_flight.decrement(1.0);
    }

    /// A request was refused with this `error_code`.
    pub(crate) fn refused(&self, code: &str) {
        if let Some((_, counter)) = self.rejected.iter().find(|(of, _)| *of == code) {
            counter.increment(1);
        }
    }

    /// Rows of a batch came in.
    pub(crate) fn rows(&self, count: u64) {
        self.rows.increment(count);
    }
}

impl RouteMetrics {
    /// The handles of the route of that path.
    pub(crate) fn new(path: &str) -> Self {
        Self {
            name: path.into(),
            duration: OnceLock::new(),
            codes: RwLock::default(),
        }
    }

    /// The handles of what no route matches.
    pub(crate) fn other() -> Self {
        Self::new(NO_ROUTE)
    }

    /// A request was answered.
    pub(crate) fn answered(&self, method: &Method, status: StatusCode, took: Duration) {
        let duration = || histogram!(DURATION, "route" => self.name.to_string());
        self.duration
            .get_or_init(duration)
            .record(took.as_secs_f64());
        let key = (method_label(method), status.as_u16());
        if let Some(counter) = self.codes.read().get(&key) {
            counter.increment(1);
            return;
        }
        let made = counter!(
            REQUESTS,
            "route" => self.name.to_string(),
            "method" => key.0,
            "code" => status.as_u16().to_string()
        );
        made.increment(1);
        self.codes.write().insert(key, made);
    }
}

/// Methods are a closed set; what a client makes up is `other`.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Handles of a listener, which knows no routes.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionMetrics {
    open: Gauge,
    refused: Counter,
}

impl ConnectionMetrics {
    /// Makes the handles.
    pub(crate) fn new() -> Self {
        Self {
            open: gauge!(CONNECTIONS),
            refused: counter!(REJECTED, "reason" => "connections"),
        }
    }

    /// A connection was opened.
    pub(crate) fn opened(&self) {
        self.open.increment(1.0);
    }

    /// A connection was closed.
    pub(crate) fn closed(&self) {
        self.open.decrement(1.0);
    }

    /// A connection was turned away.
    pub(crate) fn refused(&self) {
        self.refused.increment(1);
    }
}
