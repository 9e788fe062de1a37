//! The right to carry out a request once.

use std::fmt;

use zajil_storage::{Condition, RowKey, RowWrite, StoreError, Table, Written};

use super::{Answer, Held, IdempotencyError, answer_row, day_partition};
use crate::directory::rows::encode;
use crate::owners::questions::AskPromise;
use crate::send::Reserved;

/// The right to carry out a request of that key. Dropped without a word (the request failed, or
/// its client left), the next one with the key may try.
pub struct Ticket {
    pub(super) held: Held,
    pub(super) body: [u8; 32],
    /// What the row holds: an answer that is void, or the promise of this ticket.
    pub(super) replaces: Option<Vec<u8>>,
    pub(super) promised: bool,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("promised", &self.promised)
            .finish_non_exhaustive()
    }
}

impl Ticket {
    /// Writes down, *before* messages are appended, how the request will be answered if they are:
    /// under the ids that were `reserved`. Once this answers, the append decides. It takes the place of
    /// a promise before it that came to nothing.
    ///
    /// # Errors
    /// `Lost` when another node was faster, or what the store answers: the append must not be made.
    pub async fn promise(
        &mut self,
        reserved: &Reserved,
        status: u16,
        body: &[u8],
    ) -> Result<(), IdempotencyError> {
        let promise = AskPromise::of(reserved);
        self.write(Some(promise), status, body).await?;
        self.promised = true;
        Ok(())
    }

    /// The request was done and answered so. After a [`promise`](Self::promise) this writes nothing
    /// more.
    ///
    /// # Errors
    /// What the store answers; the request was done all the same.
    pub async fn finish(mut self, status: u16, body: &[u8]) -> Result<(), IdempotencyError> {
        if self.promised {
            return Ok(());
        }
        self.write(None, status, body).await
    }

    /// Nothing was done (any answer but a 2xx): the key may be used again. To be called as well
    /// when a promised append was refused.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn abandon(self) -> Result<(), IdempotencyError> {
        if let (true, Some(promise)) = (self.promised, self.replaces) {
            let delete = RowWrite::delete(answer_row(&self.held.key));
            let delete = delete.when(Condition::Is(promise));
            self.held.inner.store.write(vec![delete]).await?;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        promise: Option<AskPromise>,
        status: u16,
        body: &[u8],
    ) -> Result<(), IdempotencyError> {
        let inner = &self.held.inner;
        let body = std::str::from_utf8(body)
            .map_err(|_| StoreError::Invalid("a body that is kept must be text"))?;
        let at = inner.clock.now();
        let body = body.to_owned();
        let answer = encode(&Answer {
            body_hash: self.body,
            at,
            promise,
            status,
            body,
        });
        let before = self
            .replaces
            .take()
            .map_or(Condition::Absent, Condition::Is);
        let entry = RowKey::new(Table::Idempotency, day_partition(at.day()), self.held.key);
        let writes = vec![
            RowWrite::put(answer_row(&self.held.key), answer.clone()).when(before),
            RowWrite::put(entry, Vec::new()),
        ];
        match inner.store.write(writes).await? {
            Written::Applied => {
                self.replaces = Some(answer);
                Ok(())
            }
            Written::Conflict { .. } => Err(IdempotencyError::Lost),
        }
    }
}
