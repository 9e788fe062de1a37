//! The change feed over the shards of one process, by the rules of the CQL store.

use std::sync::Arc;

use async_trait::async_trait;
use zajil_model::id::{AccountId, Shard};
use zajil_model::time::Clock as _;
use zajil_storage::cql::LogClock;
use zajil_storage::cql::feed::{Question, Telling, merged};
use zajil_storage::{ChangePage, Cursor, StatusChange, StoreError};

use super::NodeStore;
use super::held::Held;

/// A shard that is held, and by whom.
struct Told<'a> {
    store: &'a NodeStore,
    shard: Shard,
    held: Arc<Held>,
}

#[async_trait]
impl Telling for Told<'_> {
    fn log(&self) -> &LogClock {
        &self.held.log
    }

    fn tells(&self, account: AccountId) -> bool {
        self.held.tells(account)
    }

    async fn raise_log(&self) -> Result<(), StoreError> {
        self.store.raise_log(self.shard, &self.held).await
    }

    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, StatusChange)>, StoreError> {
        self.store.cold().await?;
        self.held.changes(account, after, limit)
    }
}

impl NodeStore {
    /// Changes of an account from a place on.
    pub(super) async fn changes_of(&self, question: Question) -> Result<ChangePage, StoreError> {
        let shards: Vec<Told<'_>> = {
            let shards = self.0.shards.lock();
            let held = |(shard, held): (&Shard, &Arc<Held>)| Told {
                store: self,
                shard: *shard,
                held: Arc::clone(held),
            };
            shards.iter().map(held).collect()
        };
        let now = self.0.clock.now();
        merged(&shards, (&self.0.told, now), question).await
    }
}
