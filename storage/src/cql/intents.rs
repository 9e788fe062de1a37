//! Writes to several partitions, of which all happen or none.
//!
//! The database changes one partition at a time. So what is to be written is written down first: an
//! *intent*, with what each row held before. Then come the partitions with conditions, one after the
//! other; where one fails, those before it are put back. Then the others, and the intent goes. Who
//! dies in between leaves an intent, and whoever finds it a minute later finishes it: forward if
//! every condition held, else back.
//!
//! All or nothing in the end, but not at once: in between, others may see some rows and not yet the
//! others. Rows are put back, and finished later, only where they still hold what this write put or
//! found there, so that nobody's later write is lost.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use zajil_model::time::{Mono, Timestamp};

use super::db::Db;
use super::rows::{self, decided, is_plain};
use super::tools::random;
use crate::row::unmet;
use crate::{Condition, RowKey, RowWrite, StoreError, Table, Written};

mod change;

use change::{Change, decode, encode};

/// Partitions of intents: few, since all are read to find those left behind.
const BUCKETS: i8 = 16;

/// An intent this old has no live writer.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// A writer that is slower than this leaves its intent to others: long before anybody takes it for
/// dead, and longer than two requests may take.
const WRITER_GIVES_UP: Duration = Duration::from_secs(25);

/// Every condition held: it goes forward whatever happens.
const FORWARD: i8 = 1;

/// It was given up: it goes back.
const BACK: i8 = 2;

/// How often a row without a condition is written again because others got in between.
const ROUNDS: usize = 8;

/// Which intent.
#[derive(Clone, Copy, Debug)]
struct IntentId {
    bucket: i8,
    id: i64,
}

/// Writes rows if every condition holds, and nothing otherwise.
pub(super) async fn write(db: &Db, rows: Vec<RowWrite>) -> Result<Written, StoreError> {
    let mut parts: BTreeMap<(Table, Vec<u8>), Vec<RowWrite>> = BTreeMap::new();
    for row in &rows {
        let part = (row.key.table, row.key.partition.clone());
        parts.entry(part).or_default().push(row.clone());
    }
    if rows
        .iter()
        .all(|row| is_plain(row.key.table) && row.condition == Condition::None)
    {
        return put_all(db, parts.into_values()).await;
    }
    if parts.len() == 1 {
        return rows::write(db, &rows).await;
    }
    let changes = match changes(db, &rows).await? {
        Ok(changes) => changes,
        Err(conflict) => return Ok(conflict),
    };
    carry_out(db, &rows, changes).await
}

/// Writes rows of tables that nobody writes under a condition.
async fn put_all(
    db: &Db,
    parts: impl Iterator<Item = Vec<RowWrite>>,
) -> Result<Written, StoreError> {
    let stamp = db.stamp();
    for part in parts {
        let rows: Vec<_> = part
            .iter()
            .map(|row| (&row.key, row.value.as_deref()))
            .collect();
        rows::put(db, &rows, stamp)
            .await
            .map_err(|failed| failed.of("write rows"))?;
    }
    Ok(Written::Applied)
}

/// What every row holds now and is to hold; or the first whose condition does not hold.
async fn changes(db: &Db, rows: &[RowWrite]) -> Result<Result<Vec<Change>, Written>, StoreError> {
    let decides = |key: &RowKey| {
        rows.iter().any(|other| {
            (other.key.table, &other.key.partition) == (key.table, &key.partition)
                && other.condition != Condition::None
        })
    };
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        let before = match &row.condition {
            Condition::Absent => None,
            Condition::Is(value) => Some(value.clone()),
            Condition::None | Condition::Present => decided(db, &row.key).await?,
        };
        if row.condition == Condition::Present && before.is_none() {
            let (key, current) = (row.key.clone(), None);
            return Ok(Err(Written::Conflict { key, current }));
        }
        changes.push(Change {
            key: row.key.clone(),
            before,
            after: row.value.clone(),
            decides: decides(&row.key),
        });
    }
    Ok(Ok(changes))
}

