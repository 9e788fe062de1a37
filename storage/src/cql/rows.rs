//! Rows: read, and written within one partition.
//!
//! A row that is ever written under a condition is only written that way: the database orders such
//! writes by its own clock and others by ours, and one clock ahead of the other would lose a write.
//! So every table but the [`PLAIN`] ones is written by compare-and-set, without a condition too.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::row::unmet;
use crate::{Condition, Row, RowKey, RowWrite, StoreError, Table, Written};

use super::db::{Db, FIRST_PAUSE};
use super::statements::Kind;

/// Tables that nobody writes under a condition: what one owner overwrites often, and lines that are
/// only added.
const PLAIN: [Table; 3] = [Table::Checkpoints, Table::Audit, Table::RefusedRows];

/// Tables that decide who may do something: read so that no answered write is missed.
const DECIDING: [Table; 6] = [
    Table::UniqueNames,
    Table::Idempotency,
    Table::Buckets,
    Table::Leases,
    Table::ShardOwners,
    Table::DayCaps,
];

/// The deciding table that is read as a whole, by every node, again and again. Who changes a row of it
/// names the one that it saw, so a scan may miss a change that is under way; and one that looks for those
/// takes part in the same agreement, where it hinders the change itself.
const SCANNED: Table = Table::ShardOwners;

/// How often a conditional write is begun again because others got in between, or its outcome is
/// not known.
const ROUNDS: u32 = 8;

/// Rows that a page of a listing begins with at most.
const FIRST_PAGE: usize = 256;

/// Whether a table is written without compare-and-set.
pub(super) fn is_plain(table: Table) -> bool {
    PLAIN.contains(&table)
}

/// Reads one row.
pub(super) async fn row(db: &Db, key: &RowKey) -> Result<Option<Vec<u8>>, StoreError> {
    let statement = if DECIDING.contains(&key.table) {
        &db.statements.rows.get_serial
    } else {
        &db.statements.rows.get
    };
    let found = db
        .first::<(Option<Vec<u8>>,)>(statement, named(key))
        .await
        .map_err(|failed| failed.of("read a row"))?;
    Ok(found.and_then(|(value,)| value))
}

/// Reads one row after every conditional write of it that was answered.
pub(super) async fn decided(db: &Db, key: &RowKey) -> Result<Option<Vec<u8>>, StoreError> {
    let found = db
        .first::<(Option<Vec<u8>>,)>(&db.statements.rows.get_serial, named(key))
        .await
        .map_err(|failed| failed.of("read a row"))?;
    Ok(found.and_then(|(value,)| value))
}

fn named(key: &RowKey) -> (i8, &[u8], &[u8]) {
    (key.table as i8, &key.partition, &key.sort)
}

/// Reads rows of a partition, in order.
pub(super) async fn rows(
    db: &Db,
    table: Table,
    partition: &[u8],
    after: Option<&[u8]>,
    limit: usize,
    reverse: bool,
) -> Result<Vec<Row>, StoreError> {
    let mut found = Vec::new();
    let visit = |(sort, value): (Vec<u8>, Option<Vec<u8>>)| {
        if let Some(value) = value {
            let key = RowKey::new(table, partition, sort);
            found.push(Row { key, value });
        }
        if found.len() < limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    if limit == 0 {
        return Ok(Vec::new());
    }
    let (tab, page, all) = (table as i8, limit.min(FIRST_PAGE), &db.statements);
    let read = match (after, reverse) {
        (None, false) if DECIDING.contains(&table) && table != SCANNED => {
            db.each(&all.rows.up_serial, page, (tab, partition), visit)
                .await
        }
        (None, false) => db.each(&all.rows.up, page, (tab, partition), visit).await,
        (None, true) => db.each(&all.rows.down, page, (tab, partition), visit).await,
        (Some(after), false) => {
            db.each(&all.rows.up_after, page, (tab, partition, after), visit)
                .await
        }
        (Some(after), true) => {
            db.each(&all.rows.down_after, page, (tab, partition, after), visit)
                .await
        }
    };
    read.map_err(|failed| failed.of("read rows"))?;
    Ok(found)
}

/// A row's new value, with a timestamp.
type Put<'a> = (i64, Option<&'a [u8]>, i8, &'a [u8], &'a [u8]);

/// Writes rows of one partition without a condition, the later of two such writes winning.
pub(super) async fn put(
    db: &Db,
    rows: &[(&RowKey, Option<&[u8]>)],
    stamp: i64,
) -> Result<(), super::failed::Failed> {
    let put =
        |(key, value): &(&RowKey, Option<&[u8]>)| -> (i64, Option<Vec<u8>>, i8, Vec<u8>, Vec<u8>) {
            (
                stamp,
                value.map(<[u8]>::to_vec),
                key.table as i8,
                key.partition.clone(),
                key.sort.clone(),
            )
        };
    match rows {
        [] => Ok(()),
        [(key, value)] => {
            let values: Put<'_> = (stamp, *value, key.table as i8, &key.partition, &key.sort);
            db.write(&db.statements.sets.put, values).await
        }
        many => {
            let writes = many.iter().map(|row| (&db.statements.sets.put, put(row)));
            db.batch(Kind::Append, writes.collect()).await.map(drop)
        }
    }
}

