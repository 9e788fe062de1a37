//! Brings the gauges up to date before a scrape.

use std::time::Duration;

use zajil_model::instance::Session;
use zajil_model::lifecycle::Status;
use zajil_model::message::MessageRef;
use zajil_model::time::Timestamp;
use zajil_storage::{QueuedChunk, Work};

use super::Engine;
use crate::metrics::{Backlog, Here};

/// Queues whose oldest message is looked up for one scrape, those first that may hold the oldest
/// one of all: each look is a read of the store, and nearly always the first one decides.
const QUEUES_LOOKED_AT: usize = 8;

/// How often instances are counted: what this process makes and deletes it knows by itself, and
/// reading 100,000 rows takes some tenths of a second of one core.
const COUNT_EVERY: Duration = Duration::from_secs(300);

/// The wait before another count when instances were made or deleted during one.
const COUNT_AGAIN: Duration = Duration::from_secs(5);

impl Engine {
    /// Brings the gauges up to date; to be called before a scrape.
    pub async fn observe_gauges(&self) {
        let context = &self.0.context;
        let (mut sessions, mut damaged) = ([0; 3], 0);
        for handle in self.0.router.all() {
            let place = match handle.shown().session {
                Session::Open => 0,
                Session::Connecting => 1,
                Session::Closed { .. } => 2,
            };
            sessions[place] += 1;
            damaged += usize::from(handle.is_damaged());
        }
        context.metrics.gauges.here(Here {
            sessions,
            exist: context.directory.instance_count(),
            damaged,
            window_bytes: self.window_bytes(),
            wake_ups: self.wake_ups(),
            shards: context.ownership.owned(),
        });
        match self.store().work().await {
            Ok(work) => context.metrics.gauges.backlog(self.backlog(work).await),
            Err(error) => tracing::warn!(%error, "cannot read what waits"),
        }
    }

    /// Running instances with messages that cannot be read, because what is stored is damaged.
    pub fn damaged(&self) -> usize {
        let handles = self.0.router.all();
        handles.iter().filter(|handle| handle.is_damaged()).count()
    }

    /// Counts the instances of this node now, and again from time to time.
    pub(super) fn count_instances(&self) {
        let (context, stop) = (self.0.context.clone(), self.0.context.stop.clone());
        let counting = async move {
            loop {
                let owns = |shard| context.ownership.owns(shard);
                let wait = match context.directory.count_instances(owns).await {
                    Ok(true) => COUNT_EVERY,
                    Ok(false) => COUNT_AGAIN,
                    Err(error) => {
                        tracing::warn!(%error, "cannot count the instances");
                        COUNT_AGAIN
                    }
                };
                tokio::time::sleep(wait).await;
            }
        };
        let counting = stop.run_until_cancelled_owned(counting);
        self.0.context.tasks.spawn(counting);
    }

    async fn backlog(&self, mut work: Vec<Work>) -> Backlog {
        let mut messages = [0; 3];
        for one in &work {
            for (sum, count) in messages.iter_mut().zip(one.counts) {
                *sum += count;
            }
        }
        work.retain(|one| one.unsettled > one.counts[Status::Scheduled as usize]);
        work.sort_unstable_by_key(|one| one.since);
        let mut oldest: Option<Timestamp> = None;
        for one in work.iter().take(QUEUES_LOOKED_AT) {
            if oldest.is_some_and(|oldest| oldest <= one.since) {
                break;
            }
            let since = self.waits_since(one).await;
            oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
        }
        let now = self.clock().now();
        Backlog {
            messages,
            oldest: oldest.map_or(Duration::ZERO, |oldest| now.since(oldest)),
        }
    }

    /// Since when the first message of a queue waits that is to be sent.
    async fn waits_since(&self, work: &Work) -> Timestamp {
        let (instance, queue) = (work.instance, work.queue);
        match self.store().queued(instance, queue, None, 1, 1).await {
            Ok((chunks, _)) => {
                let first = chunks.iter().find_map(first_waiting);
                // Meanwhile it may have been settled.
                first.unwrap_or_else(|| self.clock().now())
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the oldest message of a queue");
                work.since
            }
        }
    }
}

/// Since when the first message of a chunk waits that is to be sent.
fn first_waiting(queued: &QueuedChunk) -> Option<Timestamp> {
    let waits = |status| matches!(status, Status::Pending | Status::Processing);
    let first = queued.states.iter().position(|state| waits(state.status))?;
    let message = MessageRef::new(queued.chunk.clone(), u32::try_from(first).ok()?)?;
    Some(message.due())
}
