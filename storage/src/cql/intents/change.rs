//! What an intent says, row by row.

use crate::codec::varint::{self, Reader};
use crate::{Condition, RowKey, RowWrite, StoreError, Table};

/// The form of an intent; a reader refuses others.
const VERSION: u8 = 1;

/// What becomes of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: RowKey,
    pub(super) before: Option<Vec<u8>>,
    pub(super) after: Option<Vec<u8>>,
    /// Whether its partition is written before the decision.
    pub(super) decides: bool,
}

impl Change {
    /// The write of it, if the row holds what it did.
    pub(super) fn forward(&self) -> RowWrite {
        swapped(&self.key, self.before.clone(), self.after.clone())
    }

    /// The write that takes it back, if nobody wrote since.
    pub(super) fn back(&self) -> RowWrite {
        swapped(&self.key, self.after.clone(), self.before.clone())
    }
}

fn swapped(key: &RowKey, from: Option<Vec<u8>>, to: Option<Vec<u8>>) -> RowWrite {
    RowWrite {
        key: key.clone(),
        value: to,
        condition: from.map_or(Condition::Absent, Condition::Is),
    }
}

/// Changes as bytes.
pub(super) fn encode(changes: &[Change]) -> Vec<u8> {
    let mut out = vec![VERSION];
    varint::put(&mut out, changes.len() as u64);
    let put_value = |out: &mut Vec<u8>, value: &Option<Vec<u8>>| match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            varint::put_bytes(out, value);
        }
    };
    for change in changes {
        out.extend([change.key.table as u8, u8::from(change.decides)]);
        varint::put_bytes(&mut out, &change.key.partition);
        varint::put_bytes(&mut out, &change.key.sort);
        put_value(&mut out, &change.before);
        put_value(&mut out, &change.after);
    }
    out
}

/// Reads them back.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Change>, StoreError> {
    let mut reader = Reader::new("intent", bytes);
    if reader.byte()? != VERSION {
        return Err(reader.fault("unknown version"));
    }
    let count = reader.small()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let number = reader.byte()?;
        let table =
            Table::from_number(number).ok_or_else(|| reader.fault(format!("table {number}")))?;
        let decides = reader.byte()? != 0;
        let key = RowKey::new(table, reader.bytes()?, reader.bytes()?);
        let (before, after) = (value(&mut reader)?, value(&mut reader)?);
        changes.push(Change {
            key,
            before,
            after,
            decides,
        });
    }
    Ok(changes)
}

fn value(reader: &mut Reader<'_>) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(match reader.byte()? {
        0 => None,
        _ => Some(reader.bytes()?.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_comes_back_as_it_was_written() {
        let change = |before: Option<&[u8]>, after: Option<&[u8]>, decides| Change {
            key: RowKey::new(Table::Contacts, "account", "name"),
            before: before.map(<[u8]>::to_vec),
            after: after.map(<[u8]>::to_vec),
            decides,
        };
        let changes = vec![
            change(None, Some(b"new"), true),
            change(Some(b""), None, false),
        ];

        assert_eq!(decode(&encode(&changes)), Ok(changes));
    }
}
