//! A database for tests of single parts, where there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use zajil_model::time::{Clock, Mono, Timestamp};

use super::config::{CqlConfig, CqlOpenError, SHARD_BUDGETS};
use super::db::Db;
use super::shard::Means;
use super::tools::random;
use super::{CqlStore, Shared};

/// A clock that a test moves.
#[derive(Debug)]
pub(super) struct Moved(AtomicI64);

impl Moved {
    /// Time goes by.
    pub(super) fn later(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as i64, Ordering::SeqCst);
    }
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn mono(&self) -> Mono {
        Mono::from_nanos(0)
    }
}

/// A keyspace of its own.
pub(super) struct Ground {
    pub(super) db: Arc<Db>,
    pub(super) clock: Arc<Moved>,
    config: CqlConfig,
    handle: Handle,
}

impl Ground {
    /// Tells a story, where there is a database.
    pub(super) fn with(story: impl AsyncFnOnce(Self)) {
        #[expect(clippy::disallowed_methods, reason = "a test has no other settings")]
        let Ok(contact_point) = std::env::var("ZAJIL_TEST_CQL") else {
            return;
        };
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let clock = Arc::new(Moved(AtomicI64::new(1_795_392_000_000_000)));
            let name = format!("u_{:x}", random());
            let own = Arc::clone(&clock) as Arc<dyn Clock>;
            let config = CqlConfig {
                replication: 1,
                ..CqlConfig::new(vec![contact_point], name, own)
            };
            let ground = Self {
                db: Arc::new(Db::connect(&config).await.unwrap()),
                clock,
                config,
                handle: Handle::current(),
            };
            story(ground).await;
        });
    }

    /// Runs a statement in the keyspace of the story.
    pub(super) async fn run(&self, statement: &str) {
        let ran = self.db.session.query_unpaged(statement, ()).await;
        ran.unwrap();
    }

    /// Why a node does not start on the keyspace of the story.
    pub(super) async fn refused(&self) -> CqlOpenError {
        Db::connect(&self.config).await.unwrap_err()
    }

    /// What opening a shard needs.
    pub(super) fn means(&self) -> Means {
        Means {
            db: Arc::clone(&self.db),
            handle: self.handle.clone(),
            budgets: SHARD_BUDGETS,
            told: Arc::default(),
        }
    }

    /// What opening a shard needs on a node whose clock is behind.
    pub(super) async fn means_of_one_behind(&self, by: Duration) -> Means {
        let clock = Moved(AtomicI64::new((self.clock.now() - by).as_micros()));
        let mut config = self.config.clone();
        config.clock = Arc::new(clock);
        Means {
            db: Arc::new(Db::connect(&config).await.unwrap()),
            ..self.means()
        }
    }

    /// What the tasks of a store share.
    pub(super) async fn shared(&self) -> Arc<Shared> {
        let connected = CqlStore::connect(self.config.clone(), self.handle.clone());
        Arc::new(connected.await.unwrap())
    }

    /// Does something on a thread that may wait.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.handle.spawn_blocking(question).await.unwrap()
    }
}