async fn carry_out(
    db: &Db,
    rows: &[RowWrite],
    changes: Vec<Change>,
) -> Result<Written, StoreError> {
    let begun = db.clock.mono();
    let id = begin(db, &changes).await?;
    let parts = parts(&changes, true);
    for (place, part) in parts.iter().enumerate() {
        in_time(db, begun)?;
        match rows::write(db, &part.iter().map(Change::forward).collect::<Vec<_>>()).await? {
            Written::Applied => {}
            Written::Conflict { .. } => {
                put_back(db, &parts[..place]).await?;
                drop_intent(db, id).await;
                return conflict(db, rows).await;
            }
        }
    }
    in_time(db, begun)?;
    // With one partition its own write decided.
    if parts.len() > 1 && !decide(db, id, FORWARD).await? {
        put_back(db, &parts).await?;
        return Err(slow());
    }
    for part in self::parts(&changes, false) {
        for change in part {
            write_whatever(db, &change).await?;
        }
    }
    drop_intent(db, id).await;
    Ok(Written::Applied)
}

/// The changes by partition, those that decide or the others, in a fixed order: of two writes that
/// meet, one is first everywhere.
fn parts(changes: &[Change], deciding: bool) -> Vec<Vec<Change>> {
    let mut parts: BTreeMap<(Table, &[u8]), Vec<Change>> = BTreeMap::new();
    for change in changes.iter().filter(|change| change.decides == deciding) {
        let part = (change.key.table, change.key.partition.as_slice());
        parts.entry(part).or_default().push(change.clone());
    }
    parts.into_values().collect()
}

/// Fails when others may take the writer for dead soon.
fn in_time(db: &Db, begun: Mono) -> Result<(), StoreError> {
    if db.clock.mono().since(begun) < WRITER_GIVES_UP {
        return Ok(());
    }
    Err(slow())
}

fn slow() -> StoreError {
    StoreError::Io {
        operation: "write rows of several partitions",
        reason: "it took too long and is finished by others".to_owned(),
    }
}

/// Writes a row without a condition, whatever others make of it meanwhile.
async fn write_whatever(db: &Db, change: &Change) -> Result<(), StoreError> {
    if is_plain(change.key.table) {
        let row = [(&change.key, change.after.as_deref())];
        let put = rows::put(db, &row, db.stamp()).await;
        return put.map_err(|failed| failed.of("write rows"));
    }
    let mut write = change.forward();
    for _ in 0..ROUNDS {
        match rows::write(db, std::slice::from_ref(&write)).await? {
            Written::Applied => return Ok(()),
            Written::Conflict { current, .. } => {
                write.condition = current.map_or(Condition::Absent, Condition::Is);
            }
        }
    }
    Err(StoreError::Io {
        operation: "write rows",
        reason: "others write them all the time".to_owned(),
    })
}

/// Takes back what was written, where nobody wrote since.
async fn put_back(db: &Db, parts: &[Vec<Change>]) -> Result<(), StoreError> {
    for change in parts.iter().flatten() {
        rows::write(db, &[change.back()]).await?;
    }
    Ok(())
}

/// The first condition of the caller's that does not hold; one of them did not a moment ago.
async fn conflict(db: &Db, rows: &[RowWrite]) -> Result<Written, StoreError> {
    for row in rows {
        if row.condition == Condition::None {
            continue;
        }
        let current = decided(db, &row.key).await?;
        if unmet(&row.condition, current.as_deref()) {
            let key = row.key.clone();
            return Ok(Written::Conflict { key, current });
        }
    }
    Err(StoreError::Io {
        operation: "write rows",
        reason: "others wrote them at the same time".to_owned(),
    })
}

async fn begin(db: &Db, changes: &[Change]) -> Result<IntentId, StoreError> {
    let number = random() as i64;
    let id = IntentId {
        bucket: number.rem_euclid(i64::from(BUCKETS)) as i8,
        id: number,
    };
    let values = (
        id.bucket,
        id.id,
        db.clock.now().as_micros(),
        encode(changes),
    );
    let put = db.write(&db.statements.intents.put, values).await;
    put.map_err(|failed| failed.of("write an intent"))?;
    Ok(id)
}

/// Decides an intent; answers whether it is decided that way, by whomever.
async fn decide(db: &Db, id: IntentId, way: i8) -> Result<bool, StoreError> {
    let swapped = db
        .swap(&db.statements.intents.decide, (way, id.bucket, id.id))
        .await;
    if matches!(swapped, Ok(true)) {
        return Ok(true);
    }
    let state = db
        .first::<(Option<i8>,)>(&db.statements.intents.state, (id.bucket, id.id))
        .await
        .map_err(|failed| failed.of("decide an intent"))?;
    Ok(state.is_some_and(|(state,)| state == Some(way)))
}

