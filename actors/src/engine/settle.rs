//! Settling what nobody will send: after a restore, and of instances that are gone.

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::lifecycle::{Event, Outcome, Status};
use zajil_model::time::Timestamp;
use zajil_storage::{Append, Entry, StoreError, Work};

use crate::engine::Engine;
use crate::send::EngineError;

/// Messages that are settled in one append.
const AT_ONCE: usize = 1_000;

/// Bytes that are read at once to settle them.
const BYTES: usize = 1 << 20;

/// A time after every other.
const FOR_EVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// How a message of that status ends.
type End = fn(Status) -> Event;

impl Engine {
    /// Settles everything of an instance that was deleted: what was with the transport when the
    /// engine died can never be known.
    pub(super) async fn settle_orphans(&self, instance: InstanceId) -> Result<(), EngineError> {
        let end = |status| match status {
            Status::Processing => Event::Unknown,
            _ => Event::Cancelled,
        };
        let settled = self.settle_all(Some(instance), FOR_EVER, end).await?;
        tracing::info!(%instance, settled, "settled what a deleted instance left behind");
        Ok(())
    }

    /// Settles what was accepted before a time, of one instance or of all; answers how many.
    pub(super) async fn settle_all(
        &self,
        only: Option<InstanceId>,
        before: Timestamp,
        end: End,
    ) -> Result<u64, EngineError> {
        let mut settled = 0;
        for work in self.store().work().await? {
            if only.is_none_or(|only| only == work.instance) {
                settled += self.settle_queue(work, before, end).await?;
                settled += self.settle_schedule(work.instance, before, end).await?;
            }
        }
        Ok(settled)
    }

    async fn settle_queue(
        &self,
        work: Work,
        before: Timestamp,
        end: End,
    ) -> Result<u64, EngineError> {
        let (mut settled, mut after) = (0, None);
        loop {
            let (chunks, next) = self
                .store()
                .queued(work.instance, work.queue, after, AT_ONCE, BYTES)
                .await?;
            let old = chunks.iter().filter(|read| read.chunk.created_at < before);
            let ends = old.flat_map(|read| {
                let states = read.states.iter().enumerate();
                states
                    .filter(|(_, state)| {
                        matches!(state.status, Status::Pending | Status::Processing)
                    })
                    .map(|(index, state)| (read.chunk.id(index), end(state.status)))
            });
            settled += self.settle(work.instance, ends.collect()).await?;
            after = next;
            if after.is_none() {
                return Ok(settled);
            }
        }
    }

    async fn settle_schedule(
        &self,
        instance: InstanceId,
        before: Timestamp,
        end: End,
    ) -> Result<u64, EngineError> {
        let (mut settled, mut limit) = (0, AT_ONCE);
        loop {
            let (due, _) = self.store().scheduled(instance, FOR_EVER, limit).await?;
            let old = due.iter().filter(|record| record.chunk.created_at < before);
            let ends: Vec<_> = old
                .map(|record| (record.id(), end(record.state.status)))
                .collect();
            if ends.is_empty() {
                if due.len() < limit {
                    return Ok(settled);
                }
                // Newer ones fill the page and stay: look behind them.
                limit *= 2;
            }
            settled += self.settle(instance, ends).await?;
        }
    }

    /// Writes ends down; answers how many, once they are durable.
    async fn settle(
        &self,
        instance: InstanceId,
        ends: Vec<(MessageId, Event)>,
    ) -> Result<u64, EngineError> {
        if ends.is_empty() {
            return Ok(0);
        }
        let (shard, at) = (instance.shard(), self.clock().now());
        let epoch = self.0.context.clocks.ensure(shard, 1).await?;
        let settled = ends.len() as u64;
        let outcomes = ends
            .into_iter()
            .map(|(id, event)| Outcome { id, at, event });
        let entries = vec![Entry::Outcomes(outcomes.collect())];
        let (reply, answer) = tokio::sync::oneshot::channel();
        let append = Append {
            shard,
            epoch,
            entries,
        };
        // Who asked may have gone; what was settled stays settled.
        self.store()
            .append(append, Box::new(move |result| drop(reply.send(result))));
        answer.await.map_err(|_| StoreError::Closed)??;
        Ok(settled)
    }
}
