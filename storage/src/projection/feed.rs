//! The change feed: what changed for an account, by the record of the log that changed it.

use std::ops::ControlFlow;

use zajil_model::id::{AccountId, MessageId};
use zajil_model::lifecycle::Status;
use zajil_model::time::Timestamp;

use super::{disk, key};
use crate::StoreError;
use crate::codec::varint::{self, Reader};
use crate::kv::{Direction, Kv, KvWrite, Space, Span};
use crate::query::{Cursor, StatusChange};

/// The form below; a reader refuses others.
const VERSION: u8 = 1;

/// A row is cut at this many changes, so that a page reads little more than it answers.
const ROW_CHANGES: usize = 512;

/// A change and its place.
pub(crate) type Placed = (Cursor, StatusChange);

/// Packs changes in the order of their places.
pub(crate) fn encode(changes: &[Placed]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + changes.len() * 12);
    out.push(VERSION);
    varint::put(&mut out, changes.len() as u64);
    let (mut record, mut id, mut at) = (0_u64, 0_i64, 0_i64);
    for (place, change) in changes {
        varint::put(&mut out, place.record.wrapping_sub(record));
        varint::put(&mut out, u64::from(place.within));
        varint::put_signed(&mut out, change.id.get() as i64 - id);
        varint::put_signed(&mut out, change.at.as_micros() - at);
        out.push(change.status as u8);
        (record, id, at) = (place.record, change.id.get() as i64, change.at.as_micros());
    }
    out
}

/// Reads changes back.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Placed>, StoreError> {
    let mut reader = Reader::new("change feed", bytes);
    if reader.byte()? != VERSION {
        return Err(reader.fault("unknown version"));
    }
    let count = reader.small()? as usize;
    let mut changes = Vec::with_capacity(count.min(ROW_CHANGES));
    let (mut record, mut id, mut at) = (0_u64, 0_i64, 0_i64);
    for _ in 0..count {
        record = record.wrapping_add(reader.number()?);
        let within = reader.small()?;
        id = id.wrapping_add(reader.signed()?);
        at = at.wrapping_add(reader.signed()?);
        let message = u64::try_from(id).ok().and_then(MessageId::new);
        let message = message.ok_or_else(|| reader.fault("an id out of range"))?;
        let status = Status::from_number(reader.byte()?).ok_or_else(|| reader.fault("a status"))?;
        let at = Timestamp::from_micros(at);
        changes.push((
            Cursor { record, within },
            StatusChange {
                id: message,
                status,
                at,
            },
        ));
    }
    Ok(changes)
}

/// The rows that new changes of an account make.
pub(crate) fn writes(account: AccountId, changes: &[Placed]) -> impl Iterator<Item = KvWrite> {
    changes.chunks(ROW_CHANGES).map(move |row| {
        let place = row[0].0;
        KvWrite {
            space: Space::Main,
            key: key::feed(account, place.record, place.within),
            value: Some(encode(row)),
        }
    })
}

/// Changes of an account in the key-value store, from a place on, below another.
pub(crate) fn read<K: Kv>(
    kv: &K,
    account: AccountId,
    from: Cursor,
    below: Option<Cursor>,
    limit: usize,
) -> Result<Vec<Placed>, StoreError> {
    let all = key::feeds(account);
    let mut start = all.from.clone();
    let before = crate::kv::after_prefix(&key::feed(account, from.record, from.within));
    let span = Span {
        from: all.from,
        to: before,
    };
    kv.scan(Space::Main, &span, Direction::Down, &mut |key, _| {
        start = key.to_vec();
        ControlFlow::Break(())
    })?;
    let mut found: Vec<Placed> = Vec::new();
    let mut fault = None;
    let wanted = |place: Cursor| place >= from && below.is_none_or(|below| place < below);
    kv.scan(
        Space::Main,
        &Span {
            from: start,
            to: all.to,
        },
        Direction::Up,
        &mut |_, value| {
            match decode(value) {
                Ok(row) => found.extend(row.into_iter().filter(|(place, _)| wanted(*place))),
                Err(error) => fault = Some(error),
            }
            let done = found.len() >= limit
                || fault.is_some()
                || below.is_some_and(|below| found.last().is_some_and(|(last, _)| *last >= below));
            if done {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    )?;
    found.truncate(limit);
    fault.map_or(Ok(found), Err)
}

/// Every account with changes, by one look for each.
pub(crate) fn accounts<K: Kv>(kv: &K) -> Result<Vec<AccountId>, StoreError> {
    let mut found = Vec::new();
    let mut span = key::all_feeds();
    loop {
        let mut next = None;
        kv.scan(Space::Main, &span, Direction::Up, &mut |key, _| {
            next = Some(key::read_feed(key));
            ControlFlow::Break(())
        })?;
        let Some(next) = next else { return Ok(found) };
        let (account, _) = next.ok_or_else(|| disk::corrupt("change feed"))?;
        found.push(account);
        span.from = key::feeds(account).to;
    }
}

/// What of an account's feed has nothing from a record on.
#[derive(Debug, Default)]
pub(crate) struct Outdated {
    /// The keys of these rows.
    pub(crate) keys: Vec<Vec<u8>>,
    /// Where the row after them begins; `None` when there is none.
    pub(crate) next: Option<u64>,
    /// Whether there are more of them.
    pub(crate) is_cut: bool,
}

/// The rows of an account, from the record `first` on, with nothing from the record `below` on: at
/// most `limit`. Its rows are in order, so that it costs what is found and one row more.
pub(crate) fn outdated<K: Kv>(
    kv: &K,
    account: AccountId,
    first: u64,
    below: u64,
    limit: usize,
) -> Result<Outdated, StoreError> {
    let mut found = Outdated::default();
    let mut fault = None;
    let span = Span {
        from: key::feed(account, first, 0),
        to: key::feeds(account).to,
    };
    kv.scan(Space::Main, &span, Direction::Up, &mut |key, value| {
        let begins = key::read_feed(key).map(|(_, begins)| begins);
        match (begins, decode(value)) {
            (None, _) => fault = Some(disk::corrupt("change feed")),
            (_, Err(error)) => fault = Some(error),
            (Some(begins), Ok(row)) => {
                let is_old = row.iter().all(|(place, _)| place.record < below);
                if is_old && found.keys.len() < limit {
                    found.keys.push(key.to_vec());
                    return ControlFlow::Continue(());
                }
                found.is_cut = is_old;
                found.next = Some(begins);
            }
        }
        ControlFlow::Break(())
    })?;
    fault.map_or(Ok(found), Err)
}
