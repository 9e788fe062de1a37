//! Reading an export to see that all of it is good, before anything is written.

use std::collections::BTreeMap;
use std::path::Path;

use zajil_model::id::{MessageId, Shard, Tick};
use zajil_model::time::Timestamp;

use super::format::{End, Header, Item, KeptChunk, KeptRow, ShardOf};
use super::frames::FrameReader;
use super::{Counts, ImportError, Progress, travels};
use crate::query::Cursor;

/// An export that is good from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The kind of store that it is of, for people.
    pub source: String,
    /// When it was made.
    pub at: Timestamp,
    /// What is in it.
    pub counts: Counts,
    /// Every place of the change feed in it is before this record of a log.
    pub feed_end: u64,
    /// No id of a shard in it is above these ticks.
    pub(super) ceilings: BTreeMap<Shard, Tick>,
}

/// Reads a whole export.
///
/// # Errors
/// It is none, of another version, damaged or cut off, or cannot be read.
pub fn check(file: &Path, progress: Progress<'_>) -> Result<Checked, ImportError> {
    let mut frames = FrameReader::begin(file)?;
    let Item::Header(header) = frames.next()? else {
        return Err(frames.damaged("it does not begin with a header"));
    };
    let mut seen = Seen::of(&header).map_err(|why| frames.damaged(why))?;
    loop {
        match frames.next()? {
            Item::End(end) => {
                let (count, sum) = (frames.count - 1, frames.sum);
                seen.end(&end, count, sum)
                    .map_err(|why| frames.damaged(why))?;
                if !frames.is_over()? {
                    return Err(frames.damaged("something follows its end"));
                }
                break;
            }
            item => seen.item(item).map_err(|why| frames.damaged(why))?,
        }
        progress(seen.counts);
    }
    Ok(Checked {
        source: header.source,
        at: header.at,
        counts: seen.counts,
        feed_end: header.feed_end,
        ceilings: seen.ceilings,
    })
}

/// The sections of an export, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Rows,
    Shards,
    Changes,
}

/// What was seen so far.
struct Seen {
    counts: Counts,
    section: Section,
    shard: Option<Shard>,
    ceilings: BTreeMap<Shard, Tick>,
    /// The last place that was told to whom.
    told: Option<(zajil_model::id::AccountId, Cursor)>,
    feed_end: u64,
}

type Why = &'static str;

impl Seen {
    fn of(header: &Header) -> Result<Self, Why> {
        if header.wa_key.as_ref().is_some_and(|key| key.0.len() != 32) {
            return Err("its key of WhatsApp ids has not 32 bytes");
        }
        Ok(Self {
            counts: Counts::default(),
            section: Section::Rows,
            shard: None,
            ceilings: BTreeMap::new(),
            told: None,
            feed_end: header.feed_end,
        })
    }

    fn enter(&mut self, section: Section) -> Result<(), Why> {
        if section < self.section {
            return Err("its parts are not in order");
        }
        self.section = section;
        Ok(())
    }

    fn item(&mut self, item: Item) -> Result<(), Why> {
        match item {
            Item::Header(_) => Err("it has two headers"),
            Item::Rows(rows) => {
                self.enter(Section::Rows)?;
                self.counts.rows += rows.len() as u64;
                rows.into_iter().try_for_each(check_row)
            }
            Item::Shard(of) => {
                self.enter(Section::Shards)?;
                self.shard(of)
            }
            Item::Chunks(chunks) => {
                self.enter(Section::Shards)?;
                chunks.iter().try_for_each(|kept| self.chunk(kept))
            }
            Item::Told(told) => {
                self.enter(Section::Changes)?;
                self.counts.changes += told.changes.len() as u64;
                for (place, change) in &told.changes {
                    if !self.ceilings.contains_key(&change.id.giver()) {
                        return Err("a change is of no shard");
                    }
                    let before = self.told.filter(|(account, _)| *account == told.account);
                    let in_order = before.is_none_or(|(_, last)| last < *place);
                    if !in_order || place.record >= self.feed_end {
                        return Err("changes are not in order");
                    }
                    self.told = Some((told.account, *place));
                }
                Ok(())
            }
            Item::End(_) => Err("it has two ends"),
        }
    }

    fn shard(&mut self, of: ShardOf) -> Result<(), Why> {
        if self.shard.is_some_and(|last| last >= of.shard) {
            return Err("shards are not in order");
        }
        self.shard = Some(of.shard);
        self.ceilings.insert(of.shard, of.ceiling);
        Ok(())
    }

    fn chunk(&mut self, kept: &KeptChunk) -> Result<(), Why> {
        let chunk = &kept.chunk;
        let Some(shard) = self.shard else {
            return Err("a chunk is of no shard");
        };
        let is_of = |id: MessageId| id.giver() == shard;
        if chunk.is_empty() || chunk.instance.shard() != shard || !is_of(chunk.first) {
            return Err("a chunk is of another shard");
        }
        if kept.states.iter().any(|(place, _)| *place >= chunk.len()) {
            return Err("a chunk knows of messages that it has not");
        }
        let highest = chunk.last().tick();
        if let Some(ceiling) = self.ceilings.get_mut(&shard) {
            *ceiling = highest.max(*ceiling);
        }
        self.counts.chunks += 1;
        self.counts.messages += u64::from(chunk.len());
        Ok(())
    }

    fn end(&self, end: &End, frames: u64, sum: u32) -> Result<(), Why> {
        if (end.frames, end.sum) != (frames, sum) {
            return Err("the check sum of all of it is wrong");
        }
        if end.counts != self.counts {
            return Err("something is missing, by its counts");
        }
        Ok(())
    }
}

fn check_row(kept: KeptRow) -> Result<(), Why> {
    match kept.row() {
        Some(row) if travels(&row.key) => Ok(()),
        Some(_) => Err("a row belongs to the store that it came from"),
        None => Err("a row is of an unknown table"),
    }
}
