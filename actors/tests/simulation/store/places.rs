//! Where the calls of a log are: the projection in memory numbers its records from 1 on, and the feed
//! is told by places that are in order of time over all shards.

use zajil_model::id::AccountId;
use zajil_storage::{Cursor, MemoryStore, Store as _};

use super::held::now;

/// How far the records of one call are apart in its place.
const RECORD: u32 = 1 << 16;

/// Each call: the first record of the projection that it made, and its place; both rise.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(u64, u64)>);

impl Places {
    /// The call at this place is applied next.
    pub(super) fn begin(&mut self, place: u64, projection: &MemoryStore) {
        let nobody = AccountId::new(1).expect("it is an id that can be");
        let page = now(projection.changes(nobody, None, 0));
        let next = page.expect("a store in memory can be read").upto.record;
        self.0.push((next, place));
    }

    /// The place of a change that the projection tells of.
    pub(super) fn place(&self, at: Cursor) -> Cursor {
        let after = self.0.partition_point(|(first, _)| *first <= at.record);
        let (first, place) = self.0[after - 1];
        let records = (at.record - first) as u32;
        assert!(at.within < RECORD, "a record of a world is small");
        Cursor {
            record: place,
            within: records * RECORD + at.within,
        }
    }

    /// Where the projection has what is at a place, or after it.
    pub(super) fn record(&self, at: Cursor) -> Cursor {
        let next = self.0.partition_point(|(_, place)| *place < at.record);
        let (record, within) = match self.0.get(next) {
            Some((first, place)) if *place == at.record => {
                (first + u64::from(at.within / RECORD), at.within % RECORD)
            }
            Some((first, _)) => (*first, 0),
            None => (u64::MAX, 0),
        };
        Cursor { record, within }
    }
}
