//! What came from another store as bytes: states as they were, and changes at their places.

use zajil_model::id::{AccountId, MessageId};
use zajil_model::lifecycle::MessageState;

use super::varint::{self, Reader};
use super::{read_account, read_message};
use crate::StoreError;
use crate::projection::feed::{self, Placed};
use crate::projection::state;

/// The form of both; a reader refuses others.
const VERSION: u8 = 1;

/// Packs states; their times are kept as distances from when the id was given.
pub(super) fn put_states(out: &mut Vec<u8>, states: &[(MessageId, MessageState)]) {
    out.push(VERSION);
    varint::put(out, states.len() as u64);
    for (id, known) in states {
        varint::put(out, id.get());
        state::encode(out, &[*known], id.tick().time());
    }
}

/// Reads what [`put_states`] packed.
pub(super) fn read_states(
    reader: &mut Reader<'_>,
) -> Result<Vec<(MessageId, MessageState)>, StoreError> {
    check(reader)?;
    let count = reader.small()? as usize;
    let mut states = Vec::with_capacity(count.min(1 << 16));
    for _ in 0..count {
        let id = read_message(reader)?;
        let known = state::decode(reader, 1, id.tick().time())?;
        states.extend(known.into_iter().map(|known| (id, known)));
    }
    Ok(states)
}

/// Packs changes of an account.
pub(super) fn put_told(out: &mut Vec<u8>, account: AccountId, changes: &[Placed]) {
    out.push(VERSION);
    varint::put(out, account.get());
    out.extend(feed::encode(changes));
}

/// Reads what [`put_told`] packed.
pub(super) fn read_told(reader: &mut Reader<'_>) -> Result<(AccountId, Vec<Placed>), StoreError> {
    check(reader)?;
    let account = read_account(reader)?;
    Ok((account, feed::decode(reader.rest())?))
}

fn check(reader: &mut Reader<'_>) -> Result<(), StoreError> {
    match reader.byte()? {
        VERSION => Ok(()),
        other => Err(reader.fault(format!("version {other}"))),
    }
}
