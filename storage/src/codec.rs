//! Records of the log as bytes.
//!
//! A payload is a place byte (first and last record of its append), a kind byte, and a body that
//! begins with its version. An append of several entries is several records; a crash between
//! them leaves an append without its last record, which a replay leaves out whole.

use std::sync::Arc;

use zajil_model::id::{AccountId, BatchId, InstanceId, MessageId};
use zajil_model::lifecycle::{MessageState, Outcome};
use zajil_model::message::{Chunk, Queue};
use zajil_model::time::Timestamp;

use crate::projection::feed::Placed;
use crate::row::{RowKey, RowWrite, Table};
use crate::{Entry, StoreError};

mod chunk;
mod moved;
pub(crate) mod outcomes;
pub(crate) mod varint;

use varint::Reader;

/// The first record of its append.
const FIRST: u8 = 1;

/// The last record of its append.
const LAST: u8 = 2;

/// The form of cancels, rows, sweeps and retirements.
const VERSION: u8 = 1;

/// A row's new value; `None` deletes it.
pub(crate) type RowChange = (RowKey, Option<Vec<u8>>);

/// A mass cancel, as [`Entry::CancelAll`] says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CancelAll {
    pub(crate) account: AccountId,
    pub(crate) instance: InstanceId,
    pub(crate) queue: Option<Queue>,
    pub(crate) upto: MessageId,
    pub(crate) at: Timestamp,
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Messages that were accepted.
    Accept(Arc<Chunk>),
    /// What became known of messages.
    Outcomes(Vec<Outcome>),
    /// A mass cancel.
    CancelAll(CancelAll),
    /// Rows that changed.
    Rows(Vec<RowChange>),
    /// The next stretch of the oldest mass cancel of an instance is written into its states.
    Sweep(InstanceId),
    /// Periods below this one end, as far as nothing in them is unsettled.
    Retire(u32),
    /// What another store knew of messages.
    Known(Vec<(MessageId, MessageState)>),
    /// What another store told an account.
    Told(AccountId, Vec<Placed>),
}

/// A record with its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// What it says.
    pub(crate) record: Record,
    /// What the log keeps.
    pub(crate) payload: Vec<u8>,
}

/// Where a record stands in its append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whether it is the first.
    pub(crate) first: bool,
    /// Whether it is the last.
    pub(crate) last: bool,
}

/// The records of an append, in order; none for an append that says nothing.
pub(crate) fn encode(entries: Vec<Entry>) -> Result<Vec<Encoded>, StoreError> {
    let mut records = Vec::with_capacity(entries.len());
    for entry in entries {
        match entry {
            Entry::Accept(chunk) if chunk.is_empty() => {
                return Err(StoreError::Invalid("a chunk without messages"));
            }
            Entry::Accept(chunk) => {
                for (part, body) in chunk::encode(&chunk)? {
                    records.push(framed(Record::Accept(part), 0, &body));
                }
            }
            Entry::Outcomes(outcomes) if outcomes.is_empty() => {}
            Entry::Outcomes(outcomes) => records.push(encode_record(Record::Outcomes(outcomes))),
            Entry::CancelAll {
                account,
                instance,
                queue,
                upto,
                at,
            } => {
                let cancel = CancelAll {
                    account,
                    instance,
                    queue,
                    upto,
                    at,
                };
                records.push(encode_record(Record::CancelAll(cancel)));
            }
            Entry::Rows(rows) if rows.is_empty() => {}
            Entry::Rows(rows) => records.push(encode_record(Record::Rows(changes(rows)))),
            Entry::Known(states) if states.is_empty() => {}
            Entry::Known(states) => records.push(encode_record(Record::Known(states))),
            Entry::Told { changes, .. } if changes.is_empty() => {}
            Entry::Told { account, changes } => {
                records.push(encode_record(Record::Told(account, changes)));
            }
        }
    }
    if let Some(first) = records.first_mut() {
        first.payload[0] |= FIRST;
    }
    if let Some(last) = records.last_mut() {
        last.payload[0] |= LAST;
    }
    Ok(records)
}

/// The changes that row writes make, without their conditions.
pub(crate) fn changes(rows: Vec<RowWrite>) -> Vec<RowChange> {
    rows.into_iter()
        .map(|write| (write.key, write.value))
        .collect()
}

/// A record that is an append by itself.
pub(crate) fn encode_alone(record: Record) -> Encoded {
    let mut encoded = encode_record(record);
    encoded.payload[0] |= FIRST | LAST;
    encoded
}

fn framed(record: Record, kind: u8, body: &[u8]) -> Encoded {
    let mut payload = Vec::with_capacity(2 + body.len());
    payload.extend([0, kind]);
    payload.extend_from_slice(body);
    Encoded { record, payload }
}

fn encode_record(record: Record) -> Encoded {
    let mut body = Vec::new();
    let kind = match &record {
        Record::Accept(_) => unreachable!("chunks are encoded with their split"),
        Record::Outcomes(list) => {
            outcomes::encode(&mut body, list);
            1
        }
        Record::CancelAll(cancel) => {
            body.push(VERSION);
            put_cancel(&mut body, cancel);
            2
        }
        Record::Rows(rows) => {
            body.push(VERSION);
            put_rows(&mut body, rows);
            3
        }
        Record::Sweep(instance) => {
            body.push(VERSION);
            varint::put(&mut body, instance.get());
            4
        }
        Record::Retire(period) => {
            body.push(VERSION);
            varint::put(&mut body, u64::from(*period));
            5
        }
        Record::Known(states) => {
            moved::put_states(&mut body, states);
            6
        }
        Record::Told(account, changes) => {
            moved::put_told(&mut body, *account, changes);
            7
        }
    };
    framed(record, kind, &body)
}

