//! What a node may read of a shard that it does not hold: while it moves, reads go on.
//!
//! A view is made of the last flush and the log behind it, and is kept for a moment. It may mix what
//! its owner flushes meanwhile with what it has read before: a status may be newer than the counts.

use std::sync::Arc;
use std::time::Duration;

use zajil_model::id::{MessageId, Shard, Tick};

use super::alive::Alive;
use super::head::Stored;
use super::kv::Ground;
use super::shard::{ShardProjection, project, put_in_place};
use super::{Shared, head, log};
use crate::StoreError;
use crate::codec::Record;
use crate::projection::Positioned;

/// How long a view is asked before a newer one is made.
const KEPT: Duration = Duration::from_secs(1);

/// How long its last reader may wait for the database.
const ENDS: Duration = Duration::from_secs(15);

/// Views at once: more are asked only when a large part of a cluster is without owners, and each
/// holds what its shard has not flushed.
const VIEWS: usize = 64;

/// A view of a shard, as it is now or was a moment ago.
pub(super) async fn view(
    shared: &Arc<Shared>,
    shard: Shard,
) -> Result<Arc<ShardProjection>, StoreError> {
    if let Some(view) = shared.views.lock().get(&shard) {
        return Ok(Arc::clone(view));
    }
    if shared.views.lock().len() >= VIEWS {
        return Err(StoreError::NotOpen(shard));
    }
    let view = Arc::new(make(shared, shard).await?);
    shared.views.lock().insert(shard, Arc::clone(&view));
    let weak = Arc::downgrade(shared);
    shared.means.handle.spawn(async move {
        tokio::time::sleep(KEPT).await;
        if let Some(shared) = weak.upgrade() {
            shared.views.lock().remove(&shard);
        }
    });
    Ok(view)
}

fn ground(shared: &Arc<Shared>, shard: Shard) -> Ground {
    Ground {
        shard,
        db: Arc::clone(&shared.db),
        handle: shared.means.handle.clone(),
        alive: Arc::new(Alive::default()),
    }
}

/// What a shard holds that nobody serves any more, with the tick above which it gave no id; `None`
/// for one that was never served. It lasts as long as it is held.
pub(super) async fn lasting(
    shared: &Arc<Shared>,
    shard: Shard,
) -> Result<Option<(ShardProjection, Tick)>, StoreError> {
    let Some(stored) = head::read(&shared.db, shard).await? else {
        return Ok(None);
    };
    let ids = stored.head.ids;
    let projection = put_together(shared, &ground(shared, shard), stored).await?;
    let swept = shared.means.handle.spawn_blocking(move || {
        sweep(&projection, shard)?;
        Ok(projection)
    });
    let projection = swept.await.unwrap_or(Err(StoreError::Closed))?;
    Ok(Some((projection, ids)))
}

/// Brings mass cancels that its last owner left into the states, in memory alone: the feed tells of
/// them then, too.
fn sweep(projection: &ShardProjection, shard: Shard) -> Result<(), StoreError> {
    while let Some(instance) = projection.unswept().first().copied() {
        let tick = MessageId::new(projection.stands_at().0).map_or(Tick(0), MessageId::tick);
        projection.apply(vec![Positioned {
            lsn: Tick(tick.0 + 1).id(shard),
            len: 0,
            record: Record::Sweep(instance),
        }])?;
    }
    Ok(())
}

async fn make(shared: &Arc<Shared>, shard: Shard) -> Result<ShardProjection, StoreError> {
    let ground = ground(shared, shard);
    let alive = Arc::clone(&ground.alive);
    shared.means.handle.spawn(async move {
        tokio::time::sleep(ENDS).await;
        alive.lose(StoreError::Io {
            operation: "read a shard of another node",
            reason: "the database does not answer".to_owned(),
        });
    });
    let stored = head::read(&shared.db, shard).await?.unwrap_or_default();
    put_together(shared, &ground, stored).await
}

async fn put_together(
    shared: &Arc<Shared>,
    ground: &Ground,
    stored: Stored,
) -> Result<ShardProjection, StoreError> {
    // It was decided, so that anybody may do it.
    put_in_place(ground, &stored).await?;
    let tail = log::tail(ground, stored.head.tail, stored.head.log).await?;
    project(ground, None, shared.means.budgets, &stored.head, tail).await
}