/// Forgets an intent; one that stays is found to be done later.
async fn drop_intent(db: &Db, id: IntentId) {
    let dropped = db.write(&db.statements.intents.drop, (id.bucket, id.id));
    if let Err(failed) = dropped.await {
        tracing::debug!(reason = failed.reason, "an intent stays for a while");
    }
}

/// Finishes what dead writers left; answers how many.
pub(super) async fn finish_abandoned(db: &Db) -> Result<usize, StoreError> {
    finish_begun(db, ABANDONED_AFTER).await
}

/// Finishes what was begun so long ago, by writers that are known to be gone; answers how many.
pub(super) async fn finish_begun(db: &Db, age: Duration) -> Result<usize, StoreError> {
    let mut found = Vec::new();
    let now = db.clock.now();
    for bucket in 0..BUCKETS {
        type Stored = (i64, Option<i64>, Option<Vec<u8>>, Option<i8>);
        let visit = |(id, begun, changes, state): Stored| {
            let begun = Timestamp::from_micros(begun.unwrap_or(0));
            if now.since(begun) >= age {
                found.push((IntentId { bucket, id }, changes, state));
            }
            ControlFlow::Continue(())
        };
        db.each(&db.statements.intents.all, 64, (bucket,), visit)
            .await
            .map_err(|failed| failed.of("read the intents"))?;
    }
    let count = found.len();
    for (id, changes, state) in found {
        // Without its changes it is what is left of one that was dropped.
        if let Some(changes) = changes {
            finish(db, id, &decode(&changes)?, state).await?;
        }
        drop_intent(db, id).await;
    }
    Ok(count)
}

async fn finish(
    db: &Db,
    id: IntentId,
    changes: &[Change],
    state: Option<i8>,
) -> Result<(), StoreError> {
    let deciding = parts(changes, true);
    let forward = match state {
        Some(way) => way == FORWARD,
        None if deciding.len() == 1 => {
            let mut is_written = true;
            for change in &deciding[0] {
                is_written &= decided(db, &change.key).await? == change.after;
            }
            is_written
        }
        // Without a condition it always goes forward.
        None if deciding.is_empty() => true,
        None => !decide(db, id, BACK).await?,
    };
    tracing::info!(forward, "a write that was left behind is finished");
    if !forward {
        return put_back(db, &deciding).await;
    }
    for change in parts(changes, false).iter().flatten() {
        // Only where nobody wrote since.
        rows::write(db, &[change.forward()]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Ground;
    use super::*;

    fn change(of: &str, before: Option<&str>, after: Option<&str>, decides: bool) -> Change {
        let bytes = |value: Option<&str>| value.map(|value| value.as_bytes().to_vec());
        Change {
            key: RowKey::new(Table::Contacts, of, "sort"),
            before: bytes(before),
            after: bytes(after),
            decides,
        }
    }

    #[test]
    fn what_a_dead_writer_decided_is_finished_and_what_it_did_not_is_put_back() {
        Ground::with(async |ground| {
            let db = &ground.db;
            let decided = [
                change("name", None, Some("1"), true),
                change("index", None, Some("1"), false),
            ];
            let open = [
                change("first", None, Some("2"), true),
                change("second", None, Some("2"), true),
                change("other", None, Some("2"), false),
            ];
            let begun = [
                change("third", None, Some("3"), true),
                change("fourth", None, Some("3"), false),
            ];
            // Each writer dies after this much.
            for (changes, written) in [(&decided[..], 1), (&open[..], 1), (&begun[..], 0)] {
                begin(db, changes).await.unwrap();
                for change in &changes[..written] {
                    rows::write(db, &[change.forward()]).await.unwrap();
                }
            }

            let early = finish_abandoned(db).await.unwrap();
            ground.clock.later(ABANDONED_AFTER);
            let late = finish_abandoned(db).await.unwrap();
            let again = finish_abandoned(db).await.unwrap();

            assert_eq!((early, late, again), (0, 3, 0));
            let mut there = Vec::new();
            for change in decided.iter().chain(&open).chain(&begun) {
                let value = super::decided(db, &change.key).await.unwrap();
                there.extend(value.map(|_| change.key.partition.clone()));
            }
            assert_eq!(there, [b"name".to_vec(), b"index".to_vec()]);
        });
    }
}
