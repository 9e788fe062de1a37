//! The form of rows: values are MessagePack with named members, numbers in keys are big-endian, so
//! that rows sort as their numbers do.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zajil_model::id::AccountId;
use zajil_storage::{RowKey, Store, StoreError, Table};

/// Rows that are read at once when a partition is walked: about 100 KiB.
pub(crate) const SCAN_ROWS: usize = 1_000;

/// A number as a part of a key.
pub(crate) const fn number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The number that a part of a key, or a short value, holds.
pub(crate) fn read_number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

/// A value as it is stored.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("records hold nothing that MessagePack cannot")
}

/// A stored value.
pub(crate) fn decode<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, StoreError> {
    rmp_serde::from_slice(bytes).map_err(|error| StoreError::Corrupt {
        what,
        detail: error.to_string(),
    })
}

/// The row of an entity of an account.
pub(crate) fn owned(table: Table, account: AccountId, id: u64) -> RowKey {
    RowKey::new(table, number(account.get()), number(id))
}

/// The row that makes a name unique within its kind (and account, for most kinds).
pub(crate) fn unique(kind: &str, account: Option<AccountId>, name: &[u8]) -> RowKey {
    let mut partition = Vec::with_capacity(kind.len() + 10 + name.len());
    partition.extend_from_slice(kind.as_bytes());
    partition.push(0);
    if let Some(account) = account {
        partition.extend_from_slice(&number(account.get()));
    }
    partition.extend_from_slice(name);
    RowKey::new(Table::UniqueNames, partition, [])
}

/// Reads and decodes one row.
pub(crate) async fn load<T: DeserializeOwned>(
    store: &dyn Store,
    what: &'static str,
    key: &RowKey,
) -> Result<Option<T>, StoreError> {
    store
        .row(key)
        .await?
        .map(|row| decode(what, &row.value))
        .transpose()
}

/// Reads and decodes a whole partition that is known to be small.
pub(crate) async fn load_all<T: DeserializeOwned>(
    store: &dyn Store,
    what: &'static str,
    table: Table,
    partition: &[u8],
) -> Result<Vec<T>, StoreError> {
    let mut values = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let rows = store
            .rows(table, partition, after.as_deref(), SCAN_ROWS, false)
            .await?;
        for row in &rows {
            values.push(decode(what, &row.value)?);
        }
        match rows.into_iter().next_back() {
            Some(last) => after = Some(last.key.sort),
            None => return Ok(values),
        }
    }
}
