//! What the key-value store knows, as values of the projection.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::time::{Day, Timestamp};

use super::block::Block;
use super::feed;
use super::head::{Cell, Head};
use super::hot::{DueFrom, State, Teller};
use super::key::{self, BlockKey, QueueKey};
use super::mark::Mark;
use crate::StoreError;
use crate::codec::varint::{self, Reader};
use crate::kv::{Direction, Kv, Space, Span};

/// A key or value that cannot be.
pub(crate) fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt {
        what,
        detail: "a key that cannot be".to_owned(),
    }
}

/// Every key and value of a span of the main space, each made into something.
fn collect<K: Kv, T>(
    kv: &K,
    span: &Span,
    mut make: impl FnMut(&[u8], &[u8]) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut made = Vec::new();
    let mut fault = None;
    kv.scan(
        Space::Main,
        span,
        Direction::Up,
        &mut |key, value| match make(key, value) {
            Ok(item) => {
                made.push(item);
                ControlFlow::Continue(())
            }
            Err(error) => {
                fault = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    fault.map_or(Ok(made), Err)
}

/// A block.
pub(crate) fn block<K: Kv>(kv: &K, key: BlockKey) -> Result<Option<Block>, StoreError> {
    let space = key::space_of(key.first);
    let Some(index) = kv.get(space, &key::block_index(key))? else {
        return Ok(None);
    };
    let states = kv.get(space, &key::block_states(key))?;
    Block::decode(key, &index, states.as_deref()).map(Some)
}

/// The block of a queue that begins at an id or before.
pub(crate) fn seek<K: Kv>(
    kv: &K,
    queue: QueueKey,
    upto: MessageId,
) -> Result<Option<BlockKey>, StoreError> {
    let newest = key::period_of(upto);
    let mut found = None;
    for period in kv
        .periods()
        .into_iter()
        .rev()
        .filter(|period| *period <= newest)
    {
        let span = key::blocks_upto(queue, upto);
        kv.scan(
            Space::Period(period),
            &span,
            Direction::Down,
            &mut |key, _| {
                found = key::read_block(key);
                ControlFlow::Break(())
            },
        )?;
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

/// The head of a queue.
pub(crate) fn head<K: Kv>(kv: &K, key: QueueKey) -> Result<Option<Head>, StoreError> {
    kv.get(Space::Main, &key::head(key))?
        .map(|bytes| Head::decode(&bytes))
        .transpose()
}

/// The heads of an instance.
pub(crate) fn heads<K: Kv>(
    kv: &K,
    instance: InstanceId,
) -> Result<BTreeMap<QueueKey, Head>, StoreError> {
    let heads = collect(kv, &key::heads(instance), |key, value| {
        let queue = key::read_head(key).ok_or_else(|| corrupt("head of a queue"))?;
        Ok((queue, Head::decode(value)?))
    })?;
    Ok(heads.into_iter().collect())
}

/// The counts of a day of a queue.
pub(crate) fn cell<K: Kv>(kv: &K, queue: QueueKey, day: Day) -> Result<Option<Cell>, StoreError> {
    kv.get(Space::Main, &key::totals(queue, day))?
        .map(|bytes| Cell::decode(&bytes))
        .transpose()
}

/// The counts of a span.
pub(crate) fn cells<K: Kv>(
    kv: &K,
    span: &Span,
) -> Result<BTreeMap<(QueueKey, Day), Cell>, StoreError> {
    let cells = collect(kv, span, |key, value| {
        let name = key::read_totals(key).ok_or_else(|| corrupt("totals"))?;
        Ok((name, Cell::decode(value)?))
    })?;
    Ok(cells.into_iter().collect())
}

/// Where a projection stands in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Projected {
    /// The last record that is applied.
    pub(crate) applied: u64,
    /// Where a replay begins.
    pub(crate) position: u64,
    /// Periods below this one are gone.
    pub(crate) retired: u32,
}

impl Projected {
    /// As bytes.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = vec![1];
        varint::put(&mut out, self.applied);
        varint::put(&mut out, self.position);
        varint::put(&mut out, u64::from(self.retired));
        out
    }

    /// Reads it back.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new("position of the projection", bytes);
        if reader.byte()? != 1 {
            return Err(reader.fault("unknown version"));
        }
        let (applied, position) = (reader.number()?, reader.number()?);
        Ok(Self {
            applied,
            position,
            retired: reader.small()?,
        })
    }
}

/// What has to be in memory from the beginning: live heads, marks, periods.
pub(crate) fn state<K: Kv>(kv: &K) -> Result<State, StoreError> {
    let mut state = State::default();
    if let Some(bytes) = kv.get(Space::Main, key::PROJECTED)? {
        let projected = Projected::decode(&bytes)?;
        state.applied = projected.applied;
        state.position = projected.position;
        state.retired = projected.retired;
    }
    let live = collect(kv, &key::lives(), |key, value| {
        let queue = key::read_head(key).ok_or_else(|| corrupt("live queue"))?;
        // Earlier versions wrote nothing there.
        let head = (!value.is_empty())
            .then(|| Head::decode(value))
            .transpose()?;
        Ok((queue, head))
    })?;
    for (queue, known) in live {
        let head = match known {
            Some(known) => Some(known),
            None => head(kv, queue)?,
        };
        state.heads.extend(head.map(|head| (queue, head)));
    }
    let marks = collect(kv, &key::marks(), |key, value| {
        let (instance, lsn) = key::read_mark(key).ok_or_else(|| corrupt("mass cancel"))?;
        Ok((instance, Mark::decode(lsn, value)?))
    })?;
    for (instance, mark) in marks {
        state.marks.entry(instance).or_default().push(mark);
    }
    state.periods = collect(kv, &key::period_starts(), |key, value| {
        let period = key::read_period_start(key).ok_or_else(|| corrupt("period"))?;
        let lsn = value.try_into().map_err(|_| corrupt("period"))?;
        Ok((period, u64::from_be_bytes(lsn)))
    })?
    .into_iter()
    .collect();
    let dues = collect(kv, &key::all_due_from(), |key, value| {
        let instance = key::read_due_from(key).ok_or_else(|| corrupt("schedule"))?;
        Ok((instance, read_number(value)?))
    })?;
    for (instance, micros) in dues {
        let at = Timestamp::from_micros(micros as i64);
        state.due_from.insert(instance, DueFrom { at, written: at });
    }
    tellers(kv, &mut state)?;
    Ok(state)
}

fn read_number(value: &[u8]) -> Result<u64, StoreError> {
    let number = value.try_into().map_err(|_| corrupt("number"))?;
    Ok(u64::from_be_bytes(number))
}

/// Which accounts have changes.
fn tellers<K: Kv>(kv: &K, state: &mut State) -> Result<(), StoreError> {
    let mut found = collect(kv, &key::tellers(), |key, value| {
        let account = key::read_teller(key).ok_or_else(|| corrupt("change feed"))?;
        Ok((account, read_number(value)?))
    })?;
    if found.is_empty() {
        // Earlier versions did not write them down.
        for account in feed::accounts(kv)? {
            let value = Some(0_u64.to_be_bytes().to_vec());
            state.overlay.put(key::teller(account), value);
            found.push((account, 0));
        }
    }
    let last = state.applied;
    let tellers = found.into_iter();
    state.tellers = tellers
        .map(|(account, first)| (account, Teller { first, last }))
        .collect();
    Ok(())
}
