//! Who owns what, as this node knows it, and what it may do by its lease.
//!
//! Everybody in a node reads this one handle: an actor before each frame, the router for each
//! request. So a read is an atomic, or a lock that is held for a few instructions. It is written by
//! few: the lease by who renews it, places by who reconciles, and hints by who was told "not mine".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::sync::Notify;
use zajil_model::id::{Epoch, SHARDS, Shard};
use zajil_model::lease::leave::may_leave;
use zajil_model::lease::{Lease, NodeId};
use zajil_model::time::Mono;

mod changes;

pub use changes::Changed;

use changes::Changes;

/// Who owns a shard, as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This node, under this epoch.
    Here(Epoch),
    /// Another node, under this epoch.
    There(NodeId, Epoch),
    /// It is on its way between two owners: wait for [`Ownership::changed`].
    Moving,
    /// Nobody, as far as this node knows.
    Nobody,
}

/// What this node knows of shards and may do by its lease. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Ownership(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Alone(Lease),
    Shared(Shared),
}

#[derive(Debug)]
struct Shared {
    me: NodeId,
    /// How many shards there are.
    count: u16,
    /// When sending stops, in nanoseconds of this node's clock; 0 is now.
    send_until: AtomicU64,
    shards: RwLock<Box<[Known]>>,
    nodes: RwLock<BTreeSet<NodeId>>,
    changes: Changes,
    /// Somebody could not reach an owner that is named here.
    doubts: Notify,
}

/// What is known of one shard. `epoch` is the highest that was heard of; the one that is held
/// while it is held.
#[derive(Clone, Copy, Debug)]
struct Known {
    epoch: Epoch,
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Nobody,
    Moving,
    There(NodeId),
    Opening,
    Here,
    /// Served, but for frames: it is about to be closed.
    Leaving,
    Closing,
}

impl Known {
    const fn held(&self) -> Option<Epoch> {
        match self.at {
            At::Opening | At::Here | At::Leaving | At::Closing => Some(self.epoch),
            At::Nobody | At::Moving | At::There(_) => None,
        }
    }

    /// The epoch under which frames may leave.
    const fn sends(&self) -> Option<Epoch> {
        match self.at {
            At::Opening | At::Here => Some(self.epoch),
            At::Leaving | At::Closing | At::Nobody | At::Moving | At::There(_) => None,
        }
    }

    const fn place(&self) -> Place {
        match self.at {
            At::Here | At::Leaving => Place::Here(self.epoch),
            At::There(node) => Place::There(node, self.epoch),
            At::Moving | At::Opening | At::Closing => Place::Moving,
            At::Nobody => Place::Nobody,
        }
    }
}

impl Ownership {
    /// A node by itself: it holds the lock on its data folder, or it would not run.
    pub fn alone() -> Self {
        Self(Arc::new(Inner::Alone(Lease::local())))
    }

    /// A node of a cluster: it owns nothing and may not send before it joined.
    pub fn shared(me: NodeId) -> Self {
        Self::of_shards(me, SHARDS)
    }

    /// The same, of a cluster that has only the first so many shards, as tests have.
    pub fn of_shards(me: NodeId, count: u16) -> Self {
        let nobody = Known {
            epoch: Epoch(0),
            at: At::Nobody,
        };
        Self(Arc::new(Inner::Shared(Shared {
            me,
            count,
            send_until: AtomicU64::new(0),
            shards: RwLock::new(vec![nobody; usize::from(SHARDS)].into()),
            nodes: RwLock::default(),
            changes: Changes::default(),
            doubts: Notify::new(),
        })))
    }

    /// Whether this node needs no others.
    pub fn is_alone(&self) -> bool {
        self.cluster().is_none()
    }

    /// This node's name; a node alone is number 0.
    pub fn me(&self) -> NodeId {
        self.cluster().map_or(NodeId(0), |shared| shared.me)
    }

    /// Whether frames may leave now. Asked before each one.
    pub fn may_send(&self, now: Mono) -> bool {
        match &*self.0 {
            Inner::Alone(lease) => lease.may_send(now),
            Inner::Shared(shared) => now < shared.send_until(),
        }
    }

