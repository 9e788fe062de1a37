//! Dropping what this node no longer owns.

use futures_util::{StreamExt as _, stream};
use zajil_model::id::Shard;

use super::AT_ONCE;
use crate::shared::Shared;

/// Drops a shard at once.
pub(super) async fn lose(shared: &Shared, shard: Shard) {
    let Some(epoch) = shared.ports.ownership.epoch(shard) else {
        return;
    };
    shared.ports.ownership.dropped(shard, epoch);
    shared.metrics.lost_shard();
    shared.ports.shards.lost(shard, epoch).await;
}

/// Drops everything; nothing is sent or written for any shard when this returns.
pub(crate) async fn lose_all(shared: &Shared) {
    let held = shared.ports.ownership.held();
    stream::iter(held.into_keys())
        .for_each_concurrent(AT_ONCE, |shard| lose(shared, shard))
        .await;
}
