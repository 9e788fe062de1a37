//! Chunks as they were accepted: a bounded cache over the log.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use zajil_model::message::{Chunk, Payload};

use crate::StoreError;

/// Reads chunks back from where they are kept for good.
pub(crate) trait ChunkSource: Send + Sync + fmt::Debug + 'static {
    /// The chunk of the record at `lsn`, whose payload is `len` bytes long.
    fn chunk(&self, lsn: u64, len: u32) -> Result<Arc<Chunk>, StoreError>;
}

/// About how much memory a chunk takes.
pub(crate) fn bytes_of(chunk: &Chunk) -> usize {
    let payload = |payload: &Payload| match payload {
        Payload::Text(text) => text.len(),
        Payload::Poll(poll) => {
            64 + poll.question.len() + poll.options.iter().map(|o| o.len() + 24).sum::<usize>()
        }
        Payload::List(list) => {
            let rows = list.sections.iter().flat_map(|section| &section.rows);
            256 + list.description.len() + rows.map(|row| 96 + row.title.len()).sum::<usize>()
        }
        Payload::Reaction(reaction) => 160 + reaction.emoji.len(),
    };
    let each = chunk.messages.iter().map(|message| {
        96 + payload(&message.payload) + message.client_ref.as_ref().map_or(0, |name| name.len())
    });
    128 + each.sum::<usize>()
}

/// The cache, oldest out first: work is drained in the order in which it came.
#[derive(Debug)]
pub(crate) struct Bodies<C> {
    source: C,
    budget: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    chunks: FxHashMap<u64, Arc<Chunk>>,
    order: VecDeque<u64>,
    bytes: usize,
}

impl<C: ChunkSource> Bodies<C> {
    /// A cache of this many bytes.
    pub(crate) fn new(source: C, budget: usize) -> Self {
        Self {
            source,
            budget,
            kept: Mutex::default(),
        }
    }

    /// Where chunks are kept for good.
    pub(crate) const fn source(&self) -> &C {
        &self.source
    }

    /// Keeps a chunk.
    pub(crate) fn keep(&self, lsn: u64, chunk: Arc<Chunk>) {
        let bytes = bytes_of(&chunk);
        let mut evicted = Vec::new();
        let mut kept = self.kept.lock();
        if kept.chunks.insert(lsn, chunk).is_none() {
            kept.bytes += bytes;
            kept.order.push_back(lsn);
        }
        while kept.bytes > self.budget {
            let Some(oldest) = kept.order.pop_front() else {
                break;
            };
            if let Some(chunk) = kept.chunks.remove(&oldest) {
                kept.bytes -= bytes_of(&chunk);
                evicted.push(chunk);
            }
        }
        // Freeing a chunk takes longer than unlinking it, so it happens outside of the lock.
        drop(kept);
    }

    /// The chunk of a record.
    pub(crate) fn get(&self, lsn: u64, len: u32) -> Result<Arc<Chunk>, StoreError> {
        if let Some(chunk) = self.kept.lock().chunks.get(&lsn) {
            return Ok(Arc::clone(chunk));
        }
        let chunk = self.source.chunk(lsn, len)?;
        self.keep(lsn, Arc::clone(&chunk));
        Ok(chunk)
    }
}
