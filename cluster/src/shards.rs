//! The port to what runs on a shard: the actors, who open and close it.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::NodeId;

/// Opens and closes shards on this node. At most one of `open`, `quiet` and `close` runs for a shard.
#[async_trait]
pub trait Shards: Send + Sync + fmt::Debug {
    /// A life of this node begins: it owns nothing yet, and from now on is told what changes. What it
    /// read before may be older than what it was not told.
    fn joined(&self);

    /// Serves a shard that this node owns in the store under `epoch`: reads its state, seals what
    /// former owners left, starts what has work. `from` is what the former owner handed over.
    ///
    /// [`lost`](Self::lost) may be called meanwhile; then what was opened is dropped again.
    ///
    /// # Errors
    /// It is not open. It is tried again, under a new epoch.
    async fn open(
        &self,
        shard: Shard,
        epoch: Epoch,
        from: Option<HandOver>,
    ) -> Result<(), ShardError>;

    /// No frame of a shard leaves any more ([`Ownership::is_leaving`](crate::Ownership::is_leaving)):
    /// answers when those that left are answered. The shard is served meanwhile; [`close`](Self::close)
    /// follows, also when this takes too long.
    async fn quiet(&self, shard: Shard, epoch: Epoch);

    /// Takes nothing new, hands no more frames to a transport, writes what is in memory, and
    /// answers what the next owner should know. `next` is who that will be.
    ///
    /// # Errors
    /// It could not be closed in good order; [`lost`](Self::lost) follows.
    async fn close(
        &self,
        shard: Shard,
        epoch: Epoch,
        next: Option<NodeId>,
    ) -> Result<Closed, ShardError>;

    /// This node no longer owns a shard: nothing of it is sent, accepted or written any more when
    /// this returns. The node does not join again before it did for every shard.
    async fn lost(&self, shard: Shard, epoch: Epoch);

    /// Tells the next owner that a shard is released to it, with what it should know, and answers
    /// the epoch under which that node opened it; `None` when it did not say so.
    /// ([`Cluster::take`](crate::Cluster::take) on the other side.)
    async fn tell(&self, next: NodeId, shard: Shard, hand_over: HandOver) -> Option<Epoch>;
}

/// What a closed shard leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// For the next owner: pace and attempts in flight, as the actors write them.
    pub state: Bytes,
}

/// What a former owner hands to the next one, with the epoch of the row that it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// Who hands it over.
    pub from: NodeId,
    /// The epoch of the released row: what is said here counts only for the owner after it.
    pub released: Epoch,
    /// What [`Closed::state`] was.
    pub state: Bytes,
}

/// Why a shard was not opened or closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ShardError(pub String);
