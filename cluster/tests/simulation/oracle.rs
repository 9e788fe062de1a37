//! What must hold, looked at from outside: it knows every process, and asks none what it thinks of
//! the others.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use zajil_model::id::{Epoch, MessageId, Shard};
use zajil_model::lease::NodeId;
use zajil_model::lease::shard::ShardRow;

use crate::rare::{Rare, Reached};
use crate::worker::Worker;

/// Names a process: two may run under the name of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProcessId(pub(crate) u32);

#[derive(Debug)]
pub(crate) struct Oracle {
    zero: Instant,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    running: BTreeMap<ProcessId, Arc<Worker>>,
    acked: BTreeMap<Shard, BTreeSet<MessageId>>,
    views: BTreeMap<(Shard, Epoch), BTreeSet<MessageId>>,
    wrong: Option<String>,
    reached: Reached,
    trace: DefaultHasher,
    sends: u64,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) wrong: Option<String>,
    pub(crate) reached: Reached,
    pub(crate) trace: u64,
    pub(crate) sends: u64,
    pub(crate) acked: u64,
}

impl Oracle {
    pub(crate) fn new(zero: Instant) -> Arc<Self> {
        let inside = Mutex::default();
        Arc::new(Self { zero, inside })
    }

    pub(crate) fn begins(&self, id: ProcessId, worker: Arc<Worker>) {
        self.inside.lock().running.insert(id, worker);
    }

    pub(crate) fn ends(&self, id: ProcessId) {
        self.inside.lock().running.remove(&id);
    }

    pub(crate) fn reached(&self, rare: Rare) {
        self.inside.lock().reached.note(rare);
    }

    pub(crate) fn wrong(&self, what: &str) {
        let at = Instant::now().duration_since(self.zero);
        let mut inside = self.inside.lock();
        inside
            .wrong
            .get_or_insert_with(|| format!("at {at:?}: {what}"));
    }

    pub(crate) fn is_wrong(&self) -> bool {
        self.inside.lock().wrong.is_some()
    }

    /// A process is about to hand a frame over: nobody else may be able to.
    pub(crate) fn sends(&self, id: ProcessId, shard: Shard, epoch: Epoch) {
        self.traced(&("send", id, shard, epoch));
        self.inside.lock().sends += 1;
        for other in self
            .who_can_send(shard)
            .into_iter()
            .filter(|other| *other != id)
        {
            self.wrong(&format!(
                "{id:?} sends for shard {shard} in {epoch:?}, and {other:?} can"
            ));
        }
    }

    /// The row of a shard changed: its epoch grows, and nobody can send for it at that moment.
    pub(crate) fn row_changed(&self, shard: Shard, before: Option<ShardRow>, after: ShardRow) {
        self.traced(&(
            "row",
            shard,
            after.epoch,
            after.owner.map(|owner| owner.node),
        ));
        let epoch = before.map_or(Epoch(0), |row| row.epoch);
        if after.epoch != epoch.next() {
            self.wrong(&format!(
                "shard {shard} goes from {epoch:?} to {:?}",
                after.epoch
            ));
        }
        for id in self.who_can_send(shard) {
            self.wrong(&format!(
                "shard {shard} gets {after:?} while {id:?} can send"
            ));
        }
        if let (Some(next), Some(owner)) = (before.and_then(|row| row.next), after.owner)
            && owner.node != next
        {
            self.reached(Rare::TakenByAnother);
        }
    }

    /// Whether a living process that served shards runs as a node that was declared dead.
    pub(crate) fn declared_dead(&self, node: NodeId) {
        let serves = |worker: &Arc<Worker>| worker.node() == node && worker.serves() > 0;
        let served = self.inside.lock().running.values().any(serves);
        if served {
            self.reached(Rare::FencedWhileServing);
        }
    }

    /// An append was answered as durable.
    pub(crate) fn acked(&self, shard: Shard, id: MessageId) {
        self.inside
            .lock()
            .acked
            .entry(shard)
            .or_default()
            .insert(id);
    }

    /// A new owner read the log of its predecessors: everything that was acked is there, and what
    /// an owner before it saw of earlier epochs is what this one sees.
    pub(crate) fn read(&self, shard: Shard, epoch: Epoch, view: &BTreeSet<MessageId>) {
        let mut inside = self.inside.lock();
        let acked = inside.acked.get(&shard).cloned().unwrap_or_default();
        inside.views.insert((shard, epoch), view.clone());
        drop(inside);
        if let Some(lost) = acked.difference(view).next() {
            self.wrong(&format!(
                "{lost} was acked, and the owner of shard {shard} in {epoch:?} misses it"
            ));
        }
    }

    /// What counts in a log now: for every owner, of the epochs before its own, what it read.
    pub(crate) fn compare(&self, shard: Shard, valid: &[(Epoch, MessageId)]) {
        let views = self.inside.lock().views.clone();
        let of_shard = views.iter().filter(|((of, _), _)| *of == shard);
        for ((_, epoch), view) in of_shard {
            let before = valid.iter().filter(|(of, _)| of < epoch).map(|(_, id)| *id);
            let now: BTreeSet<MessageId> = before.collect();
            if now != *view {
                let differs = now.symmetric_difference(view).next();
                self.wrong(&format!(
                    "the owner of shard {shard} in {epoch:?} did not see what counts now: {differs:?}"
                ));
            }
        }
    }

    pub(crate) fn traced(&self, what: &impl Hash) {
        let at = Instant::now().duration_since(self.zero);
        let mut inside = self.inside.lock();
        at.hash(&mut inside.trace);
        what.hash(&mut inside.trace);
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let inside = self.inside.lock();
        Verdict {
            wrong: inside.wrong.clone(),
            reached: inside.reached.clone(),
            trace: inside.trace.finish(),
            sends: inside.sends,
            acked: inside.acked.values().map(|ids| ids.len() as u64).sum(),
        }
    }

    fn who_can_send(&self, shard: Shard) -> Vec<ProcessId> {
        let running = self.inside.lock().running.clone();
        let can = running
            .into_iter()
            .filter(|(_, worker)| worker.can_send(shard).is_some());
        can.map(|(id, _)| id).collect()
    }
}
