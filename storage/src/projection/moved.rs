//! What came from another store: applied so that everything reads as it did there.

use zajil_model::id::{AccountId, MessageId};
use zajil_model::lifecycle::MessageState;

use super::apply::Applier;
use super::bodies::ChunkSource;
use super::feed::Placed;
use crate::StoreError;
use crate::kv::Kv;

impl<K: Kv, C: ChunkSource> Applier<'_, K, C> {
    /// Takes over what another store knew of a message. One that something happened to here since
    /// is left as it is: that came later.
    pub(super) fn known(&mut self, id: MessageId, known: MessageState) -> Result<(), StoreError> {
        let changed = self.change(id, |state| {
            if !state.status.is_settled() && state.attempts == 0 {
                *state = known;
            }
        });
        changed.map(drop)
    }

    /// Takes over what another store told an account. A place keeps its name as long as the feed
    /// stays in order by it; else the change is told anew, here.
    pub(super) fn told_before(&mut self, account: AccountId, changes: Vec<Placed>) {
        for (place, change) in changes {
            let in_order = self.last_told(account) <= place.record && place.record < self.record();
            let place = if in_order { place } else { self.next_place() };
            self.place(account, place, change);
        }
    }
}
