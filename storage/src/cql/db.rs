//! The connection to the database: requests, what they are counted as, and what their errors say.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use scylla::client::PoolSize;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::frame::Compression;
use scylla::response::PagingState;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::value::{CqlValue, Row};
use zajil_model::time::{Clock, Mono};

use super::config::{CqlConfig, CqlOpenError, Unreachable};
use super::failed::{Failed, had_no_effect, unreadable};
use super::schema;
use super::statements::{Kind, Prepared, Profiles, Statements};
use crate::{StoreError, metrics};

/// Connections to a server without shards of its own: one would make large appends wait for each
/// other.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(2).expect("more than none");

/// How long a dead connection is believed in.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Most scans want a row or two, some want all: each page is this many times as long as the one
/// before.
const PAGE_GROWTH: i32 = 8;

/// The pause before the first repetition, and the longest: a database that restarts is not hit
/// by all shards at once, and is noticed soon.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// See [`FIRST_PAUSE`].
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The database.
pub(super) struct Db {
    pub(super) session: Session,
    pub(super) statements: Statements,
    pub(super) clock: Arc<dyn Clock>,
    profiles: Profiles,
    /// The last timestamp that was given to a write of a row.
    stamped: AtomicI64,
    /// Requests of each kind.
    asked: [AtomicU64; Kind::ALL.len()],
    /// Since when every request failed, in nanoseconds of the clock; 0 when the last one did not.
    failing: AtomicU64,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

impl Db {
    /// Connects, and makes the tables that are missing.
    pub(super) async fn connect(config: &CqlConfig) -> Result<Self, CqlOpenError> {
        schema::check_name(&config.keyspace)?;
        let session = session(config).await?;
        let datacenter = datacenter(&session, config)?;
        schema::prepare(&session, config, &datacenter).await?;
        let profiles = Profiles::new(&datacenter, config.timeouts);
        let statements = Statements::prepare(&session, &profiles).await;
        let statements = statements.map_err(|error| CqlOpenError::Step {
            operation: "prepare the statements".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            session,
            statements,
            clock: Arc::clone(&config.clock),
            profiles,
            stamped: AtomicI64::new(0),
            asked: Default::default(),
            failing: AtomicU64::new(0),
        })
    }

    /// How many requests of each kind were made.
    pub(super) fn requests(&self) -> Vec<(&'static str, u64)> {
        let count =
            |(kind, asked): (Kind, &AtomicU64)| (kind.label(), asked.load(Ordering::Relaxed));
        Kind::ALL.into_iter().zip(&self.asked).map(count).collect()
    }

    /// For how long every request has failed, if the last one did.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        let since = self.failing.load(Ordering::Relaxed);
        (since != 0).then(|| self.clock.mono().since(Mono::from_nanos(since)))
    }

    /// A time for a plain write of a row, later than every one before.
    pub(super) fn stamp(&self) -> i64 {
        let now = self.clock.now().as_micros();
        let later = |last: i64| Some(now.max(last + 1));
        let before = self
            .stamped
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
        now.max(before.unwrap_or_default() + 1)
    }

    /// Somebody gave this time to a write; later ones come after it.
    pub(super) fn seen(&self, stamp: i64) {
        self.stamped.fetch_max(stamp, Ordering::AcqRel);
    }

    /// Carries out a write without a condition.
    pub(super) async fn write(
        &self,
        prepared: &Prepared,
        values: impl SerializeRow,
    ) -> Result<(), Failed> {
        self.run(prepared, values).await.map(drop)
    }

    /// Carries out a write under a condition; answers whether it held.
    pub(super) async fn swap(
        &self,
        prepared: &Prepared,
        values: impl SerializeRow,
    ) -> Result<bool, Failed> {
        applied(self.run(prepared, values).await?).map_err(|error| Failed {
            reason: error.to_string(),
            had_no_effect: false,
        })
    }

    async fn run(
        &self,
        prepared: &Prepared,
        values: impl SerializeRow,
    ) -> Result<QueryResult, Failed> {
        let asked = Asked::now(self, prepared.kind);
        let result = self
            .session
            .execute_unpaged(&prepared.statement, values)
            .await;
        asked.answered(result)
    }

    /// Carries out several writes of one partition together; answers whether their conditions held.
    pub(super) async fn batch<V: SerializeRow>(
        &self,
        kind: Kind,
        writes: Vec<(&Prepared, V)>,
    ) -> Result<bool, Failed> {
        let asked = Asked::now(self, kind);
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_execution_profile_handle(Some(self.profiles.handle(kind)));
        batch.set_is_idempotent(kind != Kind::Conditional);
        let mut values = Vec::with_capacity(writes.len());
        for (prepared, value) in writes {
            batch.append_statement(prepared.statement.clone());
            values.push(value);
        }
        let result = asked.answered(self.session.batch(&batch, values).await)?;
        if kind != Kind::Conditional {
            return Ok(true);
        }
        applied(result).map_err(|error| Failed {
            reason: error.to_string(),
            had_no_effect: false,
        })
    }

