//! Giving a shard away: what runs on it first, then the row, then who should take it is told.

use std::time::Duration;

use tokio::time::timeout;
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::NodeId;
use zajil_model::lease::shard::ShardRow;

use super::Life;
use super::take::CHANGE_WITHIN;
use crate::rows::Cas;
use crate::shards::{Closed, HandOver};
use crate::shared::Shared;

/// How long a shard may take to close, after which it is dropped as it is: half of what a drain
/// has.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// How long to wait for the next owner to say that it opened a shard: it does so by itself, too.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// How often a release without an answer is tried.
const TRIES: usize = 3;

/// Gives a shard away; answers whether the next owner said that it took it.
pub(super) async fn give(
    shared: &Shared,
    life: &Life,
    shard: Shard,
    row: ShardRow,
    to: Option<NodeId>,
) -> bool {
    let (ownership, epoch) = (&shared.ports.ownership, row.epoch);
    let began = shared.mono();
    if !ownership.closing(shard, epoch) {
        return true;
    }
    let closed = close(shared, shard, epoch, to).await;
    ownership.dropped(shard, epoch);
    if life.over.is_cancelled() {
        return true;
    }
    let Some(released) = release(shared, life, shard, row, to).await else {
        return true;
    };
    let Some(to) = to else {
        return true;
    };
    let hand_over = HandOver {
        from: life.me.node,
        released,
        state: closed.state,
    };
    let tell = shared.ports.shards.tell(to, shard, hand_over);
    let taken = timeout(TELL_WITHIN, tell).await.ok().flatten();
    if let Some(epoch) = taken {
        ownership.learn(shard, Some(to), epoch);
    }
    shared
        .metrics
        .gave(taken.is_some(), shared.mono().since(began));
    taken.is_some()
}

async fn close(shared: &Shared, shard: Shard, epoch: Epoch, to: Option<NodeId>) -> Closed {
    let shards = &shared.ports.shards;
    let failed = match timeout(CLOSE_WITHIN, shards.close(shard, epoch, to)).await {
        Ok(Ok(closed)) => return closed,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it is not closed after {} s", CLOSE_WITHIN.as_secs()),
    };
    shared.trouble(format!(
        "cannot close shard {shard} in good order: {failed}"
    ));
    shards.lost(shard, epoch).await;
    Closed::default()
}

/// Changes the row; answers the epoch that it has then, or nothing when it is not known to be
/// released. A row that still names this node is taken back at the next look.
async fn release(
    shared: &Shared,
    life: &Life,
    shard: Shard,
    row: ShardRow,
    to: Option<NodeId>,
) -> Option<Epoch> {
    let rows = &shared.ports.rows;
    let released = row.released(life.me, row.epoch, to).ok()?;
    for _ in 0..TRIES {
        let ask = rows.cas_shard(shard, Some(row), released);
        let current = match timeout(CHANGE_WITHIN, ask).await {
            Ok(Cas::Applied) => return Some(released.epoch),
            Ok(Cas::Conflict(current)) => current,
            Ok(Cas::Unknown(_)) | Err(_) => {
                match timeout(CHANGE_WITHIN, rows.read_shard(shard)).await {
                    Ok(Ok(current)) if current == Some(row) => continue,
                    Ok(Ok(current)) => current,
                    Ok(Err(_)) | Err(_) => continue,
                }
            }
        };
        return (current == Some(released)).then_some(released.epoch);
    }
    shared.trouble(format!(
        "cannot release shard {shard}: the store did not answer in time"
    ));
    None
}
