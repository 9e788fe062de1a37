//! The daily cap: reserved ahead of what is handed over, in a row of its own.
//!
//! The row is written only where it is as this actor saw it last. So nothing that was made before a
//! reservation takes it back, be it of this actor, of one before it or of a former owner: what was
//! handed over under it counts for whoever comes next. One write is on its way at a time.

use serde::{Deserialize, Serialize};
use zajil_model::id::{Epoch, InstanceId};
use zajil_model::instance::Instance;
use zajil_model::pace::{CapWait, DayCap, DaySaved};
use zajil_model::time::Timestamp;
use zajil_storage::{Condition, RowKey, RowWrite, StoreError, Table, Written};

use super::outbox::TRY_AGAIN;
use super::{InstanceMsg, InstanceState};
use crate::context::Context;
use crate::directory::rows::{decode, encode, number};

/// What the row holds: who reserved it tells reservations of two owners apart.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct CapRow {
    day: i32,
    reserved: u64,
    epoch: Epoch,
}

impl CapRow {
    const fn saved(self) -> DaySaved {
        DaySaved {
            day: self.day,
            reserved: self.reserved,
        }
    }
}

/// What remains of the day.
#[derive(Debug)]
pub(super) struct Cap {
    day: Option<DayCap>,
    /// The row as it was last seen.
    seen: Option<Vec<u8>>,
    epoch: Epoch,
    /// Whether it is being written.
    writing: bool,
    until: Option<Timestamp>,
}

/// A reservation that was written, or was not.
#[derive(Debug)]
pub struct CapWritten {
    saved: DaySaved,
    row: Vec<u8>,
    result: Result<Written, StoreError>,
}

fn key(instance: InstanceId) -> RowKey {
    RowKey::new(Table::DayCaps, number(instance.get()), [])
}

fn saved_in(row: Option<&Vec<u8>>) -> Result<Option<DaySaved>, StoreError> {
    let row = row.map(|row| decode::<CapRow>("daily cap", row));
    Ok(row.transpose()?.map(CapRow::saved))
}

impl Cap {
    /// The cap as the last owner left it.
    pub(super) async fn read(
        context: &Context,
        instance: &Instance,
        epoch: Epoch,
    ) -> Result<Self, StoreError> {
        let row = match instance.pace.daily_cap {
            Some(_) => context.store.row(&key(instance.id)).await?,
            // Should it get one, the first reservation finds the row.
            None => None,
        };
        let seen = row.map(|row| row.value);
        let saved = saved_in(seen.as_ref())?;
        Ok(Self {
            day: DayCap::new(&instance.pace, saved, context.clock.now()),
            seen,
            epoch,
            writing: false,
            until: None,
        })
    }

    /// Until when it holds everything back.
    pub(super) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| *until > now)
    }

    /// The cap was changed.
    pub(super) fn set(&mut self, instance: &Instance, now: Timestamp) {
        match (&mut self.day, instance.pace.daily_cap) {
            (Some(day), Some(_)) => day.set(&instance.pace, now),
            (day, _) => *day = DayCap::new(&instance.pace, None, now),
        }
        self.until = None;
    }

    /// Counts one hand-over; false when it has to wait.
    fn take(&mut self, now: Timestamp) -> bool {
        let Some(day) = &mut self.day else {
            return true;
        };
        self.until = match day.take(now) {
            Ok(()) => return true,
            Err(CapWait::Until(until)) => Some(until),
            // The answer to the reservation wakes the actor, long before this wait ends.
            Err(CapWait::Reservation) => Some(now + TRY_AGAIN),
        };
        false
    }

    fn written(&mut self, written: CapWritten) {
        self.writing = false;
        let CapWritten { saved, row, result } = written;
        let found = result.and_then(|written| match written {
            Written::Applied => Ok((Some(row.clone()), None)),
            Written::Conflict { current, .. } => {
                let theirs = saved_in(current.as_ref())?;
                Ok((current, theirs))
            }
        });
        match found {
            Ok((found, theirs)) => {
                let is_ours = found.as_ref() == Some(&row);
                (self.seen, self.until) = (found, None);
                match &mut self.day {
                    Some(day) if is_ours => day.reserved(saved),
                    Some(day) => day.overtaken(theirs),
                    None => {}
                }
            }
            // It is asked for again when the wait for it is over. Should it have been written, that
            // finds it.
            Err(error) => {
                tracing::warn!(%error, "cannot reserve hand-overs of the day");
                if let Some(day) = &mut self.day {
                    day.reserve_failed();
                }
            }
        }
    }

    /// The row that holds so much, and the write that puts it.
    fn write(&self, instance: InstanceId, saved: DaySaved) -> (Vec<u8>, RowWrite) {
        let DaySaved { day, reserved } = saved;
        let row = encode(&CapRow {
            day,
            reserved,
            epoch: self.epoch,
        });
        let seen = self.seen.clone().map_or(Condition::Absent, Condition::Is);
        let write = RowWrite::put(key(instance), row.clone()).when(seen);
        (row, write)
    }
}

impl InstanceState {
    /// Counts one hand-over of the day, and reserves more of it in time; false when it has to wait.
    pub(super) fn take_of_day(&mut self, now: Timestamp) -> bool {
        let cap = &mut self.outbox.cap;
        let taken = cap.take(now);
        if !cap.writing
            && let Some(saved) = cap.day.as_mut().and_then(|day| day.reserve(now))
        {
            cap.writing = true;
            self.reserve_of_day(saved);
        }
        taken
    }

    /// Gives back what was counted of the day at that time and never handed over.
    pub(super) fn give_back_of_day(&mut self, taken_at: Timestamp) {
        if let Some(day) = &mut self.outbox.cap.day {
            day.give_back(taken_at);
        }
    }

    fn reserve_of_day(&self, saved: DaySaved) {
        let (row, write) = self.outbox.cap.write(self.me.id(), saved);
        let (store, tell) = (self.me.context.store.clone(), self.me.teller());
        self.me.context.tasks.spawn(async move {
            let result = store.write(vec![write]).await;
            tell(InstanceMsg::CapWritten(CapWritten { saved, row, result }));
        });
    }

    pub(super) fn on_cap_written(&mut self, written: CapWritten) {
        self.outbox.cap.written(written);
    }

    /// Leaves what was reserved and not used to the next actor.
    pub(super) fn leave_rest_of_day(&self) {
        let cap = &self.outbox.cap;
        let unused = cap.day.as_ref().and_then(DayCap::unused);
        let Some(unused) = unused.filter(|_| !cap.writing) else {
            return;
        };
        let (_, write) = cap.write(self.me.id(), unused);
        let (store, instance) = (self.me.context.store.clone(), self.me.id());
        self.me.context.tasks.spawn(async move {
            if let Err(error) = store.write(vec![write]).await {
                tracing::debug!(%instance, %error, "the rest of a reservation is lost");
            }
        });
    }
}