/// Reads a record back, and where it stands in its append.
pub(crate) fn decode(payload: &[u8]) -> Result<(Place, Record), StoreError> {
    let mut reader = Reader::new("log record", payload);
    let place = reader.byte()?;
    let place = Place {
        first: place & FIRST != 0,
        last: place & LAST != 0,
    };
    let kind = reader.byte()?;
    let record = match kind {
        0 => Record::Accept(chunk::decode(&mut reader)?),
        1 => Record::Outcomes(outcomes::decode(&mut reader)?),
        2..=5 => {
            let version = reader.byte()?;
            if version != VERSION {
                return Err(reader.fault(format!("version {version}")));
            }
            match kind {
                2 => Record::CancelAll(read_cancel(&mut reader)?),
                3 => Record::Rows(read_rows(&mut reader)?),
                4 => Record::Sweep(read_instance(&mut reader)?),
                _ => Record::Retire(reader.small()?),
            }
        }
        6 => Record::Known(moved::read_states(&mut reader)?),
        7 => {
            let (account, changes) = moved::read_told(&mut reader)?;
            Record::Told(account, changes)
        }
        _ => return Err(reader.fault(format!("kind {kind}"))),
    };
    Ok((place, record))
}

/// Packs a queue: 0, 1, or 2 and a batch.
pub(crate) fn put_queue(out: &mut Vec<u8>, queue: Queue) {
    match queue {
        Queue::High => out.push(0),
        Queue::Normal => out.push(1),
        Queue::Part(batch) => {
            out.push(2);
            varint::put(out, batch.get());
        }
    }
}

/// Reads what [`put_queue`] packed.
pub(crate) fn read_queue(reader: &mut Reader<'_>) -> Result<Queue, StoreError> {
    Ok(match reader.byte()? {
        0 => Queue::High,
        1 => Queue::Normal,
        2 => {
            let number = reader.number()?;
            let batch = BatchId::new(number);
            Queue::Part(batch.ok_or_else(|| reader.fault("a batch id out of range"))?)
        }
        other => return Err(reader.fault(format!("queue {other}"))),
    })
}

/// Reads an instance's id.
pub(crate) fn read_instance(reader: &mut Reader<'_>) -> Result<InstanceId, StoreError> {
    let number = reader.number()?;
    InstanceId::new(number).ok_or_else(|| reader.fault("an instance id out of range"))
}

/// Reads an account's id.
pub(crate) fn read_account(reader: &mut Reader<'_>) -> Result<AccountId, StoreError> {
    let number = reader.number()?;
    AccountId::new(number).ok_or_else(|| reader.fault("an account id out of range"))
}

/// Reads a message's id.
pub(crate) fn read_message(reader: &mut Reader<'_>) -> Result<MessageId, StoreError> {
    let number = reader.number()?;
    MessageId::new(number).ok_or_else(|| reader.fault("a message id out of range"))
}

fn put_cancel(out: &mut Vec<u8>, cancel: &CancelAll) {
    varint::put(out, cancel.account.get());
    varint::put(out, cancel.instance.get());
    match cancel.queue {
        None => out.push(0),
        Some(queue) => {
            out.push(1);
            put_queue(out, queue);
        }
    }
    varint::put(out, cancel.upto.get());
    varint::put_signed(out, cancel.at.as_micros());
}

fn read_cancel(reader: &mut Reader<'_>) -> Result<CancelAll, StoreError> {
    let account = read_account(reader)?;
    let instance = read_instance(reader)?;
    let queue = match reader.byte()? {
        0 => None,
        _ => Some(read_queue(reader)?),
    };
    let upto = read_message(reader)?;
    let at = Timestamp::from_micros(reader.signed()?);
    Ok(CancelAll {
        account,
        instance,
        queue,
        upto,
        at,
    })
}

fn put_rows(out: &mut Vec<u8>, rows: &[RowChange]) {
    varint::put(out, rows.len() as u64);
    for (key, value) in rows {
        out.push(key.table as u8);
        varint::put_bytes(out, &key.partition);
        varint::put_bytes(out, &key.sort);
        match value {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                varint::put_bytes(out, value);
            }
        }
    }
}

fn read_rows(reader: &mut Reader<'_>) -> Result<Vec<RowChange>, StoreError> {
    let count = reader.small()? as usize;
    let mut rows = Vec::with_capacity(count.min(1 << 16));
    for _ in 0..count {
        let number = reader.byte()?;
        let table =
            Table::from_number(number).ok_or_else(|| reader.fault(format!("table {number}")))?;
        let key = RowKey::new(table, reader.bytes()?, reader.bytes()?);
        let value = match reader.byte()? {
            0 => None,
            _ => Some(reader.bytes()?.to_vec()),
        };
        rows.push((key, value));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
