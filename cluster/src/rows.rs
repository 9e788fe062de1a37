//! The port to the store, as far as ownership needs it: lease rows, shard rows, members.
//!
//! All of them are changed by compare-and-set of whole rows and read at serial consistency. Every
//! answer may be late, and the outcome of a change may stay unknown.

use std::fmt;
use std::net::SocketAddr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zajil_model::id::Shard;
use zajil_model::lease::shard::ShardRow;
use zajil_model::lease::{NodeId, NodeRow};
use zajil_model::time::Timestamp;

/// The rows that decide who owns what.
#[async_trait]
pub trait Rows: Send + Sync + fmt::Debug {
    /// The lease row of a node.
    ///
    /// # Errors
    /// The store did not answer.
    async fn read_lease(&self, node: NodeId) -> Result<Option<NodeRow>, RowsError>;

    /// Changes the lease row of a node from `before` (`None` is no row) to `after`.
    async fn cas_lease(
        &self,
        node: NodeId,
        before: Option<NodeRow>,
        after: NodeRow,
    ) -> Cas<NodeRow>;

    /// Every node that ever joined.
    ///
    /// # Errors
    /// The store did not answer.
    async fn members(&self) -> Result<Vec<Member>, RowsError>;

    /// Writes down a node, or its new addresses.
    ///
    /// # Errors
    /// It is not known to be written.
    async fn add_member(&self, member: Member) -> Result<(), RowsError>;

    /// The rows of all shards that have one.
    ///
    /// # Errors
    /// The store did not answer.
    async fn shard_rows(&self) -> Result<Vec<(Shard, ShardRow)>, RowsError>;

    /// The row of one shard.
    ///
    /// # Errors
    /// The store did not answer.
    async fn read_shard(&self, shard: Shard) -> Result<Option<ShardRow>, RowsError>;

    /// Changes the row of a shard from `before` (`None` is no row) to `after`.
    async fn cas_shard(
        &self,
        shard: Shard,
        before: Option<ShardRow>,
        after: ShardRow,
    ) -> Cas<ShardRow>;

    /// The wall clock of the store.
    ///
    /// # Errors
    /// The store did not answer.
    async fn clock(&self) -> Result<Timestamp, RowsError>;
}

/// What became of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cas<T> {
    /// The row is as asked for.
    Applied,
    /// The row was another one, this.
    Conflict(Option<T>),
    /// It may have been applied, may be later, or never.
    Unknown(RowsError),
}

/// The store did not answer, or not in a way that can be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing}: {why}")]
pub struct RowsError {
    /// What was asked for.
    pub doing: &'static str,
    /// What came back.
    pub why: String,
}

impl RowsError {
    /// Nothing came back in time.
    pub fn timeout(doing: &'static str) -> Self {
        let why = "the store did not answer in time".to_owned();
        Self { doing, why }
    }
}

/// Where a node is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub node: NodeId,
    /// Where its link listens.
    pub link: SocketAddr,
    /// Where its API listens, where it says so.
    pub api: Option<SocketAddr>,
}
