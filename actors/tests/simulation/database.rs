//! The database that all nodes share: linearizable rows, and a log for each shard to which
//! whoever has a handle may append, as in the CQL store. What of it counts is decided by seals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use zajil_model::id::{Epoch, MessageId, Shard, Tick};
use zajil_model::lease::shard::{Seals, ShardRow};
use zajil_model::lease::{NodeId, NodeRow, NodeState};
use zajil_storage::{Condition, Entry, Row, RowKey, RowWrite, StoreError, Table, Written};

use crate::rare::{Rare, Reached};

/// What one mutation of a log carries: the entries of each call.
pub(crate) type Group = Arc<Vec<Vec<Entry>>>;

/// The place of a group: its epoch, and the tick of its first call; each call has one of its own.
pub(crate) type Place = (Epoch, u64);

#[derive(Debug, Default)]
struct Log {
    epoch: Epoch,
    ids: Tick,
    /// Up to which tick the log may go.
    ceiling: Tick,
    seals: Seals,
    records: BTreeMap<Place, Group>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<RowKey, Vec<u8>>,
    /// When rows of a log were written, as their writer says: the later one wins.
    stamps: BTreeMap<RowKey, u64>,
    logs: BTreeMap<Shard, Log>,
    running: BTreeSet<NodeId>,
}

/// See above.
#[derive(Debug)]
pub(crate) struct Database {
    state: Mutex<State>,
    reached: Arc<Reached>,
    /// False in the variant in which nobody seals.
    seals: bool,
}

/// What an append came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Counts,
    /// It came too late: its epoch is sealed below it.
    Void,
}

impl Database {
    pub(crate) fn new(seals: bool, reached: Arc<Reached>) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Self {
            state,
            reached,
            seals,
        })
    }

    /// A process of a node begins or ends.
    pub(crate) fn runs(&self, node: NodeId, runs: bool) {
        let mut state = self.state.lock();
        if runs {
            state.running.insert(node);
        } else {
            state.running.remove(&node);
        }
    }

    /// Writes rows on behalf of a node.
    pub(crate) fn write(&self, node: NodeId, writes: &[RowWrite]) -> Written {
        let mut state = self.state.lock();
        for write in writes {
            let current = state.rows.get(&write.key);
            let unmet = match &write.condition {
                Condition::None => false,
                Condition::Absent => current.is_some(),
                Condition::Present => current.is_none(),
                Condition::Is(value) => current != Some(value),
            };
            if unmet {
                return Written::Conflict {
                    key: write.key.clone(),
                    current: current.cloned(),
                };
            }
        }
        for write in writes {
            state.note(node, write, &self.reached);
        }
        state.put(writes);
        Written::Applied
    }

    pub(crate) fn row(&self, key: &RowKey) -> Option<Row> {
        let value = self.state.lock().rows.get(key).cloned()?;
        let key = key.clone();
        Some(Row { key, value })
    }

    pub(crate) fn rows(
        &self,
        table: Table,
        partition: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        reverse: bool,
    ) -> Vec<Row> {
        let state = self.state.lock();
        let from = RowKey::new(table, partition, []);
        let of_partition = state
            .rows
            .range(from..)
            .take_while(|(key, _)| key.table == table && key.partition == partition);
        let mut found: Vec<Row> = of_partition
            .map(|(key, value)| Row {
                key: key.clone(),
                value: value.clone(),
            })
            .collect();
        if reverse {
            found.reverse();
        }
        if let Some(after) = after {
            found.retain(|row| {
                let sort = row.key.sort.as_slice();
                if reverse { sort < after } else { sort > after }
            });
        }
        found.truncate(limit);
        found
    }

    /// A shard gets a new epoch; answers up to which tick ids were given, and up to which the log
    /// may have gone.
    pub(crate) fn take(&self, shard: Shard, epoch: Epoch) -> Result<(Tick, Tick), StoreError> {
        let mut state = self.state.lock();
        let log = state.logs.entry(shard).or_default();
        if epoch < log.epoch {
            return Err(fenced(shard, epoch, log.epoch));
        }
        // The same one again: the answer of the first try was lost.
        log.epoch = epoch;
        Ok((log.ids, log.ceiling))
    }

    /// What counts in a log now.
    pub(crate) fn read(&self, shard: Shard) -> Vec<(Place, Group)> {
        let state = self.state.lock();
        let Some(log) = state.logs.get(&shard) else {
            return Vec::new();
        };
        let counts = log
            .records
            .iter()
            .filter(|(place, _)| !log.is_void(shard, **place));
        counts
            .map(|(place, group)| (*place, Arc::clone(group)))
            .collect()
    }

    /// What is not among `seen` of the epochs before this one will never count, and this one begins.
    pub(crate) fn seal(
        &self,
        shard: Shard,
        epoch: Epoch,
        (seen, ceiling): (&[Place], Tick),
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let log = state.logs.entry(shard).or_default();
        if log.epoch != epoch {
            return Err(fenced(shard, epoch, log.epoch));
        }
        if self.seals {
            let seen = seen.iter().map(|place| (place.0, sealed(shard, *place)));
            log.seals.seal_below(epoch, seen);
        }
        log.ceiling = log.ceiling.max(ceiling);
        Ok(())
    }

    /// The log of a shard may go on up to a tick; or ends there, when its owner lets it go.
    pub(crate) fn log_goes_to(
        &self,
        shard: Shard,
        epoch: Epoch,
        (ceiling, ends): (Tick, bool),
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let log = state.logs.entry(shard).or_default();
        if log.epoch != epoch {
            return Err(fenced(shard, epoch, log.epoch));
        }
        log.ceiling = if ends {
            ceiling
        } else {
            log.ceiling.max(ceiling)
        };
        Ok(())
    }

    /// Writes rows that a log brought, unless later ones of theirs are there.
    pub(crate) fn write_of_log(&self, stamp: u64, rows: &[RowWrite]) {
        let mut state = self.state.lock();
        for row in rows {
            let last = state.stamps.entry(row.key.clone()).or_default();
            if *last <= stamp {
                *last = stamp;
                state.put(std::slice::from_ref(row));
            }
        }
    }

    /// Appends, whoever owns the shard by now. The same again changes nothing.
    pub(crate) fn append(&self, shard: Shard, place: Place, group: &Group) -> Appended {
        let mut state = self.state.lock();
        let log = state.logs.entry(shard).or_default();
        log.records.insert(place, Arc::clone(group));
        if log.is_void(shard, place) {
            return Appended::Void;
        }
        Appended::Counts
    }

    /// Under which epoch a shard is.
    pub(crate) fn epoch(&self, shard: Shard) -> Epoch {
        let state = self.state.lock();
        state.logs.get(&shard).map_or(Epoch(0), |log| log.epoch)
    }

    /// How often shards have changed hands.
    pub(crate) fn takes(&self) -> u64 {
        let state = self.state.lock();
        state.logs.values().map(|log| log.epoch.0).sum()
    }

    pub(crate) fn raise(
        &self,
        shard: Shard,
        epoch: Epoch,
        ceiling: Tick,
    ) -> Result<Tick, StoreError> {
        let mut state = self.state.lock();
        let log = state.logs.entry(shard).or_default();
        if log.epoch != epoch {
            return Err(fenced(shard, epoch, log.epoch));
        }
        log.ids = log.ids.max(ceiling);
        Ok(log.ids)
    }
}

