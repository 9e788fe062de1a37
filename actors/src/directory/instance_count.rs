//! How many instances there are, without asking the store each time.
//!
//! They are counted once after a start and then now and then, in the background; in between, this
//! process adds what it makes and takes off what it deletes. A count during which something
//! changed may have seen it or not, so it is void.

use std::sync::atomic::{AtomicU64, Ordering};

use zajil_model::id::{InstanceId, Shard};
use zajil_storage::Table;

use super::rows::{SCAN_ROWS, number, read_number};
use super::{Directory, DirectoryError};

/// The count, and how often it changed.
#[derive(Debug, Default)]
pub(super) struct InstanceCount {
    /// Instances that exist; below zero never lasts, because a new count is set as a whole.
    exist: AtomicU64,
    changes: AtomicU64,
}

impl InstanceCount {
    /// One more exists.
    pub(super) fn made(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.exist.fetch_add(1, Ordering::AcqRel);
    }

    /// One less exists.
    pub(super) fn deleted(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        let less = |count: u64| count.checked_sub(1);
        // Before the first count it may be one that was never added.
        self.exist
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
            .ok();
    }

    fn mark(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// A count that began at a mark ended; answers whether it holds.
    fn counted(&self, mark: u64, count: u64) -> bool {
        let holds = self.mark() == mark;
        if holds {
            self.exist.store(count, Ordering::Release);
        }
        holds
    }
}

impl Directory {
    /// How many instances exist, as far as is known: of all accounts, in the shards that were
    /// counted.
    pub fn instance_count(&self) -> u64 {
        self.inner.instances.count.exist.load(Ordering::Acquire)
    }

    /// Counts the instances in some shards by reading their rows; answers whether nothing
    /// changed meanwhile, so that the count holds.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn count_instances(
        &self,
        counts: impl Fn(Shard) -> bool + Send,
    ) -> Result<bool, DirectoryError> {
        let mark = self.inner.instances.count.mark();
        let mut count = 0;
        for account in self.accounts().await? {
            let partition = number(account.id.get());
            let mut after: Option<Vec<u8>> = None;
            loop {
                let after_key = after.as_deref();
                let rows =
                    self.store()
                        .rows(Table::Instances, &partition, after_key, SCAN_ROWS, false);
                let rows = rows.await?;
                let ids = rows.iter().filter_map(|row| read_number(&row.key.sort));
                let here = ids
                    .filter_map(InstanceId::new)
                    .filter(|id| counts(id.shard()));
                count += here.count() as u64;
                match rows.into_iter().next_back() {
                    Some(last) => after = Some(last.key.sort),
                    None => break,
                }
            }
        }
        Ok(self.inner.instances.count.counted(mark, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_during_which_something_changed_is_void() {
        let count = InstanceCount::default();
        let mark = count.mark();

        count.made();

        assert!(!count.counted(mark, 0));
        assert_eq!(count.exist.load(Ordering::Acquire), 1);
        assert!(count.counted(count.mark(), 7));
        count.deleted();
        assert_eq!(count.exist.load(Ordering::Acquire), 6);
    }
}
