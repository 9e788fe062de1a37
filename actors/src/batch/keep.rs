//! The rows of batches.
//!
//! A batch has a row with what it is and its state (changed under a condition by its actor), one with
//! how far its upload is (written with the rows that were uploaded), one that names its account, and
//! one in the list of batches that are not over, for waking them after a start. Where parts have owners
//! of their own, each block of a part has one that says how far it fills it.

use serde::{Deserialize, Serialize};
use zajil_model::batch::BatchState;
use zajil_model::id::{AccountId, BatchId, InstanceId, MessageId, Shard, Tick};
use zajil_storage::{Condition, RowKey, RowWrite, Store, StoreError, Table, TotalsFilter};

use super::port::{PartPhase, PartState};
use super::record::{BatchRecord, Progress, RefusedRow};
use crate::directory::rows::{decode, encode, number, owned, read_number};
use crate::directory::{Page, PageRequest, count, newest};

/// Batches that are read at once when those that are not over are walked.
const WALK: usize = 500;

/// Blocks of a part whose rows are read at once: the newest is nearly always the one that counts.
const BLOCKS: usize = 4;

fn record_row(account: AccountId, id: BatchId) -> RowKey {
    owned(Table::Batches, account, id.get())
}

fn progress_row(id: BatchId) -> RowKey {
    let partition = [b"progress".as_slice(), &number(id.get())].concat();
    RowKey::new(Table::Batches, partition, [])
}

fn owner_row(id: BatchId) -> RowKey {
    RowKey::new(Table::BatchOwners, number(id.get()), [])
}

fn active_row(id: BatchId) -> RowKey {
    RowKey::new(Table::Meta, *b"active batches", number(id.get()))
}

/// The rows of a new batch.
pub(super) fn new_rows(record: &BatchRecord) -> Vec<RowWrite> {
    let account = number(record.account.get()).to_vec();
    let row = RowWrite::put(record_row(record.account, record.id), encode(record));
    vec![
        row.when(Condition::Absent),
        RowWrite::put(owner_row(record.id), account.clone()),
        RowWrite::put(active_row(record.id), account),
    ]
}

/// The write that changes a batch whose row held `before`; its new bytes come with it.
pub(super) fn change(record: &BatchRecord, before: Vec<u8>) -> (RowWrite, Vec<u8>) {
    let bytes = encode(record);
    let put = RowWrite::put(record_row(record.account, record.id), bytes.clone());
    (put.when(Condition::Is(before)), bytes)
}

/// The write that takes a batch off the list of those that are not over.
pub(super) fn over(id: BatchId) -> RowWrite {
    RowWrite::delete(active_row(id))
}

/// The write that says how far an upload is, whoever said so before.
pub(super) fn progressed(id: BatchId, progress: &Progress) -> RowWrite {
    RowWrite::put(progress_row(id), encode(progress))
}

/// The same, if nobody said more since it was read: a former owner may write late.
pub(super) fn progressed_from(
    id: BatchId,
    before: Option<Vec<u8>>,
    progress: &Progress,
) -> RowWrite {
    let before = before.map_or(Condition::Absent, Condition::Is);
    progressed(id, progress).when(before)
}

fn filled_rows(id: BatchId, instance: InstanceId) -> Vec<u8> {
    [
        b"filled".as_slice(),
        &number(id.get()),
        &number(instance.get()),
    ]
    .concat()
}

/// How far the part of an instance is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    /// It has what it gets of the rows before this one.
    pub(super) upto: u64,
    /// The messages that it was filled with last, each behind the number of its row: those of all rows
    /// that may not be counted yet. In the order of their ids, and one at least.
    pub(super) rows: Vec<(u64, MessageId)>,
}

/// The same as stored: of each row how far it and its id are behind the one before.
#[derive(Serialize, Deserialize)]
struct Steps {
    upto: u64,
    rows: Vec<(u64, u64)>,
}

impl Filled {
    /// The last message of the part.
    fn last(&self) -> Option<MessageId> {
        self.rows.last().map(|(_, id)| *id)
    }

