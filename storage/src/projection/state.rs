//! States as bytes: a few for each message, one for a run of messages that nothing happened to.

use zajil_model::lifecycle::{MessageState, Status};
use zajil_model::time::Timestamp;

use crate::StoreError;
use crate::codec::outcomes::{failure, read_failure};
use crate::codec::varint::{self, Reader};

/// Says that a run of untouched messages follows, in place of a status.
const RUN: u8 = 15;

/// That the failure is the channel's.
const BY_CHANNEL: u8 = 16;

/// That a failure is kept.
const FAILURE: u8 = 32;

/// That an attempt before the last has no answer.
const DOUBTFUL: u8 = 64;

/// That attempts were forgiven.
const FORGIVEN: u8 = 128;

/// Packs states; times are kept as distances from `base`.
pub(crate) fn encode(out: &mut Vec<u8>, states: &[MessageState], base: Timestamp) {
    let untouched = MessageState::default();
    let mut rest = states;
    while let Some(state) = rest.first() {
        let run = rest.iter().take_while(|state| **state == untouched).count();
        if run > 0 {
            out.push(RUN);
            varint::put(out, run as u64);
            rest = &rest[run..];
        } else {
            encode_one(out, state, base);
            rest = &rest[1..];
        }
    }
}

fn times(state: &MessageState) -> [Option<Timestamp>; 6] {
    [
        state.first_attempt_at,
        state.next_at,
        state.sent_at,
        state.delivered_at,
        state.read_at,
        state.ended_at,
    ]
}

fn encode_one(out: &mut Vec<u8>, state: &MessageState, base: Timestamp) {
    let mut head = state.status as u8;
    if state.by_channel {
        head |= BY_CHANNEL;
    }
    if state.failure.is_some() {
        head |= FAILURE;
    }
    if state.doubtful {
        head |= DOUBTFUL;
    }
    if state.forgiven > 0 {
        head |= FORGIVEN;
    }
    let times = times(state);
    let known = (0..6).fold(0_u8, |bits, i| bits | u8::from(times[i].is_some()) << i);
    out.extend([head, state.attempts, known]);
    let mut from = base.as_micros();
    for time in times.into_iter().flatten() {
        varint::put_signed(out, time.as_micros() - from);
        from = time.as_micros();
    }
    if let Some(why) = state.failure {
        failure(out, why);
    }
    if state.forgiven > 0 {
        out.push(state.forgiven);
    }
}

/// Reads `count` states back.
pub(crate) fn decode(
    reader: &mut Reader<'_>,
    count: usize,
    base: Timestamp,
) -> Result<Vec<MessageState>, StoreError> {
    let mut states = Vec::with_capacity(count);
    while states.len() < count {
        let head = reader.byte()?;
        if head == RUN {
            let run = reader.number()? as usize;
            if run == 0 || run > count - states.len() {
                return Err(reader.fault("a run that is too long"));
            }
            states.resize(states.len() + run, MessageState::default());
        } else {
            states.push(decode_one(reader, head, base)?);
        }
    }
    Ok(states)
}

fn decode_one(
    reader: &mut Reader<'_>,
    head: u8,
    base: Timestamp,
) -> Result<MessageState, StoreError> {
    let status = Status::from_number(head & 15).ok_or_else(|| reader.fault("a status"))?;
    let attempts = reader.byte()?;
    let known = reader.byte()?;
    let mut times = [None; 6];
    let mut from = base.as_micros();
    for (i, time) in times.iter_mut().enumerate() {
        if known & 1 << i != 0 {
            from = from.wrapping_add(reader.signed()?);
            *time = Some(Timestamp::from_micros(from));
        }
    }
    let failure = if head & FAILURE != 0 {
        Some(read_failure(reader)?)
    } else {
        None
    };
    let forgiven = if head & FORGIVEN != 0 {
        reader.byte()?
    } else {
        0
    };
    let [
        first_attempt_at,
        next_at,
        sent_at,
        delivered_at,
        read_at,
        ended_at,
    ] = times;
    Ok(MessageState {
        status,
        attempts,
        forgiven,
        doubtful: head & DOUBTFUL != 0,
        by_channel: head & BY_CHANNEL != 0,
        failure,
        first_attempt_at,
        next_at,
        sent_at,
        delivered_at,
        read_at,
        ended_at,
    })
}
