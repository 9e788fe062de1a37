//! A map with a bound, for what is read far more often than it changes.
//!
//! Two generations: entries go into the young one, and when that is half of the bound the old one is
//! thrown away and the young takes its place. What is used is moved up, so what is thrown away was
//! not used for a while. A reader that was overtaken by a writer must not put what it read: it
//! takes a [`Mark`] before it reads, and a put under an old mark is ignored.

use std::hash::Hash;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// A bounded map; values are cheap to clone.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    bound: usize,
    inside: Mutex<Inside<K, V>>,
}

#[derive(Debug)]
struct Inside<K, V> {
    young: FxHashMap<K, V>,
    old: FxHashMap<K, V>,
    changes: u64,
}

/// A point in the history of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// An empty cache of at most `bound` entries.
    pub(crate) fn new(bound: usize) -> Self {
        let inside = Inside {
            young: FxHashMap::default(),
            old: FxHashMap::default(),
            changes: 0,
        };
        Self {
            bound,
            inside: Mutex::new(inside),
        }
    }

    /// What is kept under a key.
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut inside = self.inside.lock();
        if let Some(value) = inside.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = inside.old.remove_entry(key)?;
        inside.add(self.bound, key, value.clone());
        Some(value)
    }

    /// Where the history is: to be taken before a read whose result is put.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.inside.lock().changes)
    }

    /// Puts what was read after `mark`, unless something changed since.
    pub(crate) fn put_read(&self, mark: Mark, key: K, value: V) {
        let mut inside = self.inside.lock();
        if inside.changes == mark.0 {
            inside.add(self.bound, key, value);
        }
    }

    /// Puts what was written.
    pub(crate) fn put_written(&self, key: K, value: V) {
        let mut inside = self.inside.lock();
        inside.changes += 1;
        inside.old.remove(&key);
        inside.add(self.bound, key, value);
    }

    /// Forgets everything: others may have changed it.
    pub(crate) fn clear(&self) {
        let mut inside = self.inside.lock();
        inside.changes += 1;
        inside.young.clear();
        inside.old.clear();
    }

    /// Forgets some of it: others may have changed it.
    pub(crate) fn forget_where(&self, changed: impl Fn(&K) -> bool) {
        let mut inside = self.inside.lock();
        inside.changes += 1;
        inside.young.retain(|key, _| !changed(key));
        inside.old.retain(|key, _| !changed(key));
    }

    /// Forgets what changed.
    pub(crate) fn forget(&self, key: &K) {
        let mut inside = self.inside.lock();
        inside.changes += 1;
        inside.young.remove(key);
        inside.old.remove(key);
    }
}

impl<K: Hash + Eq, V> Inside<K, V> {
    fn add(&mut self, bound: usize, key: K, value: V) {
        self.young.insert(key, value);
        if self.young.len() > bound / 2 {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_never_holds_more_than_its_bound_and_keeps_what_is_used() {
        let cache = Cache::new(100);
        cache.put_written(0, 0);

        for key in 1..1_000 {
            cache.put_written(key, key);
            assert_eq!(cache.get(&0), Some(0), "used all the time");
        }

        let kept = (0..1_000).filter(|key| cache.get(key).is_some()).count();
        assert!(kept <= 102, "{kept}");
        assert_eq!(cache.get(&1), None);
    }

    #[test]
    fn a_reader_that_was_overtaken_by_a_writer_puts_nothing() {
        let cache = Cache::new(10);
        let mark = cache.mark();

        cache.put_written("name", 2);
        cache.put_read(mark, "name", 1);

        assert_eq!(cache.get("name"), Some(2));
    }
}
