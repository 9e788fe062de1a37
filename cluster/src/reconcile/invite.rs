//! A shard that another node released to this one: it is taken at once, without a look at all rows.

use tokio::sync::oneshot;
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::NodeId;
use zajil_model::lease::shard::ShardRow;

use super::Life;
use super::take::{report, take};
use crate::shards::HandOver;
use crate::shared::Shared;

/// Invitations that wait: a draining node gives 64 at a time, and a dozen may drain at once.
pub(crate) const INVITES: usize = 1_024;

/// A shard to take.
#[derive(Debug)]
pub(crate) struct Invite {
    pub(crate) shard: Shard,
    pub(crate) hand_over: HandOver,
    pub(crate) reply: oneshot::Sender<Result<Epoch, TakeError>>,
}

/// Why a shard was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// It is not free.
    #[error("another node owns the shard, or took it first")]
    Owned,
    /// This node may not take anything now.
    #[error("the node has no good lease")]
    NoLease,
    /// The node leaves, or too many shards are on their way to it.
    #[error("the node is busy")]
    Busy,
    /// Nobody knows whether the row changed.
    #[error("the store did not say whether the shard was taken")]
    Unknown,
    /// It was taken and is not open.
    #[error("it cannot be opened: {0}")]
    NotOpened(String),
}

impl Invite {
    /// The row that its last owner left.
    pub(super) const fn row(&self, me: NodeId) -> ShardRow {
        ShardRow {
            owner: None,
            epoch: self.hand_over.released,
            next: Some(me),
        }
    }

    fn answer(self, answer: Result<Epoch, TakeError>) {
        // Who gave the shard may have stopped waiting.
        drop(self.reply.send(answer));
    }

    /// Says whether the shard is held in the epoch after its release, whoever took it.
    pub(super) fn answer_as_held(self, shared: &Shared) {
        let taken = self.hand_over.released.next();
        let held = shared.ports.ownership.epoch(self.shard) == Some(taken);
        self.answer(if held {
            Ok(taken)
        } else {
            Err(TakeError::Busy)
        });
    }
}

/// Takes the shard and tells who gave it.
pub(super) async fn accept(shared: &Shared, life: &Life, invite: Invite) {
    let (shard, row) = (invite.shard, invite.row(life.me.node));
    if shared.ports.ownership.epoch(shard).is_some() {
        invite.answer_as_held(shared);
        return;
    }
    let from = Some(invite.hand_over.clone());
    let taken = take(shared, life, shard, row, None, from).await;
    if let Err(error) = &taken {
        report(shared, shard, error);
    }
    invite.answer(taken);
}
