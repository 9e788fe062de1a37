//! Adding rows to a batch.
//!
//! A block of rows becomes chunks in the parts of the instances, refused rows, and how far the
//! upload is: one append, all or nothing. So an upload that was cut goes on where the store says, and
//! repeating it from the beginning does no harm.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, oneshot};
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, RequestId};
use zajil_model::message::{Chunk, Message, Queue};
use zajil_model::phone::Phone;
use zajil_model::template::Template;
use zajil_storage::{Append, Entry, RowWrite, StoreError, Written};

use super::record::{BatchRecord, Duplicates, Progress, RefusedRow};
use super::rows::{NewRow, RowErrors, Sorted, Sorter};
use super::{BatchError, BatchPorts, Batches, OpenBatch, SHOWN_REFUSALS, Shared, keep, part};

/// Rows of a block: what is durable at once.
pub const BLOCK_ROWS: usize = 1_000;

/// Bytes of a chunk, as far as its messages alone can tell.
const CHUNK_BYTES: usize = 64 * 1_024;

/// Bytes of a message in a chunk besides its texts.
const MESSAGE_BYTES: usize = 32;

/// Recipients that are read at once to find out which were seen.
const SEEN_PAGE: usize = 10_000;

/// What an upload knows between its blocks.
#[derive(Debug, Default)]
pub(super) struct UploadState {
    /// Recipients that have a row; `None` when that has to be read from the store.
    seen: Option<FxHashSet<Phone>>,
    /// The bytes of the row that says how far it is, as they were read or written last.
    stored: Option<Vec<u8>>,
}

impl UploadState {
    /// Gives the memory back; the next upload reads again.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }
}

/// The right to add rows to a batch of this node; ends when it is dropped.
#[derive(Debug)]
pub struct NearUpload {
    batches: Batches,
    ports: BatchPorts,
    shared: Arc<Shared>,
    /// Under which the batch was served when it began.
    epoch: Epoch,
    state: OwnedMutexGuard<UploadState>,
    _permit: OwnedSemaphorePermit,
    record: Arc<BatchRecord>,
    template: Template,
    senders: Vec<(InstanceId, f64)>,
    /// The number of the next row that the client brings.
    next: u64,
    first_refusals: Vec<RefusedRow>,
}

/// How far an upload is, and what it refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UploadProgress {
    /// How far the whole batch is.
    pub progress: Progress,
    /// The first rows (at most 100) that this upload refused.
    pub first_refusals: Vec<RefusedRow>,
}

impl NearUpload {
    pub(super) async fn begin(
        batches: Batches,
        open: &OpenBatch,
        permit: OwnedSemaphorePermit,
        from_row: u64,
    ) -> Result<Self, BatchError> {
        let (shared, epoch) = (Arc::clone(&open.shared), open.epoch);
        let record = shared.record();
        if !record.life.takes_rows() {
            return Err(BatchError::TakesNoRows);
        }
        let gap = || BatchError::RowGap {
            expected: shared.progress.lock().rows_received,
        };
        let state = Arc::clone(&shared.upload)
            .try_lock_owned()
            .map_err(|_| gap())?;
        let template = Template::parse(&record.text.content);
        let senders = record
            .senders
            .iter()
            .map(|sender| (sender.instance, sender.weight))
            .collect();
        let mut upload = Self {
            ports: batches.0.ports.clone(),
            batches,
            shared,
            epoch,
            state,
            _permit: permit,
            record,
            template,
            senders,
            next: from_row,
            first_refusals: Vec::new(),
        };
        upload.catch_up().await?;
        if from_row > upload.progress().progress.rows_received {
            return Err(upload.gap());
        }
        Ok(upload)
    }

