//! The shards of this node, as the cluster opens and closes them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use zajil_cluster::{Closed, HandOver, Place, ShardError, Shards};
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::NodeId;

use super::{Engine, WAKE_AGAIN};
use crate::instance::InstanceMsg;
use crate::instance::handed::Handed;
use crate::instance::handle::Handle;
use crate::owners::encode;
use crate::owners::questions::TakeShard;

/// How long accepts that were let in may take to become durable when their shard leaves. What is
/// not answered then gets the answer that nobody knows.
const ACCEPTS_WITHIN: Duration = Duration::from_secs(2);

/// How long instances may take to say where they stand, and to leave: they wait for the store, and
/// for nobody's answer.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// How often a closing shard looks whether everybody left.
const CLOSE_LOOK: Duration = Duration::from_millis(5);

/// How long the next owner may take to say that it opened a shard.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Opens and closes the shards of an engine.
#[derive(Clone, Debug)]
pub struct EngineShards(Engine);

impl Engine {
    /// What the cluster opens and closes shards by.
    pub fn shards(&self) -> EngineShards {
        EngineShards(self.clone())
    }

    /// Once a shard is served here, wakes what has work on it.
    async fn wake_when_served(&self, shard: Shard, epoch: Epoch) {
        let ownership = self.ownership().clone();
        let mut changed = ownership.changed();
        while ownership.epoch(shard) == Some(epoch) {
            if ownership.place(shard) == Place::Here(epoch) {
                match self.wake_all(|other| other == shard).await {
                    Ok(()) => return self.0.batches.look_again(),
                    Err(error) => tracing::error!(%shard, %error, "cannot wake what has work"),
                }
                tokio::time::sleep(WAKE_AGAIN).await;
            } else {
                changed.changed().await;
            }
        }
    }

    /// Asks the instances of a shard where they stand.
    fn ask_each(
        &self,
        shard: Shard,
        question: fn(oneshot::Sender<Handed>) -> InstanceMsg,
    ) -> Vec<oneshot::Receiver<Handed>> {
        let ask = |handle: &Arc<Handle>| {
            let (reply, answer) = oneshot::channel();
            // One without an actor has nothing in flight.
            handle.tell(question(reply)).then_some(answer)
        };
        self.0
            .router
            .of_shard(shard)
            .iter()
            .filter_map(ask)
            .collect()
    }

    /// What the instances of a shard hand over, those that say so soon.
    async fn handed(&self, shard: Shard) -> Vec<Handed> {
        let asked = self.ask_each(shard, InstanceMsg::HandOver).into_iter();
        let soon = asked.map(|answer| tokio::time::timeout(LEAVE_WITHIN, answer));
        // One that failed meanwhile hands nothing over, and its successor opens no session.
        join_all(soon)
            .await
            .into_iter()
            .flatten()
            .flatten()
            .collect()
    }

    /// Waits until everybody who was let in to an instance of a shard has left.
    async fn await_entrants(&self, shard: Shard) {
        let left = async {
            while self.0.router.of_shard(shard).iter().any(|h| h.is_entered()) {
                tokio::time::sleep(CLOSE_LOOK).await;
            }
        };
        if tokio::time::timeout(ACCEPTS_WITHIN, left).await.is_err() {
            tracing::warn!(%shard, "a shard leaves while messages are being accepted");
        }
    }

    /// Lets the instances of a shard write what they know and leave.
    async fn drain_shard(&self, shard: Shard) {
        let leaving = async {
            loop {
                let handles = self.0.router.of_shard(shard);
                // One without an actor has nothing to finish.
                let mut busy = handles.iter().filter(|h| h.tell(InstanceMsg::Drain));
                if busy.next().is_none() {
                    return;
                }
                busy.for_each(|_| ());
                tokio::time::sleep(CLOSE_LOOK).await;
            }
        };
        if tokio::time::timeout(LEAVE_WITHIN, leaving).await.is_err() {
            tracing::warn!(%shard, "a shard leaves before its instances wrote all");
        }
    }

