//! Giving a shard away: frames first, then what runs on it, then the row, then who should take it is
//! told.
//!
//! While the answers of its last frames are waited for, a shard takes messages; only from then on
//! until the next owner opened it nobody does. That time is short when few shards share it: so
//! they go one after the other, and each waits for its turn before it stops anything.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::NodeId;
use zajil_model::lease::shard::ShardRow;

use super::Life;
use super::take::CHANGE_WITHIN;
use crate::rows::Cas;
use crate::shards::{Closed, HandOver};
use crate::shared::Shared;

/// Shards that nobody serves at the same time, because they are on their way: of those whose answers
/// are there soon, and as many again of the others. Each waits for the others: with 16 the median pause of a recipient was 157 ms on a small machine, with four it is
/// half of that, and a node with a third of all shards is still gone after 4 to 6 s of the 20 that
/// it has.
const ON_THEIR_WAY: usize = 4;

/// How long a shard may wait for the answers of its last frames while others wait for their turn:
/// those of a near channel are there by then. However slow all are, a third of all shards has had its
/// turn within 13 s.
const QUIET_SOON: Duration = Duration::from_millis(150);

/// How long it may wait after that. What is unanswered then is sent again by the next owner, under
/// the same WhatsApp id.
const QUIET_WITHIN: Duration = Duration::from_millis(4_850);

/// How long a shard may take to close, after which it is dropped as it is: half of what a drain
/// has.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// How long the next owner may take to say that it opened a shard while others wait for their turn:
/// twice what it takes.
const TOLD_SOON: Duration = Duration::from_millis(500);

/// How long it may take at all. One that says nothing sees the row at its next look.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// How often a release without an answer is tried.
const TRIES: usize = 3;

/// Whose turn it is to be served by nobody.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// Of shards that send until it comes.
    first: Arc<Semaphore>,
    /// Of those that let others go first and are silent by now: they do not stand behind who still
    /// sends.
    silent: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new() -> Self {
        let turns = || Arc::new(Semaphore::new(ON_THEIR_WAY));
        Self {
            first: turns(),
            silent: turns(),
        }
    }
}

/// Whom a shard was released to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) to: NodeId,
    pub(super) released: Epoch,
    /// Whether that node said that it took it.
    pub(super) told: bool,
}

/// Gives a shard away; answers whom it was released to, if to anybody.
pub(super) async fn give(
    shared: &Shared,
    life: &Life,
    shard: Shard,
    row: ShardRow,
    to: Option<NodeId>,
    turns: Turns,
) -> Option<Given> {
    let (ownership, epoch) = (&shared.ports.ownership, row.epoch);
    let turn = quiet(shared, shard, epoch, turns).await;
    let began = shared.mono();
    if !ownership.closing(shard, epoch) {
        return None;
    }
    let closed = close(shared, shard, epoch, to).await;
    ownership.dropped(shard, epoch);
    if life.over.is_cancelled() {
        return None;
    }
    let released = release(shared, life, shard, row, to).await?;
    let to = to?;
    let hand_over = HandOver {
        from: life.me.node,
        released,
        state: closed.state,
    };
    let taken = taken(shared.ports.shards.tell(to, shard, hand_over), turn).await;
    if let Some(epoch) = taken {
        ownership.learn(shard, Some(to), epoch);
    }
    shared
        .metrics
        .gave(taken.is_some(), shared.mono().since(began));
    Some(Given {
        to,
        released,
        told: taken.is_some(),
    })
}

/// Waits until it is the shard's turn and its last frames are answered, or for long enough. One
/// that has to wait for an answer lets others go first.
async fn quiet(shared: &Shared, shard: Shard, epoch: Epoch, turns: Turns) -> OwnedSemaphorePermit {
    const OPEN: &str = "nobody closes the turns";
    let turn = turns.first.acquire_owned().await.expect(OPEN);
    if !shared.ports.ownership.leaving(shard, epoch) {
        return turn;
    }
    let shards = &shared.ports.shards;
    if timeout(QUIET_SOON, shards.quiet(shard, epoch))
        .await
        .is_ok()
    {
        return turn;
    }
    drop(turn);
    if timeout(QUIET_WITHIN, shards.quiet(shard, epoch))
        .await
        .is_err()
    {
        shared.trouble(format!("shard {shard} leaves with messages in flight"));
    }
    turns.silent.acquire_owned().await.expect(OPEN)
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

/// Waits for the next owner to say that it took the shard, and lets others go on when that takes long.
async fn taken(
    told: impl Future<Output = Option<Epoch>>,
    turn: OwnedSemaphorePermit,
) -> Option<Epoch> {
    let mut told = pin!(timeout(TOLD_WITHIN, told));
    if let Ok(soon) = timeout(TOLD_SOON, &mut told).await {
        return soon.ok().flatten();
    }
    drop(turn);
    told.await.ok().flatten()
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