/// Writes rows of one partition, if every condition holds.
pub(super) async fn write(db: &Db, rows: &[RowWrite]) -> Result<Written, StoreError> {
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    for _ in 0..ROUNDS {
        match attempt(db, rows).await? {
            Attempt::Written(written) => return Ok(written),
            Attempt::Again(reason) => last = reason.or(last),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    Err(StoreError::Io {
        operation: "write rows",
        reason: last.unwrap_or_else(|| "others write them all the time".to_owned()),
    })
}

enum Attempt {
    Written(Written),
    /// It was not written: others got in between, or the database failed for this reason.
    Again(Option<String>),
}

async fn attempt(db: &Db, rows: &[RowWrite]) -> Result<Attempt, StoreError> {
    let mut rows = rows.to_vec();
    let wanted: Vec<Condition> = rows.iter().map(|row| row.condition.clone()).collect();
    if wanted.iter().all(|condition| *condition == Condition::None) {
        // The first carries the others: on what it holds now.
        let Some(first) = rows.first_mut() else {
            return Ok(Attempt::Written(Written::Applied));
        };
        let current = decided(db, &first.key).await?;
        first.condition = current.map_or(Condition::Absent, Condition::Is);
    }
    match swap(db, &rows).await {
        Ok(true) => Ok(Attempt::Written(Written::Applied)),
        Ok(false) => {
            for (row, condition) in rows.iter().zip(&wanted) {
                if *condition != Condition::None {
                    let current = decided(db, &row.key).await?;
                    if unmet(condition, current.as_deref()) {
                        let key = row.key.clone();
                        return Ok(Attempt::Written(Written::Conflict { key, current }));
                    }
                }
            }
            Ok(Attempt::Again(None))
        }
        Err(failed) if failed.had_no_effect => Ok(Attempt::Again(Some(failed.reason))),
        Err(failed) => look(db, &rows, failed).await,
    }
}

/// Finds out what became of a write whose answer was lost.
async fn look(
    db: &Db,
    rows: &[RowWrite],
    failed: super::failed::Failed,
) -> Result<Attempt, StoreError> {
    crate::metrics::cql_unknown("rows");
    let (mut is_there, mut may_be_repeated) = (true, true);
    for row in rows {
        let current = decided(db, &row.key).await?;
        is_there &= current == row.value;
        may_be_repeated &= !unmet(&row.condition, current.as_deref());
    }
    if is_there {
        return Ok(Attempt::Written(Written::Applied));
    }
    if may_be_repeated {
        return Ok(Attempt::Again(Some(failed.reason)));
    }
    // Either it was not written and others wrote, or it was and others wrote later.
    Err(failed.of("write rows"))
}

/// A row's new value, and what it held before.
type Swap = (Option<Vec<u8>>, i8, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// A row's new value.
type Set = (Option<Vec<u8>>, i8, Vec<u8>, Vec<u8>);

/// Writes rows of one partition by compare-and-set, at least one of them under a condition.
pub(super) async fn swap(db: &Db, rows: &[RowWrite]) -> Result<bool, super::failed::Failed> {
    let set = |row: &RowWrite| -> Set {
        let key = row.key.clone();
        (row.value.clone(), key.table as i8, key.partition, key.sort)
    };
    let swap = |row: &RowWrite, before: Option<Vec<u8>>| -> Swap {
        let (value, table, partition, sort) = set(row);
        (value, table, partition, sort, before)
    };
    let all = &db.statements;
    if let [row] = rows {
        return match &row.condition {
            Condition::None => db.write(&all.sets.set, set(row)).await.map(|()| true),
            Condition::Present => db.swap(&all.sets.present, set(row)).await,
            Condition::Absent => db.swap(&all.sets.swap, swap(row, None)).await,
            Condition::Is(value) => {
                db.swap(&all.sets.swap, swap(row, Some(value.clone())))
                    .await
            }
        };
    }
    let writes = rows.iter().map(|row| match &row.condition {
        Condition::None => (&all.sets.set, Either::Set(set(row))),
        Condition::Present => (&all.sets.present, Either::Set(set(row))),
        Condition::Absent => (&all.sets.swap, Either::Swap(swap(row, None))),
        Condition::Is(value) => (&all.sets.swap, Either::Swap(swap(row, Some(value.clone())))),
    });
    db.batch(Kind::Conditional, writes.collect()).await
}

/// Values of the statements of one batch.
enum Either {
    Set(Set),
    Swap(Swap),
}

impl scylla::serialize::row::SerializeRow for Either {
    fn serialize(
        &self,
        ctx: &scylla::serialize::row::RowSerializationContext<'_>,
        writer: &mut scylla::serialize::writers::RowWriter<'_>,
    ) -> Result<(), scylla::errors::SerializationError> {
        match self {
            Self::Set(values) => values.serialize(ctx, writer),
            Self::Swap(values) => values.serialize(ctx, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}
