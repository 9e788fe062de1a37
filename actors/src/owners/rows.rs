//! The rows that decide who owns what, over the store.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zajil_cluster::{Cas, Member, Rows, RowsError};
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::shard::ShardRow;
use zajil_model::lease::{NodeId, NodeRow, NodeState, RENEW_EVERY, UNCHANGED};
use zajil_model::time::{Clock, Timestamp};
use zajil_storage::{Condition, RowKey, RowWrite, Store, StoreError, Table, Written};

use super::encode;

/// Shard rows that are read together: a scan of all is 64 reads, and few changes meet.
const SHARDS_TOGETHER: u16 = 16;

/// Members that are read at once: more than a cluster has nodes.
const MEMBERS: usize = 1_000;

/// Lease rows, shard rows and members as rows of a store.
#[derive(Debug)]
pub struct StoreRows {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl StoreRows {
    /// The rows of a store that several nodes share.
    pub const fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// The name of the cluster whose store this is: the first node that asks gives it.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn cluster(&self, first: &str) -> Result<String, RowsError> {
        let key = RowKey::new(Table::Members, *b"cluster", []);
        self.agreed("read whose store it is", key, first).await
    }

    /// The authority whose keys the nodes of this store have, by its fingerprint; the first node
    /// that asks names it. While no other node has a lease, the one that starts names another: so keys
    /// are made anew when all nodes are stopped.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn authority(&self, me: NodeId, mine: &str) -> Result<String, RowsError> {
        const DOING: &str = "read whose keys the nodes have";
        let key = RowKey::new(Table::Members, *b"authority", []);
        let named = self.agreed(DOING, key.clone(), mine).await?;
        let others = |(member, _): &(Member, NodeRow)| member.node != me;
        if named == mine || self.leases().await?.iter().any(others) {
            return Ok(named);
        }
        match self.cas(DOING, key, Some(named), mine.to_owned()).await {
            Cas::Applied => Ok(mine.to_owned()),
            Cas::Conflict(named) => Ok(named.unwrap_or_default()),
            Cas::Unknown(error) => Err(error),
        }
    }

    /// What a row says that the first node writes who asks.
    async fn agreed(
        &self,
        doing: &'static str,
        key: RowKey,
        first: &str,
    ) -> Result<String, RowsError> {
        if let Some(named) = self.read(doing, &key).await? {
            return Ok(named);
        }
        match self.cas(doing, key, None, first.to_owned()).await {
            Cas::Applied => Ok(first.to_owned()),
            Cas::Conflict(named) => Ok(named.unwrap_or_default()),
            Cas::Unknown(error) => Err(error),
        }
    }

    /// The leases that nodes did not give back.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn leases(&self) -> Result<Vec<(Member, NodeRow)>, RowsError> {
        let mut held = Vec::new();
        for member in self.members().await? {
            let lease = self.read_lease(member.node).await?;
            let lease = lease.filter(|row| row.state != NodeState::Dead);
            held.extend(lease.map(|lease| (member, lease)));
        }
        Ok(held)
    }

    /// A node of these that renews its lease, if there is one. It takes as long as a node may go
    /// without: one that is gone without a word left a lease, too.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn living(&self, held: &[(Member, NodeRow)]) -> Result<Option<Member>, RowsError> {
        let mut ticks = tokio::time::interval(RENEW_EVERY);
        let since = self.clock.mono();
        while !held.is_empty() && self.clock.mono().since(since) < UNCHANGED {
            ticks.tick().await;
            for (member, seen) in held {
                if self.read_lease(member.node).await?.as_ref() != Some(seen) {
                    return Ok(Some(*member));
                }
            }
        }
        Ok(None)
    }

    async fn read<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        key: &RowKey,
    ) -> Result<Option<T>, RowsError> {
        let row = self.store.row(key).await.map_err(|e| failed(doing, &e))?;
        row.map(|row| decode(doing, &row.value)).transpose()
    }

    async fn cas<T: Serialize + DeserializeOwned>(
        &self,
        doing: &'static str,
        key: RowKey,
        before: Option<T>,
        after: T,
    ) -> Cas<T> {
        let condition = match before {
            Some(before) => Condition::Is(encode(&before).to_vec()),
            None => Condition::Absent,
        };
        let write = RowWrite::put(key, encode(&after).to_vec()).when(condition);
        match self.store.write(vec![write]).await {
            Ok(Written::Applied) => Cas::Applied,
            Ok(Written::Conflict { current: None, .. }) => Cas::Conflict(None),
            Ok(Written::Conflict {
                current: Some(current),
                ..
            }) => match decode(doing, &current) {
                Ok(current) => Cas::Conflict(Some(current)),
                Err(error) => Cas::Unknown(error),
            },
            Err(error) => Cas::Unknown(failed(doing, &error)),
        }
    }
}

