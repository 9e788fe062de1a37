//! What a node does by the clock: folds metrics, and lets go of what is past its retention.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_model::time::Clock;
use zajil_storage::Store;

use crate::config::Config;
use crate::node::Process;
use crate::telemetry;

/// How often periods past their retention are looked for. They are days long.
const RETIRE_EVERY: Duration = Duration::from_secs(3_600);

/// Starts both; they end when `stopping` is cancelled.
pub fn start(
    config: &Config,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    process: &Process,
    tasks: &TaskTracker,
    stopping: &CancellationToken,
) {
    // At once, so that no family is missing from the first scrape.
    telemetry::collect_process();
    let metrics = process.metrics.clone();
    let folding = every(telemetry::UPKEEP, move || {
        metrics.run_upkeep();
        telemetry::collect_process();
        std::future::ready(())
    });
    tasks.spawn(stopping.clone().run_until_cancelled_owned(folding));

    let (store, clock, retention) = (Arc::clone(store), Arc::clone(clock), config.retention);
    let retiring = every(RETIRE_EVERY, move || {
        let (store, now) = (Arc::clone(&store), clock.now());
        async move {
            match store.retire(now, retention).await {
                Ok(0) => {}
                Ok(periods) => tracing::info!(periods, "periods past their retention were dropped"),
                Err(error) => tracing::warn!(%error, "cannot drop what is past its retention"),
            }
        }
    });
    tasks.spawn(stopping.clone().run_until_cancelled_owned(retiring));
}

async fn every<F: Future<Output = ()>>(time: Duration, mut work: impl FnMut() -> F) {
    let mut ticks = interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        work().await;
    }
}
