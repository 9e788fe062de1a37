//! What the process tells of itself: log lines, panics, and the metrics of the process.
//!
//! Only `main` calls this: a log subscriber and a metrics recorder belong to the process, not to a
//! node, and tests run several nodes in one process.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use zajil_model::time::Timestamp;

use crate::config::{LogConfig, LogFormat};

/// How often samples of histograms are folded into their buckets: without it they pile up until
/// the next scrape.
pub const UPKEEP: Duration = Duration::from_secs(5);

const BUILD: &str = "zajil_build_info";
const STARTED: &str = "zajil_start_time_seconds";

/// Bounds for every `_seconds` histogram. From a fast stage on one node to a message that waited a
/// day for its pace; the bounds of objectives (10 ms, 100 ms, 1 s, 60 s) are among them.
const SECONDS: [f64; 20] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
];

/// The histogram that there is one of for each route.
const REQUESTS: &str = "zajil_http_request_duration_seconds";

/// Bounds for requests. Few, because they count for each route: a node shows 2,000 series at most.
/// The objective of sends (250 ms) is among them.
const REQUEST_SECONDS: [f64; 5] = [0.01, 0.05, 0.25, 1.0, 5.0];

/// Bounds for every `_bytes` histogram.
const BYTES: [f64; 8] = [
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    8_388_608.0,
];

/// Bounds for every other histogram: they count things.
const COUNTS: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 10_000.0,
];

/// Begins to log to standard error, and makes panics log lines too.
pub fn start_log(config: &LogConfig) {
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let filter = EnvFilter::new(&config.level);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // A second subscriber in one process is a fault of the caller; the first goes on.
    let begun = if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init()
    } else {
        lines.with_ansi(io::stderr().is_terminal()).try_init()
    };
    if begun.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let at = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let what = panic.payload_as_str().unwrap_or("no text");
    tracing::error!(at, what, "a task panicked");
}

/// Makes the recorder of the process and installs it; the handle renders it.
///
/// # Errors
/// A recorder is installed already.
pub fn start_metrics(started_at: Timestamp) -> Result<PrometheusHandle, BuildError> {
    let handle = buckets(PrometheusBuilder::new())?.install_recorder()?;
    zajil_storage::metrics::describe();
    zajil_transport::metrics::describe();
    metrics_process::Collector::default().describe();
    metrics::describe_gauge!(BUILD, "Always 1; the label says which version runs.");
    metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    metrics::describe_gauge!(STARTED, metrics::Unit::Seconds, "When the process started.");
    metrics::gauge!(STARTED).set(started_at.as_micros() as f64 / 1e6);
    Ok(handle)
}

/// Reads what the system knows of this process (memory, CPU, files) into gauges.
pub fn collect_process() {
    metrics_process::Collector::default().collect();
}

/// A recorder that is not installed: for a node beside others in one process.
pub fn detached_metrics() -> PrometheusHandle {
    let builder = buckets(PrometheusBuilder::new()).unwrap_or_else(|_| PrometheusBuilder::new());
    builder.build_recorder().handle()
}

/// Nothing may render as a summary: summaries cannot be added up over nodes.
fn buckets(builder: PrometheusBuilder) -> Result<PrometheusBuilder, BuildError> {
    builder
        .set_buckets(&COUNTS)?
        .set_buckets_for_metric(Matcher::Full(REQUESTS.to_owned()), &REQUEST_SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)
}

#[cfg(test)]
mod tests {
    use metrics::with_local_recorder;

    use super::*;

    #[test]
    fn no_histogram_renders_as_a_summary() {
        let recorder = buckets(PrometheusBuilder::new()).unwrap().build_recorder();
        let handle = recorder.handle();

        with_local_recorder(&recorder, || {
            metrics::histogram!("zajil_stage_duration_seconds").record(0.004);
            metrics::histogram!("zajil_body_bytes").record(900.0);
            metrics::histogram!("zajil_group_messages").record(7.0);
            metrics::histogram!(REQUESTS).record(0.3);
        });
        let page = handle.render();

        assert!(!page.contains(" summary"), "{page}");
        assert!(
            page.contains("zajil_stage_duration_seconds_bucket{le=\"0.005\"} 1"),
            "{page}"
        );
        let buckets = page.matches("zajil_http_request_duration_seconds_bucket");
        assert_eq!(buckets.count(), REQUEST_SECONDS.len() + 1, "{page}");
    }
}