    /// Whether frames of a shard may leave now under the epoch in which it was opened: also false
    /// when the lease is good again but is one of a later life of this node, and for a shard that is
    /// about to go to another one.
    pub fn may_send_for(&self, shard: Shard, epoch: Epoch, now: Mono) -> bool {
        self.may_leave(epoch, now, |shared| shared.known(shard).sends())
    }

    /// Whether what became durable under an epoch may be answered: nobody can have taken the shard
    /// before.
    pub fn may_answer_for(&self, shard: Shard, epoch: Epoch, now: Mono) -> bool {
        self.may_leave(epoch, now, |shared| shared.known(shard).held())
    }

    fn may_leave(
        &self,
        epoch: Epoch,
        now: Mono,
        held: impl FnOnce(&Shared) -> Option<Epoch>,
    ) -> bool {
        match &*self.0 {
            Inner::Alone(lease) => lease.may_send(now),
            Inner::Shared(shared) => {
                may_leave(shared.send_until(), now, held(shared), Some(epoch)).is_ok()
            }
        }
    }

    /// Whether a shard is about to go to another node: it is served, and nothing new is begun that
    /// the next owner would have to end.
    pub fn is_leaving(&self, shard: Shard) -> bool {
        let leaving = |shared: &Shared| matches!(shared.known(shard).at, At::Leaving | At::Closing);
        self.cluster().is_some_and(leaving)
    }

    /// The owner that is named here does not answer: the rows are looked at soon.
    pub fn doubt(&self) {
        if let Some(shared) = self.cluster() {
            shared.doubts.notify_one();
        }
    }

    /// Whether this node owns a shard and serves it.
    pub fn owns(&self, shard: Shard) -> bool {
        matches!(self.place(shard), Place::Here(_))
    }

    /// Who owns a shard. A node alone has no epochs of ownership and answers 0.
    pub fn place(&self, shard: Shard) -> Place {
        let Some(shared) = self.cluster() else {
            return Place::Here(Epoch(0));
        };
        shared.known(shard).place()
    }

    /// The epoch under which this node holds a shard, opening and closing included; `None` when it
    /// does not, and for a node alone, whose store counts its own.
    pub fn epoch(&self, shard: Shard) -> Option<Epoch> {
        self.cluster()?.known(shard).held()
    }

    /// The highest epoch of a shard that this node heard of.
    pub fn newest_epoch(&self, shard: Shard) -> Epoch {
        self.cluster()
            .map_or(Epoch(0), |shared| shared.known(shard).epoch)
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.cluster().map_or(SHARDS, |shared| shared.count)
    }

    /// How many shards this node owns and serves.
    pub fn owned(&self) -> u16 {
        let Some(shared) = self.cluster() else {
            return SHARDS;
        };
        let shards = shared.shards.read();
        // There are fewer than 2^16 shards.
        shards
            .iter()
            .filter(|known| matches!(known.place(), Place::Here(_)))
            .count() as u16
    }

    /// What tells that a place changed, from now on.
    pub fn changed(&self) -> Changed {
        Changed::new(self)
    }

    /// The nodes whose lease row was not dead when it was last read, this one included. For what
    /// must not miss one that just joined, ask [`Cluster::lease_rows`](crate::Cluster::lease_rows).
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        match self.cluster() {
            Some(shared) => shared.nodes.read().clone(),
            None => BTreeSet::from([self.me()]),
        }
    }

    /// Another node told who owns a shard. It is a hint: what is held here, or known under as high
    /// an epoch, stays.
    pub fn learn(&self, shard: Shard, owner: Option<NodeId>, epoch: Epoch) {
        self.saw(shard, owner, epoch);
    }

    fn cluster(&self) -> Option<&Shared> {
        match &*self.0 {
            Inner::Alone(_) => None,
            Inner::Shared(shared) => Some(shared),
        }
    }
}

/// What the shells of this crate write.
impl Ownership {
    /// The lease is good for sending until then.
    pub(crate) fn lease(&self, lease: &Lease) {
        if let Some(shared) = self.cluster() {
            let until = lease.send_until().as_nanos();
            shared.send_until.store(until, Ordering::Release);
        }
    }