    /// Adds the next rows, at most [`BLOCK_ROWS`] of them; they are durable when this answers. Those
    /// below `rows_received` are passed over.
    ///
    /// # Errors
    /// `TakesNoRows` when the batch was sealed or cancelled meanwhile. After an error of the store
    /// the rows may be repeated.
    pub async fn append_rows(
        &mut self,
        rows: Vec<Result<NewRow, RowErrors>>,
    ) -> Result<UploadProgress, BatchError> {
        if rows.len() > BLOCK_ROWS {
            return Err(BatchError::Store(StoreError::Invalid(
                "more rows than a block holds",
            )));
        }
        let shared = Arc::clone(&self.shared);
        let _block = shared.block.lock().await;
        if shared.closed.load(Ordering::Acquire) {
            return Err(BatchError::Unavailable("the batch is being closed"));
        }
        if !shared.record().life.takes_rows() {
            return Err(BatchError::TakesNoRows);
        }
        self.catch_up().await?;
        let (from, count) = (self.next, rows.len() as u64);
        let before = *shared.progress.lock();
        if from > before.rows_received {
            return Err(self.gap());
        }
        let sorted = self.sort(before, from, rows).await?;
        if sorted.progress != before {
            self.write(from, sorted).await?;
        }
        // Under a lease that ended, the next owner may have read how far it was before that.
        if !self.ports.speaks_for(self.record.id.shard(), self.epoch) {
            return Err(BatchError::Moved);
        }
        self.next = from + count;
        Ok(self.progress())
    }

    /// How far the upload is.
    pub fn progress(&self) -> UploadProgress {
        UploadProgress {
            progress: *self.shared.progress.lock(),
            first_refusals: self.first_refusals.clone(),
        }
    }

    fn gap(&self) -> BatchError {
        BatchError::RowGap {
            expected: self.shared.progress.lock().rows_received,
        }
    }

    /// Reads what is durable, unless it is known: after a start, and after a write whose outcome is
    /// not known.
    async fn catch_up(&mut self) -> Result<(), BatchError> {
        if self.state.seen.is_some() {
            return Ok(());
        }
        let store = &*self.ports.store;
        let (progress, stored) = keep::load_progress(store, self.record.id).await?;
        let mut seen = FxHashSet::default();
        if self.record.duplicates == Duplicates::Skip && progress.taken > 0 {
            for (instance, _) in &self.senders {
                seen.extend(self.counted(*instance, progress).await?);
            }
        }
        *self.shared.progress.lock() = progress;
        self.state.seen = Some(seen);
        self.state.stored = stored;
        Ok(())
    }

    /// The recipients of the rows of a part that are counted.
    async fn counted(
        &self,
        instance: InstanceId,
        progress: Progress,
    ) -> Result<FxHashSet<Phone>, BatchError> {
        let (store, batch) = (&*self.ports.store, self.record.id);
        loop {
            let filled = keep::load_filled(store, batch, instance).await?;
            // A block that was put into some parts and is not counted yet is brought again. One that
            // a former owner sent may come in while this is read: it is not counted either.
            let counted = |id: MessageId| {
                let filled = filled.as_ref();
                filled.is_none_or(|filled| filled.is_counted(id, progress.rows_received))
            };
            let mut seen = FxHashSet::default();
            let mut after = None;
            loop {
                let page = store.recipients(instance, batch, after, SEEN_PAGE).await?;
                let known = page.iter().filter(|(id, _)| counted(*id));
                seen.extend(known.map(|(_, recipient)| *recipient));
                match page.last() {
                    Some((last, _)) => after = Some(*last),
                    None => break,
                }
            }
            // The first block of all may have come in meanwhile: then the row of it is there now.
            let is_first = filled.is_none() && !seen.is_empty();
            if !is_first || keep::load_filled(store, batch, instance).await?.is_none() {
                return Ok(seen);
            }
        }
    }

    async fn sort(
        &mut self,
        before: Progress,
        from: u64,
        rows: Vec<Result<NewRow, RowErrors>>,
    ) -> Result<Sorted, BatchError> {
        let suppressed = self
            .ports
            .directory
            .suppressions(self.record.account)
            .await?;
        let sorter = Sorter {
            record: &self.record,
            template: &self.template,
            senders: &self.senders,
            suppressed: &suppressed,
        };
        let seen = self.state.seen.get_or_insert_default();
        Ok(sorter.sort(before, from, rows, seen))
    }

