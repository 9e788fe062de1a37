//! Which ids a recipient was shown already, as far back as is remembered.

use std::mem;

use rustc_hash::FxHashSet;

/// How many ids a simulator in this process remembers for sure. The engine repeats an id within
/// minutes; 131,072 are 10 minutes at 200 a second, for some 5 MB at most.
pub(crate) const SHOWN_IN_PROCESS: usize = 1 << 17;

/// How many ids a simulator process remembers for sure: it checks the engine in long runs, and
/// has the machine's memory for it (some 150 MB at most).
pub(crate) const SHOWN_BY_SERVER: usize = 1 << 22;

/// Remembers the last shown ids: at least `limit`, at most twice as many.
///
/// Two generations instead of a queue: an id costs one entry, and the older half is forgotten at
/// once when the younger is full.
#[derive(Debug)]
pub(crate) struct Shown {
    young: FxHashSet<u64>,
    old: FxHashSet<u64>,
    limit: usize,
}

impl Shown {
    /// Remembers `limit` ids.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            young: FxHashSet::default(),
            old: FxHashSet::default(),
            limit,
        }
    }

    /// Whether an id was shown.
    pub(crate) fn contains(&self, fingerprint: u64) -> bool {
        self.young.contains(&fingerprint) || self.old.contains(&fingerprint)
    }

    /// Remembers that an id was shown.
    pub(crate) fn insert(&mut self, fingerprint: u64) {
        if self.young.len() >= self.limit {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_shown_ids_are_remembered_and_old_ones_forgotten() {
        let mut shown = Shown::new(100);

        (0..1_000).for_each(|id| shown.insert(id));

        assert!((900..1_000).all(|id| shown.contains(id)));
        assert!(!(0..800).any(|id| shown.contains(id)));
    }
}
