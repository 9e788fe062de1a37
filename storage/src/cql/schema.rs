//! The tables: numbered files, compiled in, carried out once.
//!
//! A node takes a version by a conditional write, runs its statements one by one, waits each time
//! until all nodes of the database agree, and marks the version as done. A second node waits for
//! that. A version whose node died is taken over: every statement may be run again. Versions only
//! add: an older program goes on beside a newer one until the last node is replaced.

use std::collections::HashMap;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use zajil_model::time::{Clock, Timestamp};

use super::config::{CqlConfig, CqlOpenError, Missing};
use super::db::applied;

/// Every version, in order; the first is 1.
const VERSIONS: [&str; 1] = [include_str!("../migrations/001-tables.cql")];

/// A version that is not done after this long was left by a node that died: making a table takes a
/// second or two.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// How often a node that waits for another one's version looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often a keyspace or a table is looked for that another node is making, and that is named before
/// it is there: for ten seconds.
const APPEARS_LOOKS: u32 = 40;

/// The longest name that the database takes.
const LONGEST_NAME: usize = 48;

/// Refuses names that would need quotes.
pub(super) fn check_name(name: &str) -> Result<(), CqlOpenError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let fits = name.len() <= LONGEST_NAME
        && name.bytes().all(plain)
        && name.starts_with(|first: char| first.is_ascii_lowercase());
    if fits {
        return Ok(());
    }
    Err(CqlOpenError::KeyspaceName(name.to_owned()))
}

/// Makes the keyspace and its tables, as far as they are not there, and uses the keyspace.
pub(super) async fn prepare(
    session: &Session,
    config: &CqlConfig,
    datacenter: &str,
) -> Result<(), CqlOpenError> {
    let (keyspace, copies) = (&config.keyspace, config.replication);
    if copies_kept(session, keyspace, datacenter).await?.is_none() {
        if config.missing == Missing::Refused {
            return Err(CqlOpenError::NoKeyspace(keyspace.clone()));
        }
        run(
            session,
            &format!(
                "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
                 {{'class': 'NetworkTopologyStrategy', '{datacenter}': {copies}}}"
            ),
        )
        .await?;
    }
    let found = copies_kept(session, keyspace, datacenter)
        .await?
        .unwrap_or(0);
    if found < copies {
        return Err(CqlOpenError::Replication {
            keyspace: keyspace.clone(),
            datacenter: datacenter.to_owned(),
            found,
            wanted: copies,
        });
    }
    let mut patience = Patience::begun();
    while let Err(error) = session.use_keyspace(keyspace, false).await {
        patience.wait(step("use the keyspace", &error)).await?;
    }
    run(
        session,
        "CREATE TABLE IF NOT EXISTS schema_version \
         (version int PRIMARY KEY, sum bigint, done boolean, at bigint)",
    )
    .await?;
    migrate(session, config.clock.as_ref()).await
}

/// Waits for what another node may be making just now: the database names it in its catalogue
/// before it can be used.
struct Patience {
    looks: u32,
}

impl Patience {
    const fn begun() -> Self {
        Self {
            looks: APPEARS_LOOKS,
        }
    }

    /// Waits a moment; gives the error back when that was done often enough.
    async fn wait(&mut self, error: CqlOpenError) -> Result<(), CqlOpenError> {
        let Some(left) = self.looks.checked_sub(1) else {
            return Err(error);
        };
        self.looks = left;
        tracing::debug!(%error, "the tables are not there yet");
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }
}

/// How many copies a keyspace keeps in a datacenter; `None` when there is no such keyspace.
async fn copies_kept(
    session: &Session,
    keyspace: &str,
    datacenter: &str,
) -> Result<Option<u8>, CqlOpenError> {
    let query = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let rows = session.query_unpaged(query, (keyspace,)).await;
    let rows = rows
        .map_err(|error| step("read the keyspace", &error))?
        .into_rows_result()
        .map_err(|error| step("read the keyspace", &error))?;
    let row = rows
        .maybe_first_row::<(HashMap<String, String>,)>()
        .map_err(|error| step("read the keyspace", &error))?;
    // A strategy that knows no datacenters has one number for all.
    Ok(row.map(|(replication,)| {
        let copies = replication
            .get(datacenter)
            .or_else(|| replication.get("replication_factor"));
        copies.and_then(|copies| copies.parse().ok()).unwrap_or(0)
    }))
}

/// Runs the versions that are missing.
async fn migrate(session: &Session, clock: &dyn Clock) -> Result<(), CqlOpenError> {
    let known = VERSIONS.len() as u32;
    let mut patience = Patience::begun();
    let found = loop {
        match versions(session).await {
            Ok(found) => break found,
            Err(error) => patience.wait(error).await?,
        }
    };
    let newest = found.last().map_or(0, |one| one.number);
    if newest > known {
        return Err(CqlOpenError::NewerSchema {
            found: newest,
            known,
        });
    }
    for (number, text) in (1..).zip(VERSIONS) {
        take(session, clock, number, text).await?;
    }
    Ok(())
}

