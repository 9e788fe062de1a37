//! From a file into an empty store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zajil_model::id::{Epoch, Shard, Tick};
use zajil_model::lifecycle::MessageState;
use zajil_model::time::Timestamp;

use super::check::Checked;
use super::format::{Item, KeptChanges, KeptChunk, KeptRow};
use super::frames::FrameReader;
use super::{Counts, ImportError, Progress, held_row, unfinished_row, wa_key_row};
use crate::projection::feed::Placed;
use crate::row::{Condition, Row, RowWrite, Written};
use crate::{Append, Entry, Store, StoreError};

/// Appends on their way at once: enough that a store makes groups of them, and a few MiB of memory.
const APPENDS: usize = 32;

/// Messages of one append.
const MESSAGES: usize = 1_024;

/// Writes of rows, and openings of shards, on their way at once.
const ASKED: usize = 32;

/// Rows of one partition that are written together.
const ROWS: usize = 64;

/// Their bytes, about: far below what a database takes in one mutation.
const ROW_BYTES: usize = 64 << 10;

/// How a store keeps the change feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feeds {
    /// One for all shards, as a store on one machine does.
    One,
    /// One for each shard, merged when it is read.
    OfEachShard,
}

/// What is written, and where to.
#[derive(Debug)]
pub struct Import<'a> {
    /// The export, which was checked.
    pub file: &'a Path,
    /// What the check found.
    pub checked: &'a Checked,
    /// An empty store.
    pub store: Arc<dyn Store>,
    /// The store's name, for people.
    pub name: String,
    /// How it keeps the change feed.
    pub feeds: Feeds,
    /// Rows that the store needs beside what is in the export.
    pub rows: Vec<RowWrite>,
    /// The time, from which on what is accepted cannot have been sent by others.
    pub now: Timestamp,
}

/// Writes a checked export into an empty store, which is held back then until an operator releases
/// it. The caller closes the store.
///
/// # Errors
/// The store fails, or the file is not any more what it was. What was written up to then is not
/// served.
pub async fn import(import: Import<'_>, progress: Progress<'_>) -> Result<Counts, ImportError> {
    let begun = RowWrite::put(unfinished_row(), time(import.now)).when(Condition::Absent);
    match import.store.write(vec![begun]).await? {
        Written::Applied => {}
        Written::Conflict { .. } => return Err(ImportError::Unfinished(import.name)),
    }
    let epochs = open_shards(&import).await?;
    let mut writing = Writing {
        asked: Asked::new(Arc::clone(&import.store)),
        appends: Appends::new(Arc::clone(&import.store), epochs),
        feeds: import.feeds,
        counts: Counts::default(),
    };
    let mut frames = FrameReader::begin(import.file)?;
    loop {
        match frames.next()? {
            Item::Header(header) => {
                let key = header.wa_key.map(|key| RowWrite::put(wa_key_row(), key.0));
                writing.asked.write(key.into_iter().collect()).await?;
            }
            Item::Rows(rows) => writing.rows(rows).await?,
            Item::Shard(_) => {}
            Item::Chunks(chunks) => writing.chunks(chunks).await?,
            Item::Told(told) => writing.told(told).await?,
            Item::End(_) => break,
        }
        progress(writing.counts);
    }
    for part in partitions(import.rows) {
        writing.asked.write(part).await?;
    }
    writing.asked.finish().await?;
    writing.appends.finish().await?;
    let held = RowWrite::put(held_row(), time(import.now));
    import.store.write(vec![held]).await?;
    import
        .store
        .write(vec![RowWrite::delete(unfinished_row())])
        .await?;
    Ok(writing.counts)
}

fn time(at: Timestamp) -> Vec<u8> {
    at.as_micros().to_string().into_bytes()
}

/// Opens every shard, and sees to it that it never gives an id that is in the export.
async fn open_shards(import: &Import<'_>) -> Result<BTreeMap<Shard, Epoch>, ImportError> {
    let mut opening = JoinSet::new();
    let mut epochs = BTreeMap::new();
    for (shard, ceiling) in &import.checked.ceilings {
        if opening.len() >= ASKED {
            epochs.extend(joined(opening.join_next().await)?);
        }
        let (store, shard, ceiling) = (Arc::clone(&import.store), *shard, *ceiling);
        opening.spawn(async move { open(store.as_ref(), shard, ceiling).await });
    }
    while let Some(opened) = opening.join_next().await {
        epochs.extend(joined(Some(opened))?);
    }
    Ok(epochs)
}

async fn open(
    store: &dyn Store,
    shard: Shard,
    ceiling: Tick,
) -> Result<(Shard, Epoch), StoreError> {
    let opened = store.open_shard(shard, None).await?;
    if opened.ceiling < ceiling {
        store.raise_ceiling(shard, opened.epoch, ceiling).await?;
    }
    Ok((shard, opened.epoch))
}

/// What a task came to; one that panicked came to nothing.
fn joined<T>(
    task: Option<Result<Result<T, StoreError>, tokio::task::JoinError>>,
) -> Result<Option<T>, StoreError> {
    let task = task.map(|task| task.unwrap_or(Err(StoreError::Closed)));
    task.transpose()
}

