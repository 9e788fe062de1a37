//! What became of messages that were promised.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use zajil_model::id::{Epoch, Shard};
use zajil_model::promise::Standing;
use zajil_storage::{Append, Entry, StoreError};

use super::{Idempotency, IdempotencyError, TWIN_WAITS};
use crate::owners::Asked;
use crate::owners::questions::AskPromise;

/// How long the log may take to say that everything before now is written: as long as a twin waits.
const WRITTEN_WITHIN: Duration = TWIN_WAITS;

/// What became of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// The messages are in the log.
    Kept,
    /// They may still come.
    Open,
    /// They are not there and never will be.
    Void,
}

impl Idempotency {
    /// What became of a promise, as the owner of its shard knows.
    pub(super) async fn fate(&self, promise: AskPromise) -> Result<Fate, IdempotencyError> {
        let shard = promise.first.giver();
        let fate = match self.0.owners.ask(shard, promise).await? {
            Asked::Here(promise) => self.fate_here(promise).await,
            Asked::There(fate) => fate,
        };
        Ok(fate?)
    }

    /// The same, on the node that owns the shard.
    pub(crate) async fn fate_here(&self, promise: AskPromise) -> Result<Fate, StoreError> {
        let (inner, shard) = (&self.0, promise.first.giver());
        // Asked for first: what an epoch before this one left in the log has been read by now.
        let epoch = inner.clocks.ensure(shard, 1).await?;
        let comes_no_more = match inner.clocks.standing(promise) {
            Standing::Open => false,
            Standing::Over => self.all_is_written(shard, epoch).await,
            Standing::Sealed => true,
            Standing::Elsewhere => return Err(StoreError::NotOpen(shard)),
        };
        let found = inner.store.message(promise.first).await?;
        // What was appended under a lease that ended is found here, and counts nowhere.
        let now = inner.clock.mono();
        if !inner.owners.ownership().may_answer_for(shard, epoch, now) {
            return Err(StoreError::NotOpen(shard));
        }
        Ok(match (found, comes_no_more) {
            (Some(_), _) => Fate::Kept,
            (None, true) => Fate::Void,
            (None, false) => Fate::Open,
        })
    }

    /// Whether everything that waited to be written for a shard is: the log keeps its order, so an
    /// append of nothing comes after it.
    async fn all_is_written(&self, shard: Shard, epoch: Epoch) -> bool {
        let (reply, answer) = oneshot::channel();
        let append = Append {
            shard,
            epoch,
            entries: vec![Entry::Outcomes(Vec::new())],
        };
        // Who asked may have lost patience.
        let done = move |result| drop(reply.send(result));
        self.0.store.append(append, Box::new(done));
        let written = tokio::time::timeout(WRITTEN_WITHIN, answer).await;
        matches!(written, Ok(Ok(Ok(()))))
    }
}