    /// The nodes with a live lease row.
    pub(crate) fn set_nodes(&self, nodes: BTreeSet<NodeId>) {
        if let Some(shared) = self.cluster() {
            *shared.nodes.write() = nodes;
        }
    }

    /// A row, or a peer, names the owner of a shard; `None` is on its way.
    pub(crate) fn saw(&self, shard: Shard, owner: Option<NodeId>, epoch: Epoch) {
        let me = self.me();
        self.change(shard, |known| {
            let at = owner
                .filter(|owner| *owner != me)
                .map_or(At::Moving, At::There);
            if known.held().is_none() && epoch > known.epoch {
                *known = Known { epoch, at };
            }
        });
    }

    /// The owner of a shard under this epoch is gone, and nobody took it yet.
    pub(crate) fn orphaned(&self, shard: Shard, epoch: Epoch) {
        self.change(shard, |known| {
            if known.held().is_none() && epoch >= known.epoch {
                let at = At::Moving;
                *known = Known { epoch, at };
            }
        });
    }

    /// The shard is this node's by its row and is being opened.
    pub(crate) fn opening(&self, shard: Shard, epoch: Epoch) {
        let at = At::Opening;
        self.change(shard, |known| *known = Known { epoch, at });
    }

    /// The shard is open. False when it was lost meanwhile.
    pub(crate) fn opened(&self, shard: Shard, epoch: Epoch) -> bool {
        self.turn(shard, epoch, At::Here)
    }

    /// The shard is served on, and no frame of it leaves any more.
    pub(crate) fn leaving(&self, shard: Shard, epoch: Epoch) -> bool {
        self.turn(shard, epoch, At::Leaving)
    }

    /// Waits until somebody [doubts](Self::doubt) what is known.
    pub(crate) async fn doubted(&self) {
        match self.cluster() {
            Some(shared) => shared.doubts.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The shard is being closed; it is held until [`Self::dropped`].
    pub(crate) fn closing(&self, shard: Shard, epoch: Epoch) -> bool {
        self.turn(shard, epoch, At::Closing)
    }

    /// The shard is no longer held under this epoch. False when it was not.
    pub(crate) fn dropped(&self, shard: Shard, epoch: Epoch) -> bool {
        self.turn(shard, epoch, At::Moving)
    }

    /// What is held, with its epochs.
    pub(crate) fn held(&self) -> BTreeMap<Shard, Epoch> {
        let Some(shared) = self.cluster() else {
            return BTreeMap::new();
        };
        let shards = shared.shards.read();
        Shard::all()
            .zip(shards.iter())
            .filter_map(|(shard, known)| Some((shard, known.held()?)))
            .collect()
    }

    /// Where the first so many shards are, for a page about it.
    pub(crate) fn places(&self, shards: u16) -> Vec<Place> {
        let Some(shared) = self.cluster() else {
            return vec![Place::Here(Epoch(0)); usize::from(shards)];
        };
        let known = shared.shards.read();
        known
            .iter()
            .take(usize::from(shards))
            .map(Known::place)
            .collect()
    }

    fn turn(&self, shard: Shard, epoch: Epoch, at: At) -> bool {
        let mut turned = false;
        self.change(shard, |known| {
            turned = known.held() == Some(epoch);
            if turned {
                known.at = at;
            }
        });
        turned
    }

    fn change(&self, shard: Shard, change: impl FnOnce(&mut Known)) {
        let Some(shared) = self.cluster() else {
            return;
        };
        let changed = {
            let mut shards = shared.shards.write();
            let known = &mut shards[usize::from(shard.number())];
            let before = (known.epoch, known.at);
            change(known);
            before != (known.epoch, known.at)
        };
        if changed {
            shared.changes.another();
        }
    }
}

impl Shared {
    fn send_until(&self) -> Mono {
        Mono::from_nanos(self.send_until.load(Ordering::Acquire))
    }

    fn known(&self, shard: Shard) -> Known {
        self.shards.read()[usize::from(shard.number())]
    }
}

#[cfg(test)]
mod tests;
