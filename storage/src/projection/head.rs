//! Heads of queues, and their counts by day.

use zajil_model::id::{AccountId, MessageId};
use zajil_model::lifecycle::Status;

use crate::codec::varint::{self, Reader};
use crate::codec::{read_account, read_message};
use crate::{StatusCounts, StoreError};

/// The form below; a reader refuses others.
const VERSION: u8 = 1;

/// Statuses that are not settled come first in the order of statuses.
const UNSETTLED: usize = 3;

/// What is known of a queue as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whose it is.
    pub(crate) account: AccountId,
    /// Its oldest block.
    pub(crate) first: MessageId,
    /// Its newest block, which takes the next chunk.
    pub(crate) open: MessageId,
    /// Every message of the blocks before this one is settled.
    pub(crate) low: MessageId,
    /// The highest id in it.
    pub(crate) last: MessageId,
    /// How many messages are scheduled, pending, processing.
    pub(crate) counts: [u64; UNSETTLED],
    /// Whether it has to be written.
    pub(crate) dirty: bool,
}

impl Head {
    /// A queue that begins with this block.
    pub(crate) const fn new(account: AccountId, first: MessageId) -> Self {
        Self {
            account,
            first,
            open: first,
            low: first,
            last: first,
            counts: [0; UNSETTLED],
            dirty: true,
        }
    }

    /// How many of its messages are not settled.
    pub(crate) fn unsettled(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of its messages a mass cancel could end.
    pub(crate) const fn waiting(&self) -> u64 {
        self.counts[Status::Scheduled as usize] + self.counts[Status::Pending as usize]
    }

    /// Counts messages that came into a status.
    pub(crate) fn add(&mut self, status: Status, count: u64) {
        if let Some(known) = self.counts.get_mut(status as usize) {
            *known += count;
            self.dirty = true;
        }
    }

    /// Counts messages that left a status.
    pub(crate) fn sub(&mut self, status: Status, count: u64) {
        if let Some(known) = self.counts.get_mut(status as usize) {
            *known = known.saturating_sub(count);
            self.dirty = true;
        }
    }

    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::put(&mut out, self.account.get());
        for id in [self.first, self.open, self.low, self.last] {
            varint::put(&mut out, id.get());
        }
        self.counts
            .iter()
            .for_each(|count| varint::put(&mut out, *count));
        out
    }

    /// Reads it back.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new("head of a queue", bytes);
        if reader.byte()? != VERSION {
            return Err(reader.fault("unknown version"));
        }
        let account = read_account(&mut reader)?;
        let [first, open, low, last] = [
            read_message(&mut reader)?,
            read_message(&mut reader)?,
            read_message(&mut reader)?,
            read_message(&mut reader)?,
        ];
        let counts = [reader.number()?, reader.number()?, reader.number()?];
        Ok(Self {
            account,
            first,
            open,
            low,
            last,
            counts,
            dirty: false,
        })
    }
}

/// Counts of one day of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    /// By status.
    pub(crate) counts: StatusCounts,
    /// Whether they have to be written.
    pub(crate) dirty: bool,
}

impl Cell {
    /// Counts a message that went from one status to another.
    pub(crate) fn shift(&mut self, from: Status, to: Status, count: u64) {
        self.counts[from as usize] = self.counts[from as usize].saturating_sub(count);
        self.counts[to as usize] += count;
        self.dirty = true;
    }

    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.counts
            .iter()
            .for_each(|count| varint::put(&mut out, *count));
        out
    }

    /// Reads it back.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new("totals", bytes);
        if reader.byte()? != VERSION {
            return Err(reader.fault("unknown version"));
        }
        let mut cell = Self::default();
        for count in &mut cell.counts {
            *count = reader.number()?;
        }
        Ok(cell)
    }
}
