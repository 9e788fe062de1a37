//! Changing the state of a batch: at its owner, wherever that is by then.

use std::time::Duration;

use tokio::sync::oneshot;
use zajil_model::batch::Command;
use zajil_model::id::{AccountId, BatchId};

use super::parent::ParentMsg;
use super::{BatchError, Batches, Changed};
use crate::owners::Asked;
use crate::owners::questions::ChangeBatch;

/// How long a command waits for its turn and the confirmations: longer than one round of telling.
const COMMAND_DEADLINE: Duration = Duration::from_secs(15);

/// How often a caller looks for a batch: the actor that it found may be stopping just now.
const FIND_ROUNDS: usize = 3;

impl Batches {
    /// Changes its state and answers when every instance confirmed, or is named as missing.
    ///
    /// # Errors
    /// `WrongState` when its state does not allow that; nothing is changed then.
    pub async fn change(
        &self,
        account: AccountId,
        id: BatchId,
        command: Command,
    ) -> Result<Changed, BatchError> {
        for _ in 0..FIND_ROUNDS {
            let question = ChangeBatch {
                account,
                id,
                command,
            };
            let answer = match self.0.ports.owners.ask(id.shard(), question).await? {
                Asked::Here(_) => self.change_here(account, id, command).await,
                Asked::There(answer) => answer,
            };
            if !matches!(answer, Err(BatchError::Moved)) {
                return answer;
            }
        }
        Err(BatchError::Moved)
    }

    /// The same, on the node that owns the batch.
    pub(crate) async fn change_here(
        &self,
        account: AccountId,
        id: BatchId,
        command: Command,
    ) -> Result<Changed, BatchError> {
        for _ in 0..FIND_ROUNDS {
            let open = self.find(account, id).await?;
            let (reply, answer) = oneshot::channel();
            if open
                .actor
                .send_message(ParentMsg::Command(command, reply))
                .is_err()
            {
                self.gone(&open).await?;
                continue;
            }
            match tokio::time::timeout(COMMAND_DEADLINE, answer).await {
                Ok(Ok(answer)) => {
                    // Under a lease that ended the batch may have changed at its next owner.
                    if !self.0.ports.speaks_for(id.shard(), open.epoch) {
                        return Err(BatchError::Moved);
                    }
                    let barrier = answer?;
                    return Ok(Changed {
                        view: self.look_at(&open.shared).await?,
                        barrier,
                    });
                }
                // It stopped with the command in its mailbox. To repeat a command is no error.
                Ok(Err(_)) => self.gone(&open).await?,
                Err(_) => break,
            }
        }
        Err(BatchError::Unavailable("the batch does not answer"))
    }
}
