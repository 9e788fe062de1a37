//! Keys of the main space that changed and are not in the key-value store yet.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::kv::{Direction, Span};

/// Changed keys; `None` is a deleted one.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What a change takes beside its bytes, about.
const CHANGE_OVERHEAD: usize = 96;

/// Changes since the last flush, and those that a flush is writing.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    fresh: Changes,
    frozen: Arc<Changes>,
    bytes: usize,
}

/// A stretch of changes of a span, in order of a scan.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// The changes.
    pub(crate) changes: Changes,
    /// The key at which it was cut; `None` when it reaches the end of the span.
    pub(crate) cut: Option<Vec<u8>>,
}

impl Overlay {
    /// What is known of a key: nothing, its deletion, or its value.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&Vec<u8>>> {
        self.fresh
            .get(key)
            .or_else(|| self.frozen.get(key))
            .map(Option::as_ref)
    }

    /// Changes a key.
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len) + CHANGE_OVERHEAD;
        self.fresh.insert(key, value);
    }

    /// About how much memory the changes since the last flush take.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins a flush of everything.
    pub(crate) fn freeze(&mut self) -> Arc<Changes> {
        self.bytes = 0;
        self.frozen = Arc::new(std::mem::take(&mut self.fresh));
        Arc::clone(&self.frozen)
    }

    /// The frozen changes are in the key-value store.
    pub(crate) fn thaw(&mut self) {
        self.frozen = Arc::default();
    }

    /// The first `limit` changes of a span.
    pub(crate) fn stretch(&self, span: &Span, direction: Direction, limit: usize) -> Stretch {
        let mut changes = Changes::new();
        if span.from >= span.to {
            return Stretch { changes, cut: None };
        }
        for source in [self.frozen.as_ref(), &self.fresh] {
            let bounds = (Bound::Included(&span.from), Bound::Excluded(&span.to));
            let range = source.range::<Vec<u8>, _>(bounds);
            let copy = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| (key.clone(), value.clone());
            match direction {
                Direction::Up => changes.extend(range.take(limit + 1).map(copy)),
                Direction::Down => changes.extend(range.rev().take(limit + 1).map(copy)),
            }
        }
        let mut cut = None;
        while changes.len() > limit {
            let dropped = match direction {
                Direction::Up => changes.pop_last(),
                Direction::Down => changes.pop_first(),
            };
            cut = dropped.map(|(key, _)| key);
        }
        Stretch { changes, cut }
    }
}
