//! What an export reads: a store that nobody writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use zajil_model::id::{AccountId, MessageId, Shard, Tick};

use crate::kv::Kv;
use crate::projection::Projection;
use crate::projection::bodies::ChunkSource;
use crate::projection::feed::Placed;
use crate::projection::key::QueueKey;
use crate::query::Cursor;
use crate::row::Row;
use crate::{QueuedChunk, StoreError};

/// Takes rows one by one.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(Row) -> Result<(), StoreError>;

/// Where all rows are.
pub(crate) trait AllRows: Send + Sync + fmt::Debug {
    /// Visits every row, those of a partition in a row.
    fn each(&self, visit: Visit<'_>) -> Result<(), StoreError>;
}

/// A projection: of everything, or of one shard.
pub(crate) trait Part: Send + Sync + fmt::Debug {
    /// Every queue that holds something, or did.
    fn queues(&self) -> Result<BTreeSet<QueueKey>, StoreError>;

    /// Every chunk of a queue, in the order of acceptance, after an id: so many messages and bytes,
    /// and where to go on.
    fn chunks(
        &self,
        queue: QueueKey,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError>;

    /// Accounts that were told something.
    fn accounts(&self) -> Vec<AccountId>;

    /// What an account was told, from a place on.
    fn told(
        &self,
        account: AccountId,
        from: Cursor,
        limit: usize,
    ) -> Result<Vec<Placed>, StoreError>;

    /// Every record of the log that is projected is before this one.
    fn end(&self) -> u64;
}

impl<K: Kv, C: ChunkSource> Part for Projection<K, C> {
    fn queues(&self) -> Result<BTreeSet<QueueKey>, StoreError> {
        Self::queues(self)
    }

    fn chunks(
        &self,
        queue: QueueKey,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        Self::chunks(self, queue, after, max_messages, max_bytes)
    }

    fn accounts(&self) -> Vec<AccountId> {
        Self::accounts(self)
    }

    fn told(
        &self,
        account: AccountId,
        from: Cursor,
        limit: usize,
    ) -> Result<Vec<Placed>, StoreError> {
        Ok(self.changes(account, Some(from), limit)?.changes)
    }

    fn end(&self) -> u64 {
        self.stands_at().0 + 1
    }
}

/// A store that nobody writes, to be exported: [`MemoryStore::source`](crate::MemoryStore::source),
/// [`EmbeddedStore::source`](crate::EmbeddedStore::source), [`CqlStore::source`](crate::CqlStore::source).
#[derive(Debug)]
pub struct Source {
    /// The kind of store, for people.
    pub(crate) kind: &'static str,
    pub(crate) parts: Vec<Arc<dyn Part>>,
    pub(crate) rows: Arc<dyn AllRows>,
    /// Shards gave no id above these ticks.
    pub(crate) ceilings: BTreeMap<Shard, Tick>,
}

impl<K: Kv, C: ChunkSource> AllRows for Projection<K, C> {
    fn each(&self, visit: Visit<'_>) -> Result<(), StoreError> {
        self.all_rows(visit)
    }
}
