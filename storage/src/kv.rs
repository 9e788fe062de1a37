//! What a projection needs of an ordered key-value store: reads, scans, one atomic batch.

use std::fmt;
use std::ops::ControlFlow;

use crate::StoreError;

pub(crate) mod map;

/// Keys are apart by space: what lives for ever, and what goes with its period as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Space {
    /// Rows, heads of queues, totals, schedule, feed.
    Main,
    /// Blocks and their index, by the period in which their ids were given.
    Period(u32),
}

/// One write: where, the key, and its new value (`None` deletes it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KvWrite {
    pub(crate) space: Space,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// Keys of a scan: from the first (inclusive) to before the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

impl Span {
    /// Every key that begins with these bytes.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        Self {
            from: prefix.to_vec(),
            to: after_prefix(prefix),
        }
    }
}

/// The lowest key above all that begin with `prefix` (which holds a byte below 255).
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the lowest key.
    Up,
    /// From the highest key.
    Down,
}

impl Direction {
    /// Down when reversed, else up.
    pub(crate) const fn of(reverse: bool) -> Self {
        if reverse { Self::Down } else { Self::Up }
    }
}

/// Called for each key and value of a scan, until it breaks.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An ordered key-value store under a projection.
pub(crate) trait Kv: Send + Sync + fmt::Debug + 'static {
    /// A value.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the keys of a span in order, as they were at the beginning of the scan.
    fn scan(
        &self,
        space: Space,
        span: &Span,
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), StoreError>;

    /// Writes all or nothing; durable when it returns.
    fn commit(&self, writes: Vec<KvWrite>) -> Result<(), StoreError>;

    /// Whether reads see what was committed last. If not, nothing may be committed any more.
    fn is_in_place(&self) -> bool {
        true
    }

    /// The periods that hold something, in order.
    fn periods(&self) -> Vec<u32>;

    /// Drops a period as a whole.
    fn drop_period(&self, period: u32) -> Result<(), StoreError>;
}