    /// Whether a message of the part belongs to the rows before `upto` that are counted.
    pub(super) fn is_counted(&self, id: MessageId, upto: u64) -> bool {
        match self.rows.binary_search_by_key(&id, |(_, id)| *id) {
            Ok(at) => self.rows[at].0 < upto,
            Err(_) => Some(id) <= self.last(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let (mut row, mut tick) = (0, 0);
        let steps = self.rows.iter().map(|(next, id)| {
            let step = (next.saturating_sub(row), id.tick().0.saturating_sub(tick));
            (row, tick) = (*next, id.tick().0);
            step
        });
        encode(&Steps {
            upto: self.upto,
            rows: steps.collect(),
        })
    }

    fn decode(bytes: &[u8], shard: Shard) -> Result<Self, StoreError> {
        let Steps { upto, rows } = decode("filling of a part", bytes)?;
        let (mut row, mut tick) = (0_u64, 0_u64);
        let rows = rows.into_iter().map(|(rows, ticks)| {
            row = row.checked_add(rows)?;
            tick = tick.checked_add(ticks)?;
            Some((row, MessageId::new(Tick(tick).id(shard))?))
        });
        let rows: Option<Vec<_>> = rows.collect();
        match rows {
            Some(rows) if !rows.is_empty() => Ok(Self { upto, rows }),
            _ => Err(StoreError::Corrupt {
                what: "filling of a part",
                detail: "not rows with their ids".to_owned(),
            }),
        }
    }
}

/// The write that says how far the part of an instance is filled with a block. Each block has a row of
/// its own, the newest last: what an owner puts in too late is void, but the row that comes with it is
/// not, and must not hide what the same owner or another put in before. They are small beside their
/// blocks, and as many.
pub(super) fn filled(id: BatchId, instance: InstanceId, filled: &Filled) -> RowWrite {
    let sort = number(filled.last().map_or(0, MessageId::get));
    let key = RowKey::new(Table::Batches, filled_rows(id, instance), sort);
    RowWrite::put(key, filled.encode())
}

/// How far the part of an instance is filled; `None` when nothing was put into it. A row is believed
/// when the log has the messages that it tells of.
pub(super) async fn load_filled(
    store: &dyn Store,
    id: BatchId,
    instance: InstanceId,
) -> Result<Option<Filled>, StoreError> {
    let (partition, mut before) = (filled_rows(id, instance), None::<Vec<u8>>);
    loop {
        let before_this = before.as_deref();
        let rows = store.rows(Table::Batches, &partition, before_this, BLOCKS, true);
        let rows = rows.await?;
        for row in &rows {
            let filled = Filled::decode(&row.value, instance.shard())?;
            if let Some(last) = filled.last()
                && store.message(last).await?.is_some()
            {
                return Ok(Some(filled));
            }
        }
        match rows.into_iter().next_back() {
            Some(oldest) => before = Some(oldest.key.sort),
            None => return Ok(None),
        }
    }
}

/// The write that keeps a refused row.
pub(super) fn refuse(id: BatchId, row: &RefusedRow) -> RowWrite {
    let key = RowKey::new(Table::RefusedRows, number(id.get()), number(row.row));
    RowWrite::put(key, encode(row))
}

/// A batch and the bytes of its row.
pub(super) async fn load_record(
    store: &dyn Store,
    account: AccountId,
    id: BatchId,
) -> Result<Option<(BatchRecord, Vec<u8>)>, StoreError> {
    let Some(row) = store.row(&record_row(account, id)).await? else {
        return Ok(None);
    };
    Ok(Some((decode("batch", &row.value)?, row.value)))
}

/// How far the upload of a batch is, and the bytes of that row.
pub(super) async fn load_progress(
    store: &dyn Store,
    id: BatchId,
) -> Result<(Progress, Option<Vec<u8>>), StoreError> {
    match store.row(&progress_row(id)).await? {
        Some(row) => Ok((decode("progress of a batch", &row.value)?, Some(row.value))),
        None => Ok((Progress::default(), None)),
    }
}

/// Refused rows, in order, from after the row `after`.
pub(super) async fn refused(
    store: &dyn Store,
    id: BatchId,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<RefusedRow>, StoreError> {
    let after = after.map(number);
    let after = after.as_ref().map(<[u8; 8]>::as_slice);
    let rows = store
        .rows(Table::RefusedRows, &number(id.get()), after, limit, false)
        .await?;
    rows.iter()
        .map(|row| decode("refused row", &row.value))
        .collect()
}

/// The batches of an account, newest first.
pub(super) async fn list(
    store: &dyn Store,
    account: AccountId,
    page: PageRequest,
) -> Result<Page<BatchRecord>, StoreError> {
    let items = newest(store, Table::Batches, "batch", account, page).await?;
    Ok(Page {
        items,
        total: count(store, Table::Batches, account, WALK).await?,
    })
}

/// Some batches that are not over, and where to go on.
pub(super) async fn active(
    store: &dyn Store,
    after: Option<Vec<u8>>,
) -> Result<(Vec<(AccountId, BatchId)>, Option<Vec<u8>>), StoreError> {
    let rows = store
        .rows(
            Table::Meta,
            b"active batches",
            after.as_deref(),
            WALK,
            false,
        )
        .await?;
    let named = rows.iter().filter_map(|row| {
        let account = read_number(&row.value).and_then(AccountId::new)?;
        Some((account, read_number(&row.key.sort).and_then(BatchId::new)?))
    });
    let named = named.collect();
    Ok((named, rows.into_iter().next_back().map(|row| row.key.sort)))
}

/// The state of a part, for the instance that sends it; `None` when there is no such batch.
///
/// # Errors
/// What the store answers.
pub async fn part_state(
    store: &dyn Store,
    batch: BatchId,
) -> Result<Option<PartState>, StoreError> {
    let Some(owner) = store.row(&owner_row(batch)).await? else {
        return Ok(None);
    };
    let Some(account) = read_number(&owner.value).and_then(AccountId::new) else {
        let detail = "not an id".to_owned();
        return Err(StoreError::Corrupt {
            what: "owner of a batch",
            detail,
        });
    };
    let stored = load_record(store, account, batch).await?;
    Ok(stored.map(|(record, _)| record.part_state()))
}

impl BatchRecord {
    /// What the instances of the batch have to know of it.
    pub fn part_state(&self) -> PartState {
        let phase = match self.life.state {
            BatchState::Draft => PartPhase::Held,
            BatchState::Running | BatchState::Finished => PartPhase::Running,
            BatchState::Paused => PartPhase::Paused,
            BatchState::Cancelled => PartPhase::Cancelled,
        };
        // While it is paused no time runs, and nobody asks how long it has been.
        let now = self.life.paused_since.unwrap_or(self.life.created_at);
        PartState {
            phase,
            started_at: self.life.started_at,
            paused_total: self.life.paused_total(now),
            revision: self.life.revision,
        }
    }

    /// Its messages, to be counted.
    pub(super) fn totals_filter(&self) -> TotalsFilter {
        let instances = self.senders.iter().map(|sender| sender.instance).collect();
        TotalsFilter {
            instances,
            batch: Some(self.id),
            from: None,
            to: None,
        }
    }
}
