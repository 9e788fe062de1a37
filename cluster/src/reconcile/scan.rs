//! Reading the rows of all shards, and telling the rest of the node what they say.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::shard::ShardRow;
use zajil_model::lease::{NodeId, NodeRow};
use zajil_model::time::Timestamp;

use crate::rows::RowsError;
use crate::shared::Shared;

/// How long all rows may take to be read: half the time between two looks.
const WITHIN: Duration = Duration::from_millis(2_500);

/// How far the node's wall clock may be off the store's: what is sent later than it should, or
/// expires too early, for a clock that is wrong by more does more harm than a shard that waits.
const MOST_CLOCK_OFF: Duration = Duration::from_secs(300);

/// What was read.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) shards: BTreeMap<Shard, ShardRow>,
    took: Duration,
}

/// Reads everything; `None` when the store did not answer.
pub(super) async fn read(shared: &Shared) -> Option<Rows> {
    let began = shared.mono();
    let rows = &shared.ports.rows;
    let both = async { tokio::try_join!(rows.shard_rows(), rows.clock()) };
    let answer = timeout(WITHIN, both).await;
    let timed_out = Err(RowsError::timeout("read the rows of shards"));
    match answer.unwrap_or(timed_out) {
        Ok((found, clock)) => {
            compare_clocks(shared, clock);
            let mut shards: BTreeMap<_, _> = shared
                .shards()
                .map(|shard| (shard, ShardRow::default()))
                .collect();
            let known = |(shard, _): &(Shard, ShardRow)| shard.number() < shared.config.shards;
            shards.extend(found.into_iter().filter(known));
            let took = shared.mono().since(began);
            Some(Rows { shards, took })
        }
        Err(error) => {
            shared.trouble(format!("cannot look at the shards: {error}"));
            None
        }
    }
}

fn compare_clocks(shared: &Shared, store: Timestamp) {
    let here = shared.ports.clock.now();
    let off = here.since(store).max(store.since(here)) > MOST_CLOCK_OFF;
    if off == shared.clock_off.swap(off, Ordering::AcqRel) {
        return;
    }
    if off {
        let ahead = (here.as_seconds() - store.as_seconds()).abs();
        shared.trouble(format!(
            "the clock is {ahead} s off the store's: no shards are taken"
        ));
    }
    shared.renew.notify_one();
}

/// Tells the rest of the node where the shards are.
pub(super) fn tell(shared: &Shared, rows: &Rows, nodes: &BTreeMap<NodeId, NodeRow>) {
    let mut unowned = 0;
    for (shard, row) in &rows.shards {
        let owner = row.owner.filter(|owner| {
            let lease = nodes.get(&owner.node);
            !lease.is_some_and(|lease| owner.is_gone(lease))
        });
        unowned += usize::from(owner.is_none());
        match owner {
            Some(owner) => shared
                .ports
                .ownership
                .saw(*shard, Some(owner.node), row.epoch),
            None if row.epoch > Epoch(0) => shared.ports.ownership.orphaned(*shard, row.epoch),
            None => {}
        }
    }
    let takers = nodes
        .values()
        .filter(|row| row.state == zajil_model::lease::NodeState::Alive);
    let expected = rows.shards.len().checked_div(takers.count()).unwrap_or(0);
    shared.metrics.scanned(rows.took, unowned, expected);
}