    /// Makes a block durable, and tells the instances that have new rows of it.
    async fn write(&mut self, from: u64, sorted: Sorted) -> Result<(), BatchError> {
        // Until the outcome is known, what is in memory is not what is durable.
        let seen = self.state.seen.take();
        let (batch, progress) = (self.record.id, sorted.progress);
        let refused = sorted.refused.iter().map(|row| keep::refuse(batch, row));
        if self.ports.owners.ownership().is_alone() {
            let far = keep::progressed(batch, &progress);
            let rows = std::iter::once(far).chain(refused).collect();
            self.write_at_once(from, sorted.messages, rows).await?;
        } else {
            let batches = &self.batches;
            let rows = (
                self.shared.progress.lock().rows_received,
                progress.rows_received,
            );
            part::fill_all(batches, &self.record, sorted.messages, rows).await?;
            // How far the upload is comes last: what is repeated before it changes nothing.
            let far = keep::progressed_from(batch, self.state.stored.take(), &progress);
            let bytes = far.value.clone();
            let rows = std::iter::once(far).chain(refused).collect();
            match self.ports.store.write(rows).await? {
                Written::Applied => self.state.stored = bytes,
                // Another owner of the batch went on with it: the client goes on from there.
                Written::Conflict { .. } => return Err(BatchError::Moved),
            }
        }
        self.state.seen = seen;
        *self.shared.progress.lock() = sorted.progress;
        let room = SHOWN_REFUSALS.saturating_sub(self.first_refusals.len());
        self.first_refusals
            .extend(sorted.refused.into_iter().take(room));
        Ok(())
    }

    /// Makes a block durable in one append: one store holds every part of it.
    async fn write_at_once(
        &self,
        from: u64,
        messages: FxHashMap<InstanceId, Vec<(u64, Message)>>,
        rows: Vec<RowWrite>,
    ) -> Result<(), BatchError> {
        let batch = self.record.id;
        let mut entries = Vec::new();
        let mut instances = Vec::new();
        for (instance, messages) in messages {
            instances.push(instance);
            let messages = messages.into_iter().map(|(_, message)| message).collect();
            for messages in chunks(messages) {
                let of = (self.record.account, batch);
                let (chunk, _) = chunk(&self.ports, of, instance, from, messages).await?;
                entries.push(Entry::Accept(Arc::new(chunk)));
            }
        }
        entries.push(Entry::Rows(rows));
        let shard = instances
            .first()
            .map_or(self.record.id.shard(), |instance| instance.shard());
        let epoch = self.ports.clocks.ensure(shard, 1).await?;
        let (done, written) = oneshot::channel();
        let port = Arc::clone(&self.ports.instances);
        let told = move |result: Result<(), StoreError>| {
            // Told even when the client left meanwhile: the rows are there.
            if result.is_ok() {
                instances
                    .into_iter()
                    .for_each(|instance| port.part_grew(instance, batch));
            }
            done.send(result).ok();
        };
        self.ports.store.append(
            Append {
                shard,
                epoch,
                entries,
            },
            Box::new(told),
        );
        written.await.map_err(|_| StoreError::Closed)??;
        Ok(())
    }
}

/// Some messages of a part as one chunk, with ids of their own and the epoch that these belong to;
/// `from` is the row that their block begins with.
pub(super) async fn chunk(
    ports: &BatchPorts,
    (account, batch): (AccountId, BatchId),
    instance: InstanceId,
    from: u64,
    messages: Vec<Message>,
) -> Result<(Chunk, Epoch), StoreError> {
    let shard = instance.shard();
    let (tick, epoch) = ports.clocks.give(shard, messages.len() as u64).await?;
    let chunk = Chunk {
        account,
        instance,
        queue: Queue::Part(batch),
        first: MessageId::give(tick, shard),
        created_at: ports.clock.now(),
        bulk: None,
        request: RequestId(u128::from(batch.get()) << 64 | u128::from(from)),
        messages,
    };
    Ok((chunk, epoch))
}

/// Messages in runs that each fit into a chunk.
pub(super) fn chunks(messages: Vec<Message>) -> Vec<Vec<Message>> {
    let mut chunks: Vec<Vec<Message>> = Vec::new();
    let mut room = 0;
    for message in messages {
        let client_ref = message.client_ref.as_deref().unwrap_or_default();
        let bytes = message.payload.headline().len() + client_ref.len() + MESSAGE_BYTES;
        match chunks.last_mut() {
            Some(chunk) if bytes <= room => {
                chunk.push(message);
                room -= bytes;
            }
            _ => {
                room = CHUNK_BYTES.saturating_sub(bytes);
                chunks.push(vec![message]);
            }
        }
    }
    chunks
}
