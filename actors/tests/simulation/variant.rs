//! What is taken away, to see that the checks notice.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use zajil_actors::owners::StoreRows;
use zajil_cluster::membership::Membership;
use zajil_cluster::{Cas, Member, Rows, RowsError};
use zajil_model::id::Shard;
use zajil_model::lease::shard::ShardRow;
use zajil_model::lease::{NodeId, NodeRow, NodeState, RENEWAL_TIMEOUT};
use zajil_model::time::Timestamp;

/// See above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Nothing.
    #[default]
    Whole,
    /// A node takes what belongs to one that gossip does not hear.
    GossipDecides,
    /// Nobody seals the log of the owner before.
    NoSeal,
    /// A node that hears nothing of its renewal takes it for granted: it sends without a lease.
    NoLeaseCheck,
}

/// The rows that decide, as a node of a variant believes them to be.
#[derive(Debug)]
pub(crate) struct VariantRows {
    pub(crate) inner: StoreRows,
    pub(crate) node: NodeId,
    pub(crate) variant: Variant,
    pub(crate) membership: Arc<dyn Membership>,
}

#[async_trait]
impl Rows for VariantRows {
    async fn read_lease(&self, node: NodeId) -> Result<Option<NodeRow>, RowsError> {
        let row = self.inner.read_lease(node).await?;
        let unheard = self.variant == Variant::GossipDecides
            && node != self.node
            && self.membership.peers().get(node).is_none();
        Ok(row.map(|row| NodeRow {
            state: if unheard { NodeState::Dead } else { row.state },
            ..row
        }))
    }

    async fn cas_lease(
        &self,
        node: NodeId,
        before: Option<NodeRow>,
        after: NodeRow,
    ) -> Cas<NodeRow> {
        let renews = node == self.node && after.state != NodeState::Dead && before.is_some();
        if self.variant == Variant::NoLeaseCheck && renews {
            let within = RENEWAL_TIMEOUT - Duration::from_millis(100);
            let asked = self.inner.cas_lease(node, before, after);
            return match timeout(within, asked).await {
                Ok(Cas::Unknown(_)) | Err(_) => Cas::Applied,
                Ok(known) => known,
            };
        }
        self.inner.cas_lease(node, before, after).await
    }

    async fn members(&self) -> Result<Vec<Member>, RowsError> {
        self.inner.members().await
    }

    async fn add_member(&self, member: Member) -> Result<(), RowsError> {
        self.inner.add_member(member).await
    }

    async fn shard_rows(&self) -> Result<Vec<(Shard, ShardRow)>, RowsError> {
        self.inner.shard_rows().await
    }

    async fn read_shard(&self, shard: Shard) -> Result<Option<ShardRow>, RowsError> {
        self.inner.read_shard(shard).await
    }

    async fn cas_shard(
        &self,
        shard: Shard,
        before: Option<ShardRow>,
        after: ShardRow,
    ) -> Cas<ShardRow> {
        self.inner.cas_shard(shard, before, after).await
    }

    async fn clock(&self) -> Result<Timestamp, RowsError> {
        self.inner.clock().await
    }
}
