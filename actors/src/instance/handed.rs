//! What an instance hands to the next owner of its shard beside what is stored: where its pace
//! stands.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use zajil_model::id::{Epoch, InstanceId, Shard};
use zajil_model::pace::PaceHanded;
use zajil_model::time::Mono;

use crate::instance::InstanceState;
use crate::instance::requests::answer;

/// What one instance hands over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// Which instance.
    pub instance: InstanceId,
    /// Where its pace stands.
    pub pace: PaceHanded,
}

/// What former owners handed over, until the actors begin that it is for.
#[derive(Debug, Default)]
pub struct Arrivals(Mutex<FxHashMap<InstanceId, Arrived>>);

/// What was handed over, for the owner of which epoch, and when it was heard of.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) handed: Handed,
    pub(crate) at: Mono,
    epoch: Epoch,
}

impl Arrivals {
    /// A former owner handed instances over to the owner of an epoch.
    pub(crate) fn arrived(&self, all: Vec<Handed>, epoch: Epoch, at: Mono) {
        let arrived = |handed: Handed| (handed.instance, Arrived { handed, at, epoch });
        self.0.lock().extend(all.into_iter().map(arrived));
    }

    /// What was handed over to the first actor of an instance in an epoch. It holds for that one
    /// alone: what happened since is in the store.
    pub(crate) fn take(&self, instance: InstanceId, epoch: Option<Epoch>) -> Option<Arrived> {
        let arrived = self.0.lock().remove(&instance);
        arrived.filter(|arrived| Some(arrived.epoch) == epoch)
    }

    /// A shard is not held any more.
    pub(crate) fn forget(&self, shard: Shard) {
        self.0
            .lock()
            .retain(|instance, _| instance.shard() != shard);
    }
}

impl InstanceState {
    /// Tells who gives the shard away that no frame is waited for. The session is closed then: the next owner opens one, and a channel has one at a time.
    pub(super) fn tell_if_quiet(&mut self) {
        if self.upkeep.quiet.is_empty() || !self.outbox.is_quiet() {
            return;
        }
        self.session.close(&self.me);
        let handed = Handed {
            instance: self.me.id(),
            pace: self.outbox.pace.handed(self.me.mono()),
        };
        for reply in self.upkeep.quiet.drain(..) {
            answer(reply, handed.clone());
        }
    }
}
