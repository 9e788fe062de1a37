//! Taking a shard: the row first, then what runs on it.

use std::time::Duration;

use tokio::time::timeout;
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::NodeRow;
use zajil_model::lease::shard::ShardRow;

use super::Life;
use super::invite::TakeError;
use super::lose::lose;
use crate::rows::Cas;
use crate::shards::HandOver;
use crate::shared::Shared;

/// How long one change of a row, or one reading of it, may take.
pub(super) const CHANGE_WITHIN: Duration = Duration::from_secs(2);

/// How long a shard may take to open: far more than a long tail takes to be read.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// The lease row of the owner that a shard row names, as last read.
pub(super) fn owner_row(shared: &Shared, life: &Life, row: &ShardRow) -> Option<NodeRow> {
    let owner = row.owner?.node;
    if owner == life.me.node {
        return shared.holder.borrow().as_ref().map(|holder| *holder.row());
    }
    shared.peers.borrow().as_ref()?.get(&owner).copied()
}

/// Takes a shard whose row is `row`, and opens it.
pub(super) async fn take(
    shared: &Shared,
    life: &Life,
    shard: Shard,
    row: ShardRow,
    owner_row: Option<NodeRow>,
    from: Option<HandOver>,
) -> Result<Epoch, TakeError> {
    let taken = row
        .taken(life.me, owner_row.as_ref())
        .map_err(|_| TakeError::Owned)?;
    if life.over.is_cancelled() || !shared.is_active() {
        return Err(TakeError::NoLease);
    }
    let began = shared.mono();
    change(shared, shard, &row, &taken).await?;
    let opened = open(shared, life, shard, taken.epoch, from).await;
    shared
        .metrics
        .took(opened.is_ok(), shared.mono().since(began));
    opened.map(|()| taken.epoch)
}

/// Changes a row, and finds out what became of it where the answer does not say.
async fn change(
    shared: &Shared,
    shard: Shard,
    row: &ShardRow,
    taken: &ShardRow,
) -> Result<(), TakeError> {
    let rows = &shared.ports.rows;
    let ask = rows.cas_shard(shard, stored(row), *taken);
    let current = match timeout(CHANGE_WITHIN, ask).await {
        Ok(Cas::Applied) => return Ok(()),
        Ok(Cas::Conflict(current)) => current,
        Ok(Cas::Unknown(_)) | Err(_) => {
            let read = timeout(CHANGE_WITHIN, rows.read_shard(shard)).await;
            match read {
                Ok(Ok(current)) => current,
                Ok(Err(_)) | Err(_) => return Err(TakeError::Unknown),
            }
        }
    };
    match current {
        // Only this life writes its own name under that epoch.
        Some(current) if current == *taken => Ok(()),
        Some(current) => {
            let owner = current.owner.map(|owner| owner.node);
            shared.ports.ownership.learn(shard, owner, current.epoch);
            Err(TakeError::Owned)
        }
        None => Err(TakeError::Owned),
    }
}

/// The row as it stands in the store, where one that nobody ever took is none.
pub(super) fn stored(row: &ShardRow) -> Option<ShardRow> {
    (row.epoch > Epoch(0)).then_some(*row)
}

async fn open(
    shared: &Shared,
    life: &Life,
    shard: Shard,
    epoch: Epoch,
    from: Option<HandOver>,
) -> Result<(), TakeError> {
    let ownership = &shared.ports.ownership;
    if life.over.is_cancelled() {
        return Err(TakeError::NoLease);
    }
    ownership.opening(shard, epoch);
    let work = shared.ports.shards.open(shard, epoch, from);
    let failed = match timeout(OPEN_WITHIN, work).await {
        Ok(Ok(())) if ownership.opened(shard, epoch) => return Ok(()),
        // It was lost while it opened, and what opened it may not have known.
        Ok(Ok(())) => {
            shared.ports.shards.lost(shard, epoch).await;
            return Err(TakeError::NoLease);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it is not open after {} s", OPEN_WITHIN.as_secs()),
    };
    lose(shared, shard).await;
    Err(TakeError::NotOpened(failed))
}

/// Says what a person should know of a shard that was not taken.
pub(super) fn report(shared: &Shared, shard: Shard, error: &TakeError) {
    match error {
        // Others were faster, or this life is over: as it should be.
        TakeError::Owned | TakeError::NoLease | TakeError::Busy => {}
        TakeError::Unknown | TakeError::NotOpened(_) => {
            shared.trouble(format!("cannot take shard {shard}: {error}"));
        }
    }
}
