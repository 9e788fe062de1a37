//! Uploads: to a batch of this node, or to one that another node owns.

use std::fmt;

use zajil_model::id::{AccountId, BatchId};

use super::rows::{NewRow, RowErrors};
use super::upload::{NearUpload, UploadProgress};
use super::{BatchError, SHOWN_REFUSALS};
use crate::owners::questions::AddRows;
use crate::owners::{Asked, Owners};

/// The right to add rows to a batch.
#[derive(Debug)]
pub enum Upload {
    /// On this node.
    Here(Box<NearUpload>),
    /// On the node that owns the batch.
    There(FarUpload),
}

impl Upload {
    /// Adds the next rows, at most [`BLOCK_ROWS`](super::BLOCK_ROWS) of them; they are durable when
    /// this answers. Those below `rows_received` are passed over.
    ///
    /// # Errors
    /// `TakesNoRows` when the batch was sealed or cancelled meanwhile. After an error of the store
    /// the rows may be repeated.
    pub async fn append_rows(
        &mut self,
        rows: Vec<Result<NewRow, RowErrors>>,
    ) -> Result<UploadProgress, BatchError> {
        match self {
            Self::Here(upload) => upload.append_rows(rows).await,
            Self::There(upload) => upload.append_rows(rows).await,
        }
    }

    /// How far the upload is.
    pub fn progress(&self) -> UploadProgress {
        match self {
            Self::Here(upload) => upload.progress(),
            Self::There(upload) => upload.progress.clone(),
        }
    }
}

/// An upload to a batch of another node: each block is a question by itself, so that the upload
/// goes on when the batch moves.
pub struct FarUpload {
    owners: Owners,
    account: AccountId,
    id: BatchId,
    next: u64,
    progress: UploadProgress,
}

impl fmt::Debug for FarUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FarUpload")
            .field("batch", &self.id)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl FarUpload {
    /// Asks the owner how far the upload is, and whether it takes rows from there on.
    pub(super) async fn begin(
        owners: Owners,
        account: AccountId,
        id: BatchId,
        next: u64,
    ) -> Result<Self, BatchError> {
        let question = AddRows {
            account,
            id,
            from: next,
            rows: Vec::new(),
        };
        Ok(Self {
            progress: ask(&owners, question).await?,
            owners,
            account,
            id,
            next,
        })
    }

    async fn append_rows(
        &mut self,
        rows: Vec<Result<NewRow, RowErrors>>,
    ) -> Result<UploadProgress, BatchError> {
        let count = rows.len() as u64;
        let question = AddRows {
            account: self.account,
            id: self.id,
            from: self.next,
            rows,
        };
        let added = ask(&self.owners, question).await?;
        self.next += count;
        self.progress.progress = added.progress;
        let shown = &mut self.progress.first_refusals;
        let room = SHOWN_REFUSALS.saturating_sub(shown.len());
        shown.extend(added.first_refusals.into_iter().take(room));
        Ok(self.progress.clone())
    }
}

async fn ask(owners: &Owners, question: AddRows) -> Result<UploadProgress, BatchError> {
    match owners.ask(question.id.shard(), question).await? {
        // It came to this node meanwhile: the client begins again where it was cut.
        Asked::Here(_) => Err(BatchError::Moved),
        Asked::There(answer) => answer,
    }
}
