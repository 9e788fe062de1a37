//! The store as one process sees it: the port that the shells are given, and the log.

use std::sync::Arc;

use async_trait::async_trait;
use zajil_cluster::membership::Membership;
use zajil_cluster::{Cas, Member, Rows, RowsError};
use zajil_model::id::{Epoch, MessageId, Shard};
use zajil_model::lease::shard::ShardRow;
use zajil_model::lease::{NodeId, NodeRow, NodeState};
use zajil_model::time::{Clock, Timestamp};

use crate::rare::Rare;
use crate::store::{Lateness, State, Store};

/// The store as one process sees it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) store: Arc<Store>,
    pub(crate) node: NodeId,
    /// For the variant in which gossip decides: whom it does not hear is dead.
    pub(crate) believes: Option<Arc<dyn Membership>>,
}

impl Client {
    async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, RowsError> {
        self.change(doing, |state| (act(state), None)).await
    }

    async fn change<T: Send + 'static>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&mut State) -> (T, Option<Rare>) + Send + 'static,
    ) -> Result<T, RowsError> {
        let answer = self.store.at(self.node, Lateness::Seldom, act).await;
        answer.ok_or_else(|| RowsError::timeout(doing))
    }

    /// Opens the log of a shard in an epoch, reads what counts of the ones before, and seals it.
    pub(crate) async fn open_log(&self, shard: Shard, epoch: Epoch) -> Result<(), RowsError> {
        let fenced = self.ask("open the log", move |state| {
            let log = state.logs.entry(shard).or_default();
            let fenced = epoch < log.epoch;
            log.epoch = log.epoch.max(epoch);
            fenced
        });
        let refused = || RowsError {
            doing: "open the log",
            why: "a later owner was here".to_owned(),
        };
        if fenced.await? {
            return Err(refused());
        }
        let oracle = Arc::clone(&self.store.oracle);
        let tail = self
            .ask("read the log", move |state| {
                state.logs.entry(shard).or_default().valid()
            })
            .await?;
        let seals = self.store.seals;
        let (own, read) = (Arc::clone(&oracle), tail.clone());
        let sealed = self.ask("seal the log", move |state| {
            let log = state.logs.entry(shard).or_default();
            if log.epoch != epoch {
                return false;
            }
            if seals {
                log.seals.seal_below(epoch, read.iter().copied());
            }
            let view = read.iter().filter(|(of, _)| *of < epoch).map(|(_, id)| *id);
            own.read(shard, epoch, &view.collect());
            true
        });
        if sealed.await? {
            Ok(())
        } else {
            Err(refused())
        }
    }

    /// Appends, whoever owns the shard by now. `None`: it may have happened, or will.
    pub(crate) async fn append(&self, shard: Shard, epoch: Epoch, id: MessageId) -> Option<()> {
        let oracle = Arc::clone(&self.store.oracle);
        let append = move |state: &mut State| {
            let log = state.logs.entry(shard).or_default();
            log.entries.insert((epoch, id));
            if log.seals.is_void(epoch, id) {
                oracle.reached(Rare::LateAppend);
            }
            ((), None)
        };
        self.store.at(self.node, Lateness::Often, append).await
    }
}

#[async_trait]
impl Rows for Client {
    async fn read_lease(&self, node: NodeId) -> Result<Option<NodeRow>, RowsError> {
        let row = self
            .ask("read a lease", move |state| {
                state.leases.get(&node).copied()
            })
            .await?;
        let unheard = self
            .believes
            .as_ref()
            .is_some_and(|view| view.peers().get(node).is_none());
        if unheard && node != self.node {
            return Ok(row.map(|row| NodeRow {
                state: NodeState::Dead,
                ..row
            }));
        }
        Ok(row)
    }

    async fn cas_lease(
        &self,
        node: NodeId,
        before: Option<NodeRow>,
        after: NodeRow,
    ) -> Cas<NodeRow> {
        let oracle = Arc::clone(&self.store.oracle);
        let own = node == self.node;
        let change = move |state: &mut State| {
            let current = state.leases.get(&node).copied();
            if current != before {
                return (Err(current), None);
            }
            state.leases.insert(node, after);
            oracle.traced(&("lease", node, after.incarnation, after.sequence));
            if after.state == NodeState::Dead {
                oracle.declared_dead(node);
            }
            (Ok(()), Some(Rare::LostAnswerToRenewal).filter(|_| own))
        };
        match self.change("change a lease", change).await {
            Ok(Ok(())) => Cas::Applied,
            Ok(Err(current)) => {
                if !own {
                    self.store.oracle.reached(Rare::ChallengeRefused);
                }
                Cas::Conflict(current)
            }
            Err(error) => Cas::Unknown(error),
        }
    }

    async fn members(&self) -> Result<Vec<Member>, RowsError> {
        self.ask("read the members", |state| {
            state.members.values().copied().collect()
        })
        .await
    }

    async fn add_member(&self, member: Member) -> Result<(), RowsError> {
        let add = move |state: &mut State| {
            state.members.insert(member.node, member);
        };
        self.ask("add a member", add).await
    }

    async fn shard_rows(&self) -> Result<Vec<(Shard, ShardRow)>, RowsError> {
        let all = |state: &mut State| state.shards.iter().map(|(s, row)| (*s, *row)).collect();
        self.ask("read the shards", all).await
    }

    async fn read_shard(&self, shard: Shard) -> Result<Option<ShardRow>, RowsError> {
        self.ask("read a shard", move |state| {
            state.shards.get(&shard).copied()
        })
        .await
    }

    async fn cas_shard(
        &self,
        shard: Shard,
        before: Option<ShardRow>,
        after: ShardRow,
    ) -> Cas<ShardRow> {
        let oracle = Arc::clone(&self.store.oracle);
        let change = move |state: &mut State| {
            let current = state.shards.get(&shard).copied();
            if current != before {
                return (Err(current), None);
            }
            state.shards.insert(shard, after);
            oracle.row_changed(shard, before, after);
            (Ok(()), Some(Rare::LostAnswerToShard))
        };
        match self.change("change a shard", change).await {
            Ok(Ok(())) => Cas::Applied,
            Ok(Err(current)) => Cas::Conflict(current),
            Err(error) => Cas::Unknown(error),
        }
    }

    async fn clock(&self) -> Result<Timestamp, RowsError> {
        let now = self.store.clock.now();
        self.ask("read the clock", move |_| now).await
    }
}
