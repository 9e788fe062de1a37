//! The schedule: messages that wait for their time, by instance and due time.
//!
//! An entry names a chunk and which of its messages are due then, so that a bulk of a hundred
//! with one `send_at` is one entry.

use std::collections::BTreeMap;

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::lifecycle::{MessageState, Status};
use zajil_model::time::Timestamp;

use super::apply::Applier;
use super::block::Slot;
use super::bodies::ChunkSource;
use super::key::{self, QueueKey};
use crate::StoreError;
use crate::codec::varint::{self, Reader};
use crate::kv::{Kv, Space};

/// The form below; a reader refuses others.
const VERSION: u8 = 1;

/// Packs places in a chunk (ascending) as runs.
pub(crate) fn encode(places: &[u32]) -> Vec<u8> {
    let mut out = vec![VERSION];
    let mut from = 0;
    for run in places.chunk_by(|a, b| a + 1 == *b) {
        varint::put(&mut out, u64::from(run[0] - from));
        varint::put(&mut out, run.len() as u64);
        from = run[0];
    }
    out
}

/// Reads places back.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<u32>, StoreError> {
    let mut reader = Reader::new("schedule", bytes);
    if reader.byte()? != VERSION {
        return Err(reader.fault("unknown version"));
    }
    let mut places = Vec::new();
    let mut from = 0_u32;
    while !reader.is_empty() {
        from = from.wrapping_add(reader.small()?);
        places.extend(from..from.saturating_add(reader.small()?));
    }
    Ok(places)
}

/// When a message is due, if it waits for that.
fn due_of(state: &MessageState) -> Option<Timestamp> {
    state.next_at.filter(|_| state.status == Status::Scheduled)
}

fn place_of(chunk: MessageId, id: MessageId) -> u32 {
    (id.tick().0 - chunk.tick().0) as u32
}

impl<K: Kv, C: ChunkSource> Applier<'_, K, C> {
    /// Enters the messages of a new chunk that wait for their time.
    pub(super) fn schedule_accepted(
        &mut self,
        queue: QueueKey,
        slot: &Slot,
    ) -> Result<(), StoreError> {
        let Some(states) = &slot.states else {
            return Ok(());
        };
        let mut dues: BTreeMap<Timestamp, Vec<u32>> = BTreeMap::new();
        for (place, due) in states.iter().map(due_of).enumerate() {
            if let Some(due) = due {
                dues.entry(due).or_default().push(place as u32);
            }
        }
        for (due, places) in dues {
            let key = key::due(queue.instance, due, slot.first);
            self.state.overlay.put(key, Some(encode(&places)));
            self.state.enters_schedule(queue.instance, due);
        }
        Ok(())
    }

    /// Moves a message in the schedule, into it or out of it, as its state changed.
    pub(super) fn reschedule(
        &mut self,
        instance: InstanceId,
        chunk: MessageId,
        id: MessageId,
        before: MessageState,
        after: MessageState,
    ) -> Result<(), StoreError> {
        let (old, new) = (due_of(&before), due_of(&after));
        if old == new {
            return Ok(());
        }
        if let Some(due) = old {
            self.unschedule(instance, due, chunk, id)?;
        }
        let Some(due) = new else { return Ok(()) };
        let place = place_of(chunk, id);
        self.state.enters_schedule(instance, due);
        self.places(instance, due, chunk, |places| {
            if let Err(at) = places.binary_search(&place) {
                places.insert(at, place);
            }
        })
    }

    /// Takes a message out of the schedule.
    pub(super) fn unschedule(
        &mut self,
        instance: InstanceId,
        due: Timestamp,
        chunk: MessageId,
        id: MessageId,
    ) -> Result<(), StoreError> {
        let place = place_of(chunk, id);
        self.places(instance, due, chunk, |places| {
            places.retain(|known| *known != place)
        })
    }

    fn places(
        &mut self,
        instance: InstanceId,
        due: Timestamp,
        chunk: MessageId,
        change: impl FnOnce(&mut Vec<u32>),
    ) -> Result<(), StoreError> {
        let key = key::due(instance, due, chunk);
        let known = match self.state.overlay.get(&key) {
            Some(known) => known.cloned(),
            None => self.unlocked(|kv| kv.get(Space::Main, &key))?,
        };
        let mut places = known
            .map(|known| decode(&known))
            .transpose()?
            .unwrap_or_default();
        change(&mut places);
        let value = (!places.is_empty()).then(|| encode(&places));
        self.state.overlay.put(key, value);
        Ok(())
    }
}