/// Rows by partition, in pieces that are written together.
fn partitions(rows: Vec<RowWrite>) -> Vec<Vec<RowWrite>> {
    let mut parts: Vec<Vec<RowWrite>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let weight = row.key.sort.len() + row.value.as_ref().map_or(0, Vec::len);
        let fits = |part: &&mut Vec<RowWrite>| {
            let first = &part[0].key;
            (first.table, &first.partition) == (row.key.table, &row.key.partition)
                && part.len() < ROWS
                && bytes + weight <= ROW_BYTES
        };
        if let Some(part) = parts.last_mut().filter(fits) {
            bytes += weight;
            part.push(row);
        } else {
            bytes = weight;
            parts.push(vec![row]);
        }
    }
    parts
}

/// An import under way.
struct Writing {
    asked: Asked,
    appends: Appends,
    feeds: Feeds,
    counts: Counts,
}

impl Writing {
    async fn rows(&mut self, rows: Vec<KeptRow>) -> Result<(), ImportError> {
        self.counts.rows += rows.len() as u64;
        let put = |Row { key, value }: Row| RowWrite::put(key, value);
        let rows = rows.into_iter().filter_map(KeptRow::row).map(put);
        for part in partitions(rows.collect()) {
            self.asked.write(part).await?;
        }
        Ok(())
    }

    async fn chunks(&mut self, chunks: Vec<KeptChunk>) -> Result<(), ImportError> {
        let Some(shard) = chunks.first().map(|kept| kept.chunk.instance.shard()) else {
            return Ok(());
        };
        let (mut entries, mut messages) = (Vec::new(), 0);
        for kept in chunks {
            let count = kept.chunk.messages.len();
            if messages > 0 && messages + count > MESSAGES {
                let full = std::mem::take(&mut entries);
                self.appends.push(shard, full).await?;
                messages = 0;
            }
            messages += count;
            self.counts.chunks += 1;
            self.counts.messages += count as u64;
            let id = |place: u32| kept.chunk.id(place as usize);
            let known = kept.states.into_iter();
            let known: Vec<(_, MessageState)> =
                known.map(|(place, state)| (id(place), state)).collect();
            entries.push(Entry::Accept(kept.chunk));
            entries.push(Entry::Known(known));
        }
        self.appends.push(shard, entries).await
    }

    /// What was told goes to the feed that would have told it.
    async fn told(&mut self, told: KeptChanges) -> Result<(), ImportError> {
        self.counts.changes += told.changes.len() as u64;
        let KeptChanges { account, changes } = told;
        let first = changes.first().map(|(_, change)| change.id.giver());
        let mut parts: BTreeMap<Shard, Vec<Placed>> = BTreeMap::new();
        for placed in changes {
            let shard = match self.feeds {
                Feeds::One => first.unwrap_or(placed.1.id.giver()),
                Feeds::OfEachShard => placed.1.id.giver(),
            };
            parts.entry(shard).or_default().push(placed);
        }
        for (shard, changes) in parts {
            let entry = Entry::Told { account, changes };
            self.appends.push(shard, vec![entry]).await?;
        }
        Ok(())
    }
}

/// Appends on their way, in the order of the calls.
struct Appends {
    store: Arc<dyn Store>,
    epochs: BTreeMap<Shard, Epoch>,
    room: Arc<Semaphore>,
    failed: Arc<Mutex<Option<StoreError>>>,
}

impl Appends {
    fn new(store: Arc<dyn Store>, epochs: BTreeMap<Shard, Epoch>) -> Self {
        Self {
            store,
            epochs,
            room: Arc::new(Semaphore::new(APPENDS)),
            failed: Arc::default(),
        }
    }

    async fn push(&self, shard: Shard, entries: Vec<Entry>) -> Result<(), ImportError> {
        let epoch = self.epochs.get(&shard).copied();
        let epoch = epoch.ok_or(StoreError::NotOpen(shard))?;
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.map_err(|_| StoreError::Closed)?;
        self.check()?;
        let failed = Arc::clone(&self.failed);
        let done = Box::new(move |result: Result<(), StoreError>| {
            if let Err(error) = result {
                failed.lock().get_or_insert(error);
            }
            drop(room);
        });
        let append = Append {
            shard,
            epoch,
            entries,
        };
        self.store.append(append, done);
        Ok(())
    }

    fn check(&self) -> Result<(), StoreError> {
        let failed = self.failed.lock().clone();
        failed.map_or(Ok(()), Err)
    }

    /// Waits for all of them.
    async fn finish(&self) -> Result<(), StoreError> {
        let all = self.room.acquire_many(APPENDS as u32).await;
        drop(all.map_err(|_| StoreError::Closed)?);
        self.check()
    }
}

/// Writes of rows on their way.
struct Asked {
    store: Arc<dyn Store>,
    tasks: JoinSet<Result<Written, StoreError>>,
}

impl Asked {
    fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            tasks: JoinSet::new(),
        }
    }

    async fn write(&mut self, rows: Vec<RowWrite>) -> Result<(), StoreError> {
        if self.tasks.len() >= ASKED {
            joined(self.tasks.join_next().await)?;
        }
        let store = Arc::clone(&self.store);
        self.tasks.spawn(async move { store.write(rows).await });
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), StoreError> {
        while let Some(task) = self.tasks.join_next().await {
            joined(Some(task))?;
        }
        Ok(())
    }
}