    /// What a former owner handed over, for the actors that begin in this epoch. Their instances are
    /// read beside what the store has to do.
    fn receive(&self, epoch: Epoch, from: &HandOver) {
        if from.released.next() != epoch || from.state.is_empty() {
            return;
        }
        let context = &self.0.context;
        match rmp_serde::from_slice::<Vec<Handed>>(&from.state) {
            Ok(all) => {
                let ids: Vec<_> = all.iter().map(|handed| handed.instance).collect();
                context.arrivals.arrived(all, epoch, context.clock.mono());
                let engine = self.clone();
                context.tasks.spawn(async move {
                    for id in ids {
                        // Whoever wakes it reads it again, and says what failed.
                        drop(engine.instance(id).await);
                    }
                });
            }
            // Without it a pace begins anew, which is slower and not wrong.
            Err(error) => {
                tracing::warn!(node = from.from.0, %error, "cannot read what was handed over")
            }
        }
    }
}

#[async_trait]
impl Shards for EngineShards {
    fn joined(&self) {
        self.0.0.context.directory.forget_all();
    }

    async fn open(
        &self,
        shard: Shard,
        epoch: Epoch,
        from: Option<HandOver>,
    ) -> Result<(), ShardError> {
        let parts = &self.0.0;
        // Whoever came for an instance in the moment in which the shard left has an actor that no session
        // is opened for, or none at all.
        parts.router.close_shard(shard).await;
        // A pause that its former owner confirmed is in the row, and not in what was read before.
        parts.context.directory.forget_shard(shard);
        if let Some(from) = from {
            self.0.receive(epoch, &from);
        }
        let opened = parts.context.clocks.open(shard, epoch).await;
        opened.map_err(|error| ShardError(error.to_string()))?;
        let engine = self.0.clone();
        parts.context.tasks.spawn(async move {
            engine.wake_when_served(shard, epoch).await;
        });
        Ok(())
    }

    async fn quiet(&self, shard: Shard, _epoch: Epoch) {
        join_all(self.0.ask_each(shard, InstanceMsg::Quiet)).await;
    }

    async fn close(
        &self,
        shard: Shard,
        epoch: Epoch,
        _next: Option<NodeId>,
    ) -> Result<Closed, ShardError> {
        let parts = &self.0.0;
        self.0.await_entrants(shard).await;
        let handed = self.0.handed(shard).await;
        self.0.drain_shard(shard).await;
        tokio::join!(
            parts.batches.close_shard(shard),
            parts.buckets.close_shard(shard),
            parts.router.close_shard(shard),
        );
        parts.context.clocks.close(shard).await;
        let closed = parts.context.store.close_shard(shard, epoch).await;
        closed.map_err(|error| ShardError(error.to_string()))?;
        parts.context.arrivals.forget(shard);
        let state = if handed.is_empty() {
            Bytes::new()
        } else {
            encode(&handed)
        };
        Ok(Closed { state })
    }

    async fn lost(&self, shard: Shard, epoch: Epoch) {
        let parts = &self.0.0;
        // Without an epoch nothing of it may leave or be written any more.
        parts.context.clocks.lose(shard);
        // What was written is the next owner's to read, and what is written from now on counts nowhere:
        // so nothing is waited for that the store has in hand.
        parts.context.store.drop_shard(shard, epoch);
        tokio::join!(
            parts.router.close_shard(shard),
            parts.batches.close_shard(shard),
            parts.buckets.close_shard(shard),
        );
        parts.context.arrivals.forget(shard);
    }

    async fn tell(&self, next: NodeId, shard: Shard, hand_over: HandOver) -> Option<Epoch> {
        let question = TakeShard {
            shard: shard.number(),
            hand_over: hand_over.into(),
        };
        let asked = self.0.0.owners.ask_node(next, &question, TOLD_WITHIN);
        asked.await.ok().flatten()
    }
}

impl EngineShards {
    /// The same, for where a trait object is wanted.
    pub fn shared(self) -> Arc<dyn Shards> {
        Arc::new(self)
    }
}
