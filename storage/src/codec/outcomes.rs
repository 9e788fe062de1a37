//! Outcomes as bytes: the hottest record, so packed as differences from the one before.

use zajil_model::id::MessageId;
use zajil_model::lifecycle::{Event, Outcome};
use zajil_model::refusal::{Failure, Reason};
use zajil_model::time::Timestamp;

use super::varint::{self, Reader};
use crate::StoreError;

/// The form below; a reader refuses others.
const VERSION: u8 = 1;

/// Packs outcomes, in order.
pub(super) fn encode(out: &mut Vec<u8>, outcomes: &[Outcome]) {
    out.reserve(4 + outcomes.len() * 12);
    out.push(VERSION);
    varint::put(out, outcomes.len() as u64);
    let (mut id, mut at) = (0_i64, 0_i64);
    for outcome in outcomes {
        varint::put_signed(out, outcome.id.get() as i64 - id);
        varint::put_signed(out, outcome.at.as_micros() - at);
        (id, at) = (outcome.id.get() as i64, outcome.at.as_micros());
        event(out, outcome.event, at);
    }
}

fn event(out: &mut Vec<u8>, event: Event, at: i64) {
    match event {
        Event::Attempt(n) => out.extend([0, n]),
        Event::Refused {
            failure: why,
            retry_at,
        } => {
            out.push(1);
            failure(out, why);
            varint::put_signed(out, retry_at.as_micros() - at);
        }
        Event::Scheduled(due) => {
            out.push(2);
            varint::put_signed(out, due.as_micros() - at);
        }
        Event::Due => out.push(3),
        Event::Acked => out.push(4),
        Event::Delivered => out.push(5),
        Event::Read => out.push(6),
        Event::Rejected(why) => {
            out.push(7);
            failure(out, why);
        }
        Event::Failed(why) => {
            out.push(8);
            failure(out, why);
        }
        Event::Expired => out.push(9),
        Event::Cancelled => out.push(10),
        Event::Suppressed => out.push(11),
        Event::Unknown => out.push(12),
    }
}

/// Packs a failure: its reason, then the channel's code.
pub(crate) fn failure(out: &mut Vec<u8>, failure: Failure) {
    out.push(failure.reason as u8);
    varint::put(out, u64::from(failure.code));
}

/// Reads what [`failure`] packed.
pub(crate) fn read_failure(reader: &mut Reader<'_>) -> Result<Failure, StoreError> {
    let number = reader.byte()?;
    let reason =
        Reason::from_number(number).ok_or_else(|| reader.fault(format!("reason {number}")))?;
    let code = u16::try_from(reader.number()?).map_err(|_| reader.fault("a code above 65,535"))?;
    Ok(Failure { reason, code })
}

/// Reads outcomes back, in order.
pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Vec<Outcome>, StoreError> {
    let version = reader.byte()?;
    if version != VERSION {
        return Err(reader.fault(format!("version {version}")));
    }
    let count = reader.small()? as usize;
    let mut outcomes = Vec::with_capacity(count.min(1 << 16));
    let (mut id, mut at) = (0_i64, 0_i64);
    for _ in 0..count {
        id = id.wrapping_add(reader.signed()?);
        at = at.wrapping_add(reader.signed()?);
        let number = u64::try_from(id).ok().and_then(MessageId::new);
        let id = number.ok_or_else(|| reader.fault("an id out of range"))?;
        let event = read_event(reader, at)?;
        outcomes.push(Outcome {
            id,
            at: Timestamp::from_micros(at),
            event,
        });
    }
    Ok(outcomes)
}

fn read_event(reader: &mut Reader<'_>, at: i64) -> Result<Event, StoreError> {
    Ok(match reader.byte()? {
        0 => Event::Attempt(reader.byte()?),
        1 => {
            let failure = read_failure(reader)?;
            let retry_at = Timestamp::from_micros(at.wrapping_add(reader.signed()?));
            Event::Refused { failure, retry_at }
        }
        2 => Event::Scheduled(Timestamp::from_micros(at.wrapping_add(reader.signed()?))),
        3 => Event::Due,
        4 => Event::Acked,
        5 => Event::Delivered,
        6 => Event::Read,
        7 => Event::Rejected(read_failure(reader)?),
        8 => Event::Failed(read_failure(reader)?),
        9 => Event::Expired,
        10 => Event::Cancelled,
        11 => Event::Suppressed,
        12 => Event::Unknown,
        kind => return Err(reader.fault(format!("event {kind}"))),
    })
}
