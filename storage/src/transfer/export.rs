//! From a store into a file.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::path::Path;

use zajil_model::id::{AccountId, Shard, Tick};
use zajil_model::lifecycle::MessageState;
use zajil_model::time::Timestamp;

use super::format::{Blob, End, Header, Item, KeptChanges, KeptChunk, KeptRow, ShardOf};
use super::frames::FrameWriter;
use super::source::{Part, Source};
use super::{Counts, ExportError, Progress, travels, wa_key_row};
use crate::projection::bodies::bytes_of;
use crate::projection::feed::Placed;
use crate::projection::key::QueueKey;
use crate::query::Cursor;
use crate::row::Table;
use crate::staged::StagedFile;
use crate::{QueuedChunk, StoreError, initial_state};

/// A frame is about this long before it is packed: what an export holds in memory.
const FRAME_BYTES: usize = 256 << 10;

/// Messages that are read at once.
const MESSAGES_AT_ONCE: usize = 4_096;

/// Changes of one frame, and of one read of each part.
const CHANGES_AT_ONCE: usize = 1_024;

/// Writes everything that a store holds to a new file, which gets its name when all of it is
/// durable.
///
/// # Errors
/// The file is there already, the store cannot be read or holds nothing, or the disk fails. Then
/// there is no file.
pub fn export(
    source: &Source,
    file: &Path,
    now: Timestamp,
    progress: Progress<'_>,
) -> Result<Counts, ExportError> {
    let (staged, opened) = StagedFile::begin(file)?;
    let mut writing = Writing {
        frames: FrameWriter::begin(opened)?,
        counts: Counts::default(),
        progress,
    };
    writing.header(source, now)?;
    writing.rows(source)?;
    writing.shards(source)?;
    writing.changes(source)?;
    let (counts, written) = writing.end()?;
    staged.name(&written)?;
    Ok(counts)
}

/// An export under way.
struct Writing<'a> {
    frames: FrameWriter,
    counts: Counts,
    progress: Progress<'a>,
}

