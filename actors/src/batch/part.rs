//! Filling the parts of a batch where each part has an owner of its own.
//!
//! A block of rows is one append for each instance, at its owner. Each part notes in the same append up
//! to which row it was filled, so a block that is repeated, whole or with other borders, adds only
//! what is not there.

use std::sync::Arc;

use futures_util::future::join_all;
use rustc_hash::FxHashMap;
use tokio::sync::{Mutex, oneshot};
use zajil_model::id::{BatchId, Epoch, InstanceId, Shard};
use zajil_model::message::Message;
use zajil_storage::{Append, Entry, StoreError};

use super::record::BatchRecord;
use super::upload::{chunk, chunks};
use super::{BatchError, BatchPorts, Batches, keep};
use crate::owners::Asked;
use crate::owners::questions::AppendPart;

/// Locks for parts: more than a node fills at once.
const STRIPES: usize = 64;

/// The parts that are being filled on this node, each by one at a time.
#[derive(Debug)]
pub(super) struct Parts([Arc<Mutex<()>>; STRIPES]);

impl Default for Parts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Arc::default()))
    }
}

impl Parts {
    fn of(&self, batch: BatchId, instance: InstanceId) -> Arc<Mutex<()>> {
        let place = Shard::of(batch.get() ^ instance.get().rotate_left(32));
        Arc::clone(&self.0[usize::from(place.number()) % STRIPES])
    }
}

/// Fills the parts of all instances that have rows of a block: rows before `from` are counted, those
/// before `upto` are dealt with afterwards.
pub(super) async fn fill_all(
    batches: &Batches,
    record: &BatchRecord,
    messages: FxHashMap<InstanceId, Vec<(u64, Message)>>,
    (from, upto): (u64, u64),
) -> Result<(), BatchError> {
    let filled = messages.into_iter().map(|(instance, rows)| async move {
        let question = AppendPart {
            account: record.account,
            batch: record.id,
            instance,
            upto,
            from,
            rows,
        };
        match batches
            .0
            .ports
            .owners
            .ask(instance.shard(), question)
            .await?
        {
            Asked::Here(question) => Ok(batches.append_part(question).await?),
            Asked::There(answer) => Ok(answer?),
        }
    });
    join_all(filled).await.into_iter().collect()
}

impl Batches {
    /// Appends rows to the part of an instance of this node, but for those that it has.
    pub(crate) async fn append_part(&self, rows: AppendPart) -> Result<(), StoreError> {
        let turn = self
            .0
            .parts
            .of(rows.batch, rows.instance)
            .lock_owned()
            .await;
        let (ports, port) = (self.0.ports.clone(), Arc::clone(&self.0.ports.instances));
        let (reply, answer) = oneshot::channel();
        // It goes on when nobody waits for it any more: who repeats it has to wait for its turn.
        self.0.ports.tracker.spawn(async move {
            let (instance, batch) = (rows.instance, rows.batch);
            let filled = fill(&ports, rows).await;
            drop(turn);
            // Told in any case: what could not be answered may be there all the same.
            port.part_grew(instance, batch);
            drop(reply.send(filled));
        });
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Adds what a part does not have of a block. What is read, the ids and the append belong to one
/// epoch: otherwise the next owner may have put the block in between.
async fn fill(ports: &BatchPorts, part: AppendPart) -> Result<(), StoreError> {
    let (batch, instance) = (part.batch, part.instance);
    let shard = instance.shard();
    let epoch = ports.clocks.ensure(shard, 1).await?;
    let filled = keep::load_filled(&*ports.store, batch, instance).await?;
    let (has, before) = filled.map_or((0, Vec::new()), |filled| (filled.upto, filled.rows));
    let fresh = part.rows.into_iter().filter(|(row, _)| *row >= has);
    let (numbers, messages): (Vec<u64>, Vec<Message>) = fresh.unzip();
    if let Some(first) = numbers.first().copied() {
        let of = (part.account, batch);
        let mut entries = Vec::new();
        let mut ids = Vec::with_capacity(numbers.len());
        for messages in chunks(messages) {
            let (chunk, given) = chunk(ports, of, instance, first, messages).await?;
            if given != epoch {
                return Err(StoreError::NotOpen(shard));
            }
            ids.extend((0..chunk.len()).map(|n| chunk.first.plus(u64::from(n))));
            entries.push(Entry::Accept(Arc::new(chunk)));
        }
        // What was put in before of rows that are not counted is brought along.
        let before = before.into_iter().filter(|(row, _)| *row >= part.from);
        let filled = keep::Filled {
            upto: part.upto,
            rows: before.chain(numbers.into_iter().zip(ids)).collect(),
        };
        let row = keep::filled(batch, instance, &filled);
        entries.push(Entry::Rows(vec![row]));
        append(ports, shard, epoch, entries).await?;
    }
    // Under a lease that ended, the next owner may have read the log before this was in it.
    if ports.speaks_for(shard, epoch) {
        Ok(())
    } else {
        Err(StoreError::NotOpen(shard))
    }
}

async fn append(
    ports: &BatchPorts,
    shard: Shard,
    epoch: Epoch,
    entries: Vec<Entry>,
) -> Result<(), StoreError> {
    let (reply, answer) = oneshot::channel();
    let append = Append {
        shard,
        epoch,
        entries,
    };
    // Who waits for it is the task above, which does not go away.
    let done = move |result| drop(reply.send(result));
    ports.store.append(append, Box::new(done));
    answer.await.map_err(|_| StoreError::Closed)?
}
