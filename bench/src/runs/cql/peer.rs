//! The peer: one prepared insert a message, many at once, by the same driver with the same settings, at
//! the same consistency, into the same server.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use scylla::client::PoolSize;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::frame::Compression;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use tokio::task::JoinSet;
use zajil_tests_cql::{Cql, Keyspace};

use crate::measure::{Stretch, each, micros, now};
use crate::workload::Words;

/// Inserts at once: four times the connections that post to the engine, so that the server never waits
/// for more to do.
pub(super) const AT_ONCE: u64 = 256;

/// Connections, as the store has them.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(2).expect("more than none");

/// Messages that take turns, made ahead.
const PREPARED: usize = 1_000;

/// A table of messages, and who inserts into it.
pub(super) struct Inserts {
    session: Arc<Session>,
    insert: PreparedStatement,
    messages: Arc<Vec<(i64, String)>>,
    next: Arc<AtomicU64>,
    /// Dropped with the table that is in it.
    _keyspace: Keyspace,
}

/// What inserting did.
pub(super) struct Inserted {
    pub(super) rate: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    /// Microseconds of the client's CPU an insert.
    pub(super) cpu_each: f64,
}

impl Inserts {
    pub(super) async fn prepare(cql: &Cql) -> Result<Self> {
        let session = SessionBuilder::new()
            .known_nodes(cql.contact_points())
            .pool_size(PoolSize::PerShard(CONNECTIONS))
            .compression(Some(Compression::Lz4))
            .build()
            .await
            .context("cannot connect to the CQL server")?;
        let keyspace = cql.keyspace("inserts");
        let made = format!(
            "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', \
             'replication_factor': {}}}",
            cql.replicas()
        );
        let table = format!(
            "CREATE TABLE {keyspace}.messages (id bigint PRIMARY KEY, recipient bigint, body text)"
        );
        for statement in [made, table] {
            session.query_unpaged(statement, ()).await?;
        }
        let text =
            format!("INSERT INTO {keyspace}.messages (id, recipient, body) VALUES (?, ?, ?)");
        let mut insert = session.prepare(text).await?;
        insert.set_consistency(Consistency::LocalQuorum);
        insert.set_is_idempotent(true);
        Ok(Self {
            session: Arc::new(session),
            insert,
            messages: Arc::new(messages()),
            next: Arc::default(),
            _keyspace: keyspace,
        })
    }

    /// Inserts for some seconds.
    pub(super) async fn run(&self, seconds: f64) -> Result<Inserted> {
        let stretch = Stretch::begin()?;
        let until = now() + Duration::from_secs_f64(seconds);
        let mut inserting = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (session, insert) = (self.session.clone(), self.insert.clone());
            let (messages, next) = (self.messages.clone(), self.next.clone());
            inserting.spawn(async move {
                let mut took = Vec::new();
                loop {
                    let began = now();
                    if began >= until {
                        return anyhow::Ok(took);
                    }
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    let (recipient, body) = &messages[id as usize % PREPARED];
                    let values = (id as i64, recipient, body);
                    session.execute_unpaged(&insert, values).await?;
                    took.push((now() - began).as_micros() as u64);
                }
            });
        }
        let mut times = micros();
        while let Some(ended) = inserting.join_next().await {
            ended??
                .iter()
                .for_each(|took| times.saturating_record(*took));
        }
        Ok(Inserted {
            rate: times.len() as f64 / stretch.took().as_secs_f64(),
            p50_us: times.value_at_quantile(0.5),
            p99_us: times.value_at_quantile(0.99),
            cpu_each: each(stretch.cpu()?, times.len()),
        })
    }
}

/// The same messages that are posted to the engine.
fn messages() -> Vec<(i64, String)> {
    let mut words = Words::new(0);
    let made = (0..PREPARED).map(|_| (words.phone().digits() as i64, words.text()));
    made.collect()
}
