//! Retention: periods, hours of the log and changes that are past their time go, shard by shard.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use zajil_model::time::Timestamp;

use super::clock::hour;
use super::shard::Open;
use super::writer::{Answer, Call, Job};
use super::{Serving, Shared, log};
use crate::StoreError;
use crate::codec::{Record, encode_alone};

impl Shared {
    /// Lets go of what is past its time; answers how many periods went.
    pub(super) async fn retire(
        self: Arc<Self>,
        now: Timestamp,
        retention: Duration,
    ) -> Result<u32, StoreError> {
        self.check()?;
        let shards: Vec<Serving> = self.shards.read().values().cloned().collect();
        let mut gone = BTreeSet::new();
        for serving in shards {
            let retired = self.retire_shard(&serving, now, retention).await;
            self.check()?;
            let (shard, epoch) = (serving.open.ground.shard, serving.open.epoch);
            match retired {
                // It left meanwhile, whatever that broke off: its next owner does so.
                Err(_) if self.under(shard, epoch).is_err() => {}
                retired => gone.extend(retired?),
            }
        }
        Ok(gone.len() as u32)
    }

    async fn retire_shard(
        &self,
        serving: &Serving,
        now: Timestamp,
        retention: Duration,
    ) -> Result<Vec<u32>, StoreError> {
        let open = &serving.open;
        let before = open.projection.period_numbers();
        let below = open.projection.retirable(now - retention);
        if before.first().is_some_and(|oldest| *oldest < below) {
            let (told, applied) = oneshot::channel();
            let record = vec![encode_alone(Record::Retire(below))];
            let begun = self.db.clock.mono();
            let call = Call::new(record, Answer::Own(told), begun, &self.waiting);
            let sent = serving.jobs.send(Job::Call(call)).await;
            sent.map_err(|_| StoreError::NotOpen(open.ground.shard))?;
            applied.await.map_err(|_| StoreError::Closed)??;
        }
        let own = Arc::clone(open);
        let trimmed = self.means.handle.spawn_blocking(move || {
            while own.projection.trim_feed(now)? {
                own.projection.flush()?;
            }
            own.projection.flush_if_behind()?;
            Ok::<_, StoreError>(own.projection.log_floor())
        });
        let floor = trimmed.await.unwrap_or(Err(StoreError::Closed))?;
        self.drop_log(open, hour(floor)).await?;
        let after = open.projection.period_numbers();
        Ok(before
            .into_iter()
            .filter(|period| !after.contains(period))
            .collect())
    }

    /// Drops the log before an hour.
    async fn drop_log(&self, open: &Open, below: u32) -> Result<(), StoreError> {
        let floor = open.held.now().await.floor;
        if floor >= below {
            return Ok(());
        }
        let at = self.db.stamp();
        for hour in floor..below {
            log::drop_hour(&open.ground, at, hour).await?;
        }
        let changed = open
            .held
            .change(&self.db, &open.ground.alive, None, |head| {
                head.floor = below
            });
        changed.await.map(drop)
    }
}

#[cfg(test)]
mod tests;