impl Writing<'_> {
    fn put(&mut self, item: &Item) -> Result<(), ExportError> {
        self.frames.put(item)?;
        (self.progress)(self.counts);
        Ok(())
    }

    fn header(&mut self, source: &Source, now: Timestamp) -> Result<(), ExportError> {
        let (key, mut found, mut holds) = (wa_key_row(), None, false);
        source.rows.each(&mut |row| {
            holds |= row.key.table == Table::Accounts;
            if row.key == key {
                found = Some(Blob(row.value));
            }
            Ok(())
        })?;
        if !holds && found.is_none() {
            return Err(ExportError::Nothing);
        }
        let ends = source.parts.iter().map(|part| part.end());
        self.put(&Item::Header(Header {
            program: concat!("zajil ", env!("CARGO_PKG_VERSION")).to_owned(),
            source: source.kind.to_owned(),
            at: now,
            wa_key: found,
            feed_end: ends.max().unwrap_or(0),
        }))
    }

    fn rows(&mut self, source: &Source) -> Result<(), ExportError> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        let mut failed = None;
        let key = wa_key_row();
        let walked = source.rows.each(&mut |row| {
            if !travels(&row.key) || row.key == key {
                return Ok(());
            }
            let row = KeptRow::new(row);
            bytes += row.bytes();
            page.push(row);
            if bytes < FRAME_BYTES {
                return Ok(());
            }
            bytes = 0;
            self.rows_page(std::mem::take(&mut page)).map_err(|error| {
                failed = Some(error);
                StoreError::Closed
            })
        });
        if let Some(error) = failed {
            return Err(error);
        }
        walked?;
        self.rows_page(page)
    }

    fn rows_page(&mut self, page: Vec<KeptRow>) -> Result<(), ExportError> {
        if page.is_empty() {
            return Ok(());
        }
        self.counts.rows += page.len() as u64;
        self.put(&Item::Rows(page))
    }

    fn shards(&mut self, source: &Source) -> Result<(), ExportError> {
        let mut of: BTreeMap<Shard, Vec<(QueueKey, &dyn Part)>> = BTreeMap::new();
        for shard in source.ceilings.keys() {
            of.insert(*shard, Vec::new());
        }
        for part in &source.parts {
            for queue in part.queues()? {
                let queues = of.entry(queue.instance.shard()).or_default();
                queues.push((queue, part.as_ref()));
            }
        }
        for (shard, queues) in of {
            let ceiling = source.ceilings.get(&shard).copied();
            let ceiling = ceiling.unwrap_or(Tick(0));
            self.put(&Item::Shard(ShardOf { shard, ceiling }))?;
            let mut page = Page::default();
            for (queue, part) in queues {
                self.queue(queue, part, &mut page)?;
            }
            self.chunks_page(&mut page)?;
        }
        Ok(())
    }

    fn queue(
        &mut self,
        queue: QueueKey,
        part: &dyn Part,
        page: &mut Page,
    ) -> Result<(), ExportError> {
        let mut after = None;
        loop {
            let (chunks, next) = part.chunks(queue, after, MESSAGES_AT_ONCE, FRAME_BYTES)?;
            for chunk in chunks {
                page.push(chunk);
                if page.bytes >= FRAME_BYTES {
                    self.chunks_page(page)?;
                }
            }
            if next.is_none() {
                return Ok(());
            }
            after = next;
        }
    }

    fn chunks_page(&mut self, page: &mut Page) -> Result<(), ExportError> {
        let Page { chunks, .. } = std::mem::take(page);
        if chunks.is_empty() {
            return Ok(());
        }
        self.counts.chunks += chunks.len() as u64;
        let messages = chunks.iter().map(|kept| u64::from(kept.chunk.len()));
        self.counts.messages += messages.sum::<u64>();
        self.put(&Item::Chunks(chunks))
    }

    fn changes(&mut self, source: &Source) -> Result<(), ExportError> {
        let mut tellers: BTreeMap<AccountId, Vec<&dyn Part>> = BTreeMap::new();
        for part in &source.parts {
            for account in part.accounts() {
                tellers.entry(account).or_default().push(part.as_ref());
            }
        }
        for (account, parts) in tellers {
            let mut feed = Merged::new(account, parts)?;
            loop {
                let changes = feed.page()?;
                if changes.is_empty() {
                    break;
                }
                self.counts.changes += changes.len() as u64;
                self.put(&Item::Told(KeptChanges { account, changes }))?;
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<(Counts, std::fs::File), ExportError> {
        let end = End {
            counts: self.counts,
            frames: self.frames.count,
            sum: self.frames.sum,
        };
        self.frames.put(&Item::End(end))?;
        Ok((self.counts, self.frames.finish()?))
    }
}

/// Chunks of the next frame.
#[derive(Default)]
struct Page {
    chunks: Vec<KeptChunk>,
    bytes: usize,
}

impl Page {
    fn push(&mut self, queued: QueuedChunk) {
        let chunk = &queued.chunk;
        let begins = |place: u32| initial_state(chunk, place as usize);
        let states = (0..).zip(queued.states);
        let states: Vec<_> = states
            .filter(|(place, state)| *state != begins(*place))
            .collect();
        self.bytes += bytes_of(&queued.chunk) + states.len() * size_of::<MessageState>();
        self.chunks.push(KeptChunk {
            chunk: queued.chunk,
            states,
        });
    }
}

/// What several parts told an account, in the order of the places.
struct Merged<'a> {
    account: AccountId,
    streams: Vec<Stream<'a>>,
    /// The next place of each stream that has one.
    next: BinaryHeap<Reverse<(Cursor, usize)>>,
}

struct Stream<'a> {
    part: &'a dyn Part,
    page: VecDeque<Placed>,
    from: Cursor,
}

impl Stream<'_> {
    /// The next place, read from the part if need be.
    fn next(&mut self, account: AccountId) -> Result<Option<Cursor>, StoreError> {
        if self.page.is_empty() {
            let page = self.part.told(account, self.from, CHANGES_AT_ONCE)?;
            if let Some((last, _)) = page.last() {
                self.from = Cursor {
                    record: last.record,
                    within: last.within + 1,
                };
            }
            self.page = page.into();
        }
        Ok(self.page.front().map(|(place, _)| *place))
    }
}

impl<'a> Merged<'a> {
    fn new(account: AccountId, parts: Vec<&'a dyn Part>) -> Result<Self, StoreError> {
        let streams = parts.into_iter().map(|part| Stream {
            part,
            page: VecDeque::new(),
            from: Cursor::default(),
        });
        let mut merged = Self {
            account,
            streams: streams.collect(),
            next: BinaryHeap::new(),
        };
        for number in 0..merged.streams.len() {
            merged.look(number)?;
        }
        Ok(merged)
    }

    fn look(&mut self, number: usize) -> Result<(), StoreError> {
        let next = self.streams[number].next(self.account)?;
        self.next.extend(next.map(|place| Reverse((place, number))));
        Ok(())
    }

    fn page(&mut self) -> Result<Vec<Placed>, StoreError> {
        let mut page = Vec::new();
        while page.len() < CHANGES_AT_ONCE {
            let Some(Reverse((_, number))) = self.next.pop() else {
                break;
            };
            page.extend(self.streams[number].page.pop_front());
            self.look(number)?;
        }
        Ok(page)
    }
}
