//! What runs on the committer's thread: conditions are decided, records get their places, and
//! durable groups go on to the projector; small ones are applied at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use rustc_hash::FxHashMap;

use super::Shared;
use super::item::{Answer, Call};
use super::log::{Group, Item, LogError, Lsn, Stage};
use super::projector;
use crate::codec::{Encoded, Record};
use crate::projection::Positioned;
use crate::row::unmet;
use crate::{RowKey, RowWrite, StoreError, Written, metrics};

/// A group of this many bytes at most is applied where it was written: to wake another thread for
/// it takes longer than the next group would wait (about a hundred messages).
const SMALL_BYTES: usize = 32 << 10;

/// A group that is durable and is to be applied.
pub(super) struct Durable {
    pub(super) calls: Vec<Call>,
    /// Where the next group begins.
    pub(super) end: u64,
}

impl Durable {
    fn records(&self) -> impl Iterator<Item = &Record> {
        let placed = self.calls.iter().flat_map(|call| &call.placed);
        placed.map(|placed| &placed.record)
    }

    /// Whether it holds a stretch of a mass cancel.
    pub(super) fn sweeps(&self) -> bool {
        self.records()
            .any(|record| matches!(record, Record::Sweep(_)))
    }

    /// Whether it is applied in less time than a thread takes to wake, and nothing follows from it.
    fn is_small(&self) -> bool {
        let simple = |record: &Record| {
            matches!(
                record,
                Record::Accept(_) | Record::Outcomes(_) | Record::Rows(_)
            )
        };
        self.calls.iter().map(Item::bytes).sum::<usize>() <= SMALL_BYTES
            && self.records().all(simple)
    }
}

/// The committer's side of the store.
pub(super) struct Commit {
    shared: Arc<Shared>,
    projector: SyncSender<Durable>,
    appends: metrics::Appends,
    ahead: Ahead,
}

impl Commit {
    pub(super) fn new(shared: Arc<Shared>, projector: SyncSender<Durable>) -> Self {
        Self {
            shared,
            projector,
            appends: metrics::Appends::new(),
            ahead: Ahead::default(),
        }
    }

    /// The first row of a write whose condition fails, with what it holds.
    fn conflict(&self, rows: &[RowWrite]) -> Result<Option<Written>, StoreError> {
        for write in rows {
            let current = match self.ahead.rows.get(&write.key) {
                Some((_, value)) => value.clone(),
                None => self.shared.projection.row(&write.key)?.map(|row| row.value),
            };
            if unmet(&write.condition, current.as_deref()) {
                return Ok(Some(Written::Conflict {
                    key: write.key.clone(),
                    current,
                }));
            }
        }
        Ok(None)
    }

    /// Whether the projector has nothing to do: groups are applied in their order, one at a time.
    fn projector_rests(&self) -> bool {
        let projection = &self.shared.projection;
        self.shared.unapplied.load(Ordering::Acquire) == 0
            && projection.unflushed_bytes() <= projection.budgets().flush_bytes
            && projection.is_swept()
    }

    fn place(
        &mut self,
        records: Vec<Encoded>,
        group: &mut Group<'_>,
    ) -> Result<Vec<Positioned>, StoreError> {
        let mut placed = Vec::with_capacity(records.len());
        for Encoded { record, payload } in records {
            let lsn = group
                .push(payload[1], &payload)
                .map_err(|error| StoreError::from(&error))?;
            if let Record::Rows(rows) = &record {
                self.ahead.put(lsn, rows);
            }
            placed.push(Positioned {
                lsn: lsn.0,
                len: payload.len() as u32,
                record,
            });
        }
        Ok(placed)
    }
}

impl Stage for Commit {
    type Item = Call;

    fn prepare(&mut self, mut call: Call, group: &mut Group<'_>) -> Option<Call> {
        self.ahead
            .forget(self.shared.applied.load(Ordering::Acquire));
        let mut records = call.take_records();
        if let Answer::Write { rows, written, .. } = &mut call.answer {
            match self.conflict(rows) {
                Ok(None) => {}
                // The answer waits for what it was decided on to be durable.
                Ok(Some(conflict)) => {
                    *written = conflict;
                    records.clear();
                }
                Err(error) => {
                    call.answer(Err(error));
                    return None;
                }
            }
        }
        match self.place(records, group) {
            Ok(placed) => {
                call.placed = placed;
                Some(call)
            }
            Err(error) => {
                call.answer(Err(error));
                None
            }
        }
    }

    fn durable(&mut self, calls: Vec<Call>, end: Lsn) {
        let durable = Durable { calls, end: end.0 };
        if durable.is_small() && self.projector_rests() {
            return projector::apply(&self.shared, &self.appends, durable);
        }
        self.shared.unapplied.fetch_add(1, Ordering::Relaxed);
        if let Err(refused) = self.projector.send(durable) {
            // The projector failed: what is durable is applied at the next open.
            for call in refused.0.calls {
                call.answer(Err(StoreError::Closed));
            }
        }
    }

    fn refused(&mut self, call: Call, error: &LogError) {
        let error = StoreError::from(error);
        metrics::failed(call.operation(), &error);
        self.ahead.withdraw(&call);
        call.answer(Err(error));
    }
}

/// Rows that were written to the log and are not in the projection yet.
#[derive(Default)]
struct Ahead {
    rows: FxHashMap<RowKey, (u64, Option<Vec<u8>>)>,
    order: VecDeque<(u64, RowKey)>,
}

impl Ahead {
    fn put(&mut self, lsn: Lsn, rows: &[(RowKey, Option<Vec<u8>>)]) {
        for (key, value) in rows {
            self.rows.insert(key.clone(), (lsn.0, value.clone()));
            self.order.push_back((lsn.0, key.clone()));
        }
    }

    /// Forgets rows that the projection knows.
    fn forget(&mut self, applied: u64) {
        while self.order.front().is_some_and(|(lsn, _)| *lsn <= applied) {
            if let Some((lsn, key)) = self.order.pop_front()
                && self
                    .rows
                    .get(&key)
                    .is_some_and(|(newest, _)| *newest == lsn)
            {
                self.rows.remove(&key);
            }
        }
    }

    /// Forgets rows of a call that was not written.
    fn withdraw(&mut self, call: &Call) {
        for placed in &call.placed {
            if let Record::Rows(rows) = &placed.record {
                for (key, _) in rows {
                    if self
                        .rows
                        .get(key)
                        .is_some_and(|(lsn, _)| *lsn == placed.lsn)
                    {
                        self.rows.remove(key);
                    }
                }
            }
        }
    }
}
