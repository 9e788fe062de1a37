//! Changing the state of a batch: at its owner, wherever that is by then.

use std::time::Duration;

use tokio::sync::oneshot;
use zajil_model::batch::Command;
use zajil_model::id::{AccountId, BatchId};

use super::parent::ParentMsg;
use super::{BatchError, Batches, Changed, keep};
use crate::owners::Asked;
use crate::owners::questions::ChangeBatch;

/// How long a command waits for its turn and the confirmations: longer than one round of telling.
const COMMAND_DEADLINE: Duration = Duration::from_secs(15);

/// How often a caller looks for a batch: the actor that it found may be stopping just now.
const FIND_ROUNDS: usize = 3;

impl Batches {
    /// Changes its state and answers when every instance confirmed, or is named as missing.
    ///
    /// What is changed is the batch as it is now: a question may reach its owner twice, and the copy that
    /// comes after another change does nothing.
    ///
    /// # Errors
    /// `WrongState` when its state does not allow that, `Outdated` when somebody else changed it
    /// meanwhile; nothing is changed then.
    pub async fn change(
        &self,
        account: AccountId,
        id: BatchId,
        command: Command,
    ) -> Result<Changed, BatchError> {
        let seen = keep::load_record(self.store(), account, id).await?;
        let (record, _) = seen.ok_or(BatchError::NotFound)?;
        let question = ChangeBatch {
            account,
            id,
            command,
            after: record.life.commands,
        };
        for _ in 0..FIND_ROUNDS {
            let answer = match self.0.ports.owners.ask(id.shard(), question).await? {
                Asked::Here(question) => self.change_here(question).await,
                Asked::There(answer) => answer,
            };
            if !matches!(answer, Err(BatchError::Moved)) {
                return answer;
            }
        }
        Err(BatchError::Moved)
    }

    /// The same, on the node that owns the batch.
    pub(crate) async fn change_here(&self, change: ChangeBatch) -> Result<Changed, BatchError> {
        let ChangeBatch { id, after, .. } = change;
        for _ in 0..FIND_ROUNDS {
            let open = self.find(change.account, id).await?;
            if open.shared.record().life.commands < after {
                // A former owner changed it after this one had read it.
                open.actor.stop(None);
                self.gone(&open).await?;
                continue;
            }
            let (reply, answer) = oneshot::channel();
            let command = ParentMsg::Command(change.command, after, reply);
            if open.actor.send_message(command).is_err() {
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