/// A version of the tables that somebody began.
struct Version {
    number: u32,
    sum: i64,
    is_done: bool,
    at: Timestamp,
}

/// The versions that were begun, in order.
async fn versions(session: &Session) -> Result<Vec<Version>, CqlOpenError> {
    let rows = session
        .query_unpaged("SELECT version, sum, done, at FROM schema_version", ())
        .await
        .map_err(|error| step("read the version of the tables", &error))?
        .into_rows_result()
        .map_err(|error| step("read the version of the tables", &error))?;
    let rows = rows
        .rows::<(i32, i64, bool, i64)>()
        .map_err(|error| step("read the version of the tables", &error))?;
    let mut found = Vec::new();
    for row in rows {
        let (number, sum, is_done, at) =
            row.map_err(|error| step("read the version of the tables", &error))?;
        found.push(Version {
            number: number as u32,
            sum,
            is_done,
            at: Timestamp::from_micros(at),
        });
    }
    found.sort_unstable_by_key(|version| version.number);
    Ok(found)
}

/// Sees to it that a version is done, by this node or another one.
async fn take(
    session: &Session,
    clock: &dyn Clock,
    number: u32,
    text: &str,
) -> Result<(), CqlOpenError> {
    let sum = checksum(text);
    loop {
        let there = versions(session).await?;
        let there = there.into_iter().find(|version| version.number == number);
        let now = clock.now();
        let taken = match there {
            Some(version) if version.sum != sum => {
                return Err(CqlOpenError::ForeignSchema(number));
            }
            Some(version) if version.is_done => return Ok(()),
            Some(version) if now.since(version.at) < ABANDONED_AFTER => false,
            Some(version) => {
                let values = (now.as_micros(), number as i32, version.at.as_micros());
                let query = "UPDATE schema_version SET at = ? WHERE version = ? IF at = ?";
                conditional(session, query, values).await?
            }
            None => {
                let values = (number as i32, sum, false, now.as_micros());
                let query = "INSERT INTO schema_version (version, sum, done, at) \
                             VALUES (?, ?, ?, ?) IF NOT EXISTS";
                conditional(session, query, values).await?
            }
        };
        if taken {
            for statement in statements(text) {
                run(session, &statement).await?;
            }
            let query = "UPDATE schema_version SET done = true WHERE version = ? IF sum = ?";
            conditional(session, query, (number as i32, sum)).await?;
            tracing::info!(version = number, "the tables of the store were made");
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn conditional(
    session: &Session,
    query: &str,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<bool, CqlOpenError> {
    let result = session.query_unpaged(query, values).await;
    let result = result.map_err(|error| step("take a version of the tables", &error))?;
    applied(result).map_err(CqlOpenError::Store)
}

/// Runs a statement that makes something; that it is there already is as good.
async fn run(session: &Session, statement: &str) -> Result<(), CqlOpenError> {
    match session.query_unpaged(statement, ()).await {
        Ok(_)
        | Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::AlreadyExists { .. },
            _,
        ))) => Ok(()),
        Err(error) => Err(step(statement, &error)),
    }
}

/// The statements of a file, without its comments.
fn statements(text: &str) -> Vec<String> {
    let code = text
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default().trim());
    let code = code.collect::<Vec<_>>().join(" ");
    let each = code.split(';').map(|statement| statement.trim().to_owned());
    each.filter(|statement| !statement.is_empty()).collect()
}

/// Tells one file from another; whitespace and comments do not count.
fn checksum(text: &str) -> i64 {
    i64::from(crc32c::crc32c(statements(text).join(";").as_bytes()))
}

fn step(operation: impl Into<String>, reason: &impl ToString) -> CqlOpenError {
    CqlOpenError::Step {
        operation: operation.into(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_file_is_read_as_its_statements() {
        let text = "-- Why; and how.\nCREATE TABLE a (b int\n  PRIMARY KEY);\n\nALTER TABLE a;\n";

        assert_eq!(
            statements(text),
            ["CREATE TABLE a (b int PRIMARY KEY)", "ALTER TABLE a"]
        );
    }

    #[test]
    fn tables_of_a_later_or_another_program_are_refused_by_name() {
        testing::Ground::with(async |ground| {
            let newer =
                "INSERT INTO schema_version (version, sum, done, at) VALUES (1000, 1, true, 1)";
            let gone = "DELETE FROM schema_version WHERE version = 1000";
            let other = "UPDATE schema_version SET sum = 7 WHERE version = 1";
            let refused = async || ground.refused().await.to_string();

            ground.run(newer).await;
            let of_newer = refused().await;
            ground.run(gone).await;
            ground.run(other).await;
            let of_other = refused().await;

            assert!(
                of_newer.contains("the tables are of version 1000"),
                "{of_newer}"
            );
            assert!(
                of_other.contains("made by a program that differs"),
                "{of_other}"
            );
        });
    }

    #[test]
    fn names_that_would_need_quotes_are_refused() {
        for name in ["", "Zajil", "9lives", "a-b", "a;b", &"a".repeat(49)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("zajil_1").is_ok());
    }
}
