//! Who did what: lines that are added and never changed.

use std::sync::atomic::Ordering;

use zajil_model::id::AccountId;
use zajil_storage::{RowKey, RowWrite, StoreError, Table};

use super::records::AuditLine;
use super::rows::{decode, encode, number, read_number};
use super::{Directory, DirectoryError};

/// Lines on a page at most.
const MAX_PAGE: usize = 200;

impl Directory {
    /// Writes down who did what.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn audit(&self, account: AccountId, line: AuditLine) -> Result<(), DirectoryError> {
        let mut sort = number(line.at.as_micros().unsigned_abs()).to_vec();
        // Tells lines of one microsecond apart.
        let order = self.inner.audited.fetch_add(1, Ordering::Relaxed);
        sort.extend_from_slice(&number(order));
        let row = RowKey::new(Table::Audit, number(account.get()), sort);
        self.store()
            .write(vec![RowWrite::put(row, encode(&line))])
            .await?;
        Ok(())
    }

    /// Who did what, newest first, at most 200 lines from before the cursor; the second is where to
    /// go on, `None` at the end.
    ///
    /// # Errors
    /// `Field` when the cursor is none that was given.
    pub async fn audit_lines(
        &self,
        account: AccountId,
        before: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<AuditLine>, Option<String>), DirectoryError> {
        let before = before.map(read_cursor).transpose()?;
        let limit = limit.clamp(1, MAX_PAGE);
        let partition = number(account.get());
        let rows = self
            .store()
            .rows(Table::Audit, &partition, before.as_deref(), limit, true)
            .await?;
        let last = rows.last().filter(|_| rows.len() == limit);
        let next = last.and_then(|row| write_cursor(&row.key.sort));
        let lines = rows.iter().map(|row| decode("audit line", &row.value));
        Ok((lines.collect::<Result<_, StoreError>>()?, next))
    }
}

fn write_cursor(sort: &[u8]) -> Option<String> {
    Some(format!(
        "{}-{}",
        read_number(sort)?,
        read_number(sort.get(8..)?)?
    ))
}

fn read_cursor(text: &str) -> Result<Vec<u8>, DirectoryError> {
    let numbers = text
        .split_once('-')
        .and_then(|(at, order)| Some((at.parse::<u64>().ok()?, order.parse::<u64>().ok()?)));
    let Some((at, order)) = numbers else {
        let message = "The selected cursor is invalid.".to_owned();
        return Err(DirectoryError::Field {
            field: "cursor",
            message,
        });
    };
    Ok([number(at), number(order)].concat())
}