/// The rows of shards that nobody owns and that were served once, as an import leaves them: its
/// epoch is the first, and the first owner's is a higher one.
pub fn free_shards() -> Vec<RowWrite> {
    let row = ShardRow {
        owner: None,
        epoch: Epoch(1),
        next: None,
    };
    let value = encode(&row).to_vec();
    let free = |shard| RowWrite::put(shard_key(shard), value.clone());
    Shard::all().map(free).collect()
}

fn failed(doing: &'static str, error: &StoreError) -> RowsError {
    let why = error.to_string();
    RowsError { doing, why }
}

fn decode<T: DeserializeOwned>(doing: &'static str, bytes: &[u8]) -> Result<T, RowsError> {
    rmp_serde::from_slice(bytes).map_err(|error| RowsError {
        doing,
        why: error.to_string(),
    })
}

fn lease_key(node: NodeId) -> RowKey {
    RowKey::new(Table::Leases, node.0.to_be_bytes(), [])
}

fn shard_key(shard: Shard) -> RowKey {
    let number = shard.number();
    let partition = (number / SHARDS_TOGETHER).to_be_bytes();
    RowKey::new(Table::ShardOwners, partition, number.to_be_bytes())
}

#[async_trait]
impl Rows for StoreRows {
    async fn read_lease(&self, node: NodeId) -> Result<Option<NodeRow>, RowsError> {
        self.read("read the lease of a node", &lease_key(node))
            .await
    }

    async fn cas_lease(
        &self,
        node: NodeId,
        before: Option<NodeRow>,
        after: NodeRow,
    ) -> Cas<NodeRow> {
        self.cas("change the lease of a node", lease_key(node), before, after)
            .await
    }

    async fn members(&self) -> Result<Vec<Member>, RowsError> {
        const DOING: &str = "read the members of the cluster";
        let rows = self.store.rows(Table::Members, &[], None, MEMBERS, false);
        let rows = rows.await.map_err(|error| failed(DOING, &error))?;
        rows.iter().map(|row| decode(DOING, &row.value)).collect()
    }

    async fn add_member(&self, member: Member) -> Result<(), RowsError> {
        let key = RowKey::new(Table::Members, [], member.node.0.to_be_bytes());
        let write = RowWrite::put(key, encode(&member).to_vec());
        let written = self.store.write(vec![write]).await;
        written
            .map(|_| ())
            .map_err(|error| failed("write down a member of the cluster", &error))
    }

    async fn shard_rows(&self) -> Result<Vec<(Shard, ShardRow)>, RowsError> {
        const DOING: &str = "read who owns the shards";
        let partitions = 0..zajil_model::id::SHARDS / SHARDS_TOGETHER;
        let reads = partitions.map(|partition| async move {
            let (table, partition) = (Table::ShardOwners, partition.to_be_bytes());
            let limit = usize::from(SHARDS_TOGETHER);
            self.store.rows(table, &partition, None, limit, false).await
        });
        let mut found = Vec::new();
        for rows in futures_util::future::join_all(reads).await {
            for row in rows.map_err(|error| failed(DOING, &error))? {
                let number = row.key.sort.as_slice().try_into().map(u16::from_be_bytes);
                let shard = number.ok().and_then(Shard::new).ok_or_else(|| RowsError {
                    doing: DOING,
                    why: "a row does not name a shard".to_owned(),
                })?;
                found.push((shard, decode(DOING, &row.value)?));
            }
        }
        Ok(found)
    }

    async fn read_shard(&self, shard: Shard) -> Result<Option<ShardRow>, RowsError> {
        self.read("read who owns a shard", &shard_key(shard)).await
    }

    async fn cas_shard(
        &self,
        shard: Shard,
        before: Option<ShardRow>,
        after: ShardRow,
    ) -> Cas<ShardRow> {
        self.cas("change who owns a shard", shard_key(shard), before, after)
            .await
    }

    async fn clock(&self) -> Result<Timestamp, RowsError> {
        let told = self.store.clock().await;
        let told = told.map_err(|error| failed("read the clock of the store", &error))?;
        Ok(told.unwrap_or_else(|| self.clock.now()))
    }
}