    /// The first row of a read.
    pub(super) async fn first<R>(
        &self,
        prepared: &Prepared,
        values: impl SerializeRow,
    ) -> Result<Option<R>, Failed>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let rows = self.run(prepared, values).await?.into_rows_result();
        let rows = rows.map_err(|error| unreadable(&error))?;
        rows.maybe_first_row::<R>()
            .map_err(|error| unreadable(&error))
    }

    /// Visits the rows of a read until `visit` breaks, in pages that begin with `first_page` rows
    /// and grow.
    pub(super) async fn each<R>(
        &self,
        prepared: &Prepared,
        first_page: usize,
        values: impl SerializeRow,
        mut visit: impl FnMut(R) -> ControlFlow<()>,
    ) -> Result<(), Failed>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let mut statement = prepared.statement.clone();
        let most = statement.get_page_size();
        let mut page = i32::try_from(first_page).unwrap_or(most).clamp(1, most);
        let mut paging = PagingState::start();
        loop {
            statement.set_page_size(page);
            let asked = Asked::now(self, prepared.kind);
            let answer = self
                .session
                .execute_single_page(&statement, &values, paging)
                .await;
            let (result, rest) = match answer {
                Ok((result, rest)) => (asked.answered(Ok(result))?, rest),
                Err(error) => return asked.answered(Err(error)).map(drop),
            };
            let rows = result
                .into_rows_result()
                .map_err(|error| unreadable(&error))?;
            for row in rows.rows::<R>().map_err(|error| unreadable(&error))? {
                if visit(row.map_err(|error| unreadable(&error))?).is_break() {
                    return Ok(());
                }
            }
            match rest.into_paging_control_flow() {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(next) => paging = next,
            }
            page = (page * PAGE_GROWTH).min(most);
        }
    }
}

/// A request on its way, to be counted.
struct Asked<'a> {
    db: &'a Db,
    kind: Kind,
    begun: Mono,
}

impl<'a> Asked<'a> {
    fn now(db: &'a Db, kind: Kind) -> Self {
        metrics::cql_asked(kind.label());
        db.asked[kind as usize].fetch_add(1, Ordering::Relaxed);
        Self {
            db,
            kind,
            begun: db.clock.mono(),
        }
    }

    fn answered(self, result: Result<QueryResult, ExecutionError>) -> Result<QueryResult, Failed> {
        match result {
            Ok(result) => {
                result
                    .warnings()
                    .for_each(|warning| tracing::warn!(warning, "the database warns"));
                self.db.failing.store(0, Ordering::Relaxed);
                self.done("ok");
                Ok(result)
            }
            Err(error) => {
                let had_no_effect = had_no_effect(&error);
                let (never, since) = (0, self.begun.as_nanos().max(1));
                let order = Ordering::Relaxed;
                // Failing already is as good.
                self.db
                    .failing
                    .compare_exchange(never, since, order, order)
                    .ok();
                self.done(if had_no_effect { "refused" } else { "unknown" });
                Err(Failed {
                    reason: error.to_string(),
                    had_no_effect,
                })
            }
        }
    }

    fn done(&self, outcome: &'static str) {
        let took = self.db.clock.mono().since(self.begun);
        metrics::cql_answered(self.kind.label(), outcome, took);
    }
}

/// What a conditional write answers: its first column, whatever else is in it.
pub(super) fn applied(result: QueryResult) -> Result<bool, StoreError> {
    let odd = |detail: String| StoreError::Corrupt {
        what: "answer to a conditional write",
        detail,
    };
    let rows = result
        .into_rows_result()
        .map_err(|error| odd(error.to_string()))?;
    let row = rows
        .first_row::<Row>()
        .map_err(|error| odd(error.to_string()))?;
    match row.columns.first() {
        Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
        other => Err(odd(format!("it begins with {other:?}"))),
    }
}

/// Connects to whoever answers.
async fn session(config: &CqlConfig) -> Result<Session, CqlOpenError> {
    if config.contact_points.is_empty() {
        return Err(CqlOpenError::NoContactPoint);
    }
    let mut unreachable = Vec::new();
    // Each alone, so that the error says what is wrong with each; any of them finds the others.
    for contact_point in &config.contact_points {
        let mut builder = SessionBuilder::new()
            .known_node(contact_point)
            .pool_size(PoolSize::PerShard(CONNECTIONS))
            .compression(Some(Compression::Lz4))
            .connection_timeout(config.timeouts.connect)
            .keepalive_interval(KEEPALIVE)
            .keepalive_timeout(KEEPALIVE);
        if let Some(credentials) = &config.credentials {
            builder = builder.user(&credentials.user, &credentials.password);
        }
        match builder.build().await {
            Ok(session) => return Ok(session),
            Err(error) => unreachable.push(Unreachable {
                contact_point: contact_point.clone(),
                reason: error.to_string(),
            }),
        }
    }
    Err(CqlOpenError::Unreachable(unreachable))
}

/// The local datacenter.
fn datacenter(session: &Session, config: &CqlConfig) -> Result<String, CqlOpenError> {
    let state = session.get_cluster_state();
    let mut there: Vec<String> = state
        .get_nodes_info()
        .iter()
        .filter_map(|node| node.datacenter.clone())
        .collect();
    there.sort_unstable();
    there.dedup();
    match &config.datacenter {
        None if there.len() == 1 => Ok(there.remove(0)),
        None => Err(CqlOpenError::Datacenter {
            named: String::new(),
            there,
        }),
        Some(named) if there.contains(named) => Ok(named.clone()),
        Some(named) => Err(CqlOpenError::Datacenter {
            named: named.clone(),
            there,
        }),
    }
}
