//! What the store does by itself: it flushes, and finishes what dead writers left.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::{Shared, intents, writer};

/// Shards that are flushed at once: what a database of a few nodes does not notice.
const FLUSHES: usize = 16;

/// How often writes that were left behind are looked for.
const INTENTS_EVERY: Duration = Duration::from_secs(60);

/// Starts the tasks of a store; they end with it.
pub(super) fn start(handle: &Handle, shared: &Arc<Shared>) {
    handle.spawn(flush_on_time(
        Arc::downgrade(shared),
        shared.config.flush_every,
    ));
    handle.spawn(finish_intents(Arc::downgrade(shared)));
}

async fn flush_on_time(shared: Weak<Shared>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let shards: Vec<_> = shared.shards.read().values().cloned().collect();
        let mut flushes = JoinSet::new();
        for serving in shards {
            if serving.open.ground.alive.check().is_ok() && serving.open.projection.is_behind() {
                if flushes.len() >= FLUSHES {
                    flushes.join_next().await;
                }
                flushes.spawn(writer::flush(serving.open));
            }
        }
        // None of them fails: a shard that cannot be flushed is lost.
        while flushes.join_next().await.is_some() {}
    }
}

async fn finish_intents(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(INTENTS_EVERY).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if let Err(error) = intents::finish_abandoned(&shared.db).await {
            tracing::warn!(%error, "writes that were left behind are not finished yet");
        }
    }
}