impl State {
    /// A row of ownership changes.
    fn note(&self, node: NodeId, write: &RowWrite, reached: &Reached) {
        let Some(value) = &write.value else { return };
        let other = write.key.partition != node.0.to_be_bytes();
        if write.key.table == Table::Leases && other {
            let dead = read::<NodeRow>(value).is_some_and(|row| row.state == NodeState::Dead);
            let runs = |it: &NodeId| write.key.partition == it.0.to_be_bytes();
            if dead && self.running.iter().any(runs) {
                reached.note(Rare::Fenced);
            }
        }
        if write.key.table == Table::ShardOwners {
            let before = self
                .rows
                .get(&write.key)
                .and_then(|row| read::<ShardRow>(row));
            let named = before.and_then(|row| row.next);
            let owner = read::<ShardRow>(value).and_then(|row| row.owner);
            if owner.is_some_and(|owner| named.is_some_and(|named| named != owner.node)) {
                reached.note(Rare::TakenByAnother);
            }
        }
    }

    fn put(&mut self, writes: &[RowWrite]) {
        for write in writes {
            match &write.value {
                Some(value) => drop(self.rows.insert(write.key.clone(), value.clone())),
                None => drop(self.rows.remove(&write.key)),
            }
        }
    }
}

impl Log {
    fn is_void(&self, shard: Shard, place: Place) -> bool {
        self.seals.is_void(place.0, sealed(shard, place))
    }
}

fn read<T: serde::de::DeserializeOwned>(value: &[u8]) -> Option<T> {
    rmp_serde::from_slice(value).ok()
}

/// The number of a record as seals count them.
fn sealed(shard: Shard, (_, number): Place) -> MessageId {
    MessageId::give(Tick(number), shard)
}

fn fenced(shard: Shard, ours: Epoch, current: Epoch) -> StoreError {
    StoreError::Fenced {
        shard,
        ours,
        current,
    }
}
