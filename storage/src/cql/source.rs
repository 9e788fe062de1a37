//! Everything in a keyspace, to be exported.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use zajil_model::id::Shard;

use super::db::Db;
use super::{CqlStore, Shared, intents, view};
use crate::row::{Row, RowKey, Table};
use crate::transfer::{AllRows, Part, Source, unfinished_row};
use crate::{Store, StoreError};

/// Shards that are read at once.
const AT_ONCE: usize = 32;

/// Rows of the first page of a scan of all.
const FIRST_PAGE: usize = 256;

/// What a keyspace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Nothing.
    Nothing,
    /// Part of what an import should have brought.
    Unfinished,
    /// Something.
    Something,
}

impl CqlStore {
    /// Everything that is in the keyspace, to be exported. Nobody may write meanwhile: every node has
    /// to be stopped. What one that was killed had begun is finished first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn source(&self) -> Result<Source, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { source(&shared).await }).await
    }

    /// Whether there is something in the keyspace.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn contents(&self) -> Result<Contents, StoreError> {
        if self.row(&unfinished_row()).await?.is_some() {
            return Ok(Contents::Unfinished);
        }
        let db = Arc::clone(&self.shared.db);
        self.run(async move {
            let mut found = Contents::Nothing;
            let visit = |_: Columns| {
                found = Contents::Something;
                ControlFlow::Break(())
            };
            let read = db.each(&db.statements.rows.all, 1, (), visit).await;
            read.map_err(|failed| failed.of("read rows"))?;
            Ok(found)
        })
        .await
    }
}

async fn source(shared: &Arc<Shared>) -> Result<Source, StoreError> {
    intents::finish_begun(&shared.db, Duration::ZERO).await?;
    let mut reading = JoinSet::new();
    let mut found = Vec::new();
    for shard in Shard::all() {
        if reading.len() >= AT_ONCE
            && let Some(read) = reading.join_next().await
        {
            found.push(read.unwrap_or(Err(StoreError::Closed))?);
        }
        let shared = Arc::clone(shared);
        reading.spawn(async move { Ok((shard, view::lasting(&shared, shard).await?)) });
    }
    while let Some(read) = reading.join_next().await {
        found.push(read.unwrap_or(Err(StoreError::Closed))?);
    }
    let (mut parts, mut ceilings) = (Vec::new(), BTreeMap::new());
    for (shard, read) in found {
        if let Some((projection, ids)) = read {
            let part: Arc<dyn Part> = Arc::new(projection);
            parts.push(part);
            ceilings.insert(shard, ids);
        }
    }
    Ok(Source {
        kind: "cql",
        parts,
        rows: Arc::new(CqlRows {
            db: Arc::clone(&shared.db),
            handle: shared.means.handle.clone(),
        }),
        ceilings,
    })
}

/// Table, partition, sort key and value of a row.
type Columns = (i8, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// The rows of a keyspace.
struct CqlRows {
    db: Arc<Db>,
    handle: Handle,
}

impl fmt::Debug for CqlRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CqlRows").finish_non_exhaustive()
    }
}

impl AllRows for CqlRows {
    fn each(&self, visit: &mut dyn FnMut(Row) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut result = Ok(());
        let mut take = |(table, partition, sort, value): Columns| {
            // What was deleted may still be there, without a value.
            let Some(value) = value else { return Ok(()) };
            let unknown = || StoreError::Corrupt {
                what: "row",
                detail: format!("table {table}"),
            };
            let table = u8::try_from(table).ok().and_then(Table::from_number);
            let key = RowKey::new(table.ok_or_else(unknown)?, partition, sort);
            visit(Row { key, value })
        };
        let each = |columns: Columns| {
            result = take(columns);
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let all = &self.db.statements.rows.all;
        let read = self
            .handle
            .block_on(self.db.each(all, FIRST_PAGE, (), each));
        read.map_err(|failed| failed.of("read rows"))?;
        result
    }
}
