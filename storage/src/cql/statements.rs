//! Every statement of the store, prepared once: what each of them is for stands where it is used.

use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::policies::load_balancing::{DefaultPolicy, LoadBalancingPolicy};
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use std::sync::Arc;
use std::time::Duration;

use super::config::Timeouts;

/// Rows of a page of a scan: some hundred KiB at most.
const PAGE_ROWS: i32 = 256;

/// What a request does, which decides how long it may take and whether it may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A write without a condition: absolute values, so that it may be repeated.
    Append,
    /// A write under a condition: never repeated by the driver.
    Conditional,
    /// A read that sees every conditional write that was ever answered, and ends those that hang.
    Serial,
    /// A read of a few rows.
    Read,
    /// A read of many.
    Scan,
}

impl Kind {
    /// Each of them, in the order of their numbers.
    pub(super) const ALL: [Self; 5] = [
        Self::Append,
        Self::Conditional,
        Self::Serial,
        Self::Read,
        Self::Scan,
    ];

    /// The word for metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Conditional => "lwt",
            Self::Serial => "serial",
            Self::Read => "read",
            Self::Scan => "scan",
        }
    }
}

/// How each kind of request is carried out.
#[derive(Debug)]
pub(super) struct Profiles {
    policy: Arc<dyn LoadBalancingPolicy>,
    timeouts: Timeouts,
}

impl Profiles {
    /// Requests go to nodes that hold what they ask for, all in this datacenter.
    pub(super) fn new(datacenter: &str, timeouts: Timeouts) -> Self {
        let policy = DefaultPolicy::builder()
            .token_aware(true)
            .prefer_datacenter(datacenter.to_owned())
            .permit_dc_failover(false)
            .build();
        Self { policy, timeouts }
    }

    /// How requests of a kind are carried out.
    pub(super) fn handle(&self, kind: Kind) -> ExecutionProfileHandle {
        let consistency = match kind {
            Kind::Serial => Consistency::LocalSerial,
            Kind::Append | Kind::Conditional | Kind::Read | Kind::Scan => Consistency::LocalQuorum,
        };
        let builder = ExecutionProfile::builder()
            .consistency(consistency)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(self.timeout(kind)))
            .load_balancing_policy(Arc::clone(&self.policy));
        let builder = match kind {
            Kind::Conditional => builder.retry_policy(Arc::new(FallthroughRetryPolicy::new())),
            Kind::Append | Kind::Serial | Kind::Read | Kind::Scan => {
                builder.retry_policy(Arc::new(DefaultRetryPolicy::new()))
            }
        };
        builder
            .build()
            .into_handle_with_label(kind.label().to_owned())
    }

    const fn timeout(&self, kind: Kind) -> Duration {
        match kind {
            Kind::Append => self.timeouts.append,
            Kind::Conditional | Kind::Serial => self.timeouts.conditional,
            Kind::Read => self.timeouts.read,
            Kind::Scan => self.timeouts.scan,
        }
    }
}

/// A prepared statement and what it does.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) kind: Kind,
    pub(super) statement: PreparedStatement,
}

/// The statements.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) log_put: Prepared,
    pub(super) log_one: Prepared,
    pub(super) log_from: Prepared,
    pub(super) log_drop: Prepared,
    pub(super) shard_row: Prepared,
    pub(super) shard_first: Prepared,
    pub(super) shard_next: Prepared,
    pub(super) shard_flush: Prepared,
    pub(super) redo_put: Prepared,
    pub(super) redo_read: Prepared,
    pub(super) kv_get: Prepared,
    pub(super) kv_up: Prepared,
    pub(super) kv_down: Prepared,
    pub(super) kv_put: Prepared,
    pub(super) kv_delete: Prepared,
    pub(super) kv_drop: Prepared,
    pub(super) row_get: Prepared,
    pub(super) row_serial: Prepared,
    pub(super) rows_up: Prepared,
    pub(super) rows_up_after: Prepared,
    pub(super) rows_down: Prepared,
    pub(super) rows_down_after: Prepared,
    pub(super) rows_serial: Prepared,
    pub(super) row_put: Prepared,
    pub(super) row_set: Prepared,
    pub(super) row_swap: Prepared,
    pub(super) row_present: Prepared,
    pub(super) intent_put: Prepared,
    pub(super) intent_decide: Prepared,
    pub(super) intent_state: Prepared,
    pub(super) intent_drop: Prepared,
    pub(super) intents: Prepared,
}

impl Statements {
    /// Prepares them all.
    #[expect(clippy::too_many_lines, reason = "it is a list")]
    pub(super) async fn prepare(
        session: &Session,
        profiles: &Profiles,
    ) -> Result<Self, PrepareError> {
        let prepare = async |kind: Kind, text: &str| {
            let mut statement = session.prepare(text).await?;
            statement.set_execution_profile_handle(Some(profiles.handle(kind)));
            // Absolute values: the same once or twice. Conditional ones are looked into instead.
            statement.set_is_idempotent(kind != Kind::Conditional);
            statement.set_page_size(PAGE_ROWS);
            Ok::<_, PrepareError>(Prepared { kind, statement })
        };
        use Kind::{Append, Conditional, Read, Scan, Serial};
        Ok(Self {
            log_put: prepare(
                Append,
                "INSERT INTO log (shard, bucket, lsn, epoch, at, body) VALUES (?, ?, ?, ?, ?, ?) \
                 USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            log_one: prepare(
                Read,
                "SELECT body FROM log WHERE shard = ? AND bucket = ? AND lsn = ?",
            )
            .await?,
            log_from: prepare(
                Scan,
                "SELECT lsn, epoch, at, body FROM log WHERE shard = ? AND bucket = ? AND lsn >= ?",
            )
            .await?,
            log_drop: prepare(
                Append,
                "DELETE FROM log USING TIMESTAMP ? WHERE shard = ? AND bucket = ?",
            )
            .await?,
            shard_row: prepare(
                Serial,
                "SELECT epoch, seq, head, redo FROM shards WHERE shard = ?",
            )
            .await?,
            shard_first: prepare(
                Conditional,
                "INSERT INTO shards (epoch, seq, head, shard) VALUES (?, ?, ?, ?) IF NOT EXISTS",
            )
            .await?,
            shard_next: prepare(
                Conditional,
                "UPDATE shards SET epoch = ?, seq = ?, head = ? WHERE shard = ? \
                 IF epoch = ? AND seq = ?",
            )
            .await?,
            shard_flush: prepare(
                Conditional,
                "UPDATE shards SET epoch = ?, seq = ?, head = ?, redo = ? WHERE shard = ? \
                 IF epoch = ? AND seq = ?",
            )
            .await?,
            redo_put: prepare(
                Append,
                "INSERT INTO redo (shard, slot, part, seq, body) VALUES (?, ?, ?, ?, ?) \
                 USING TIMESTAMP ?",
            )
            .await?,
            redo_read: prepare(
                Scan,
                "SELECT part, seq, body FROM redo WHERE shard = ? AND slot = ?",
            )
            .await?,
            kv_get: prepare(
                Read,
                "SELECT value FROM kv WHERE shard = ? AND space = ? AND key = ?",
            )
            .await?,
            kv_up: prepare(
                Scan,
                "SELECT key, value FROM kv WHERE shard = ? AND space = ? AND key >= ? AND key < ?",
            )
            .await?,
            kv_down: prepare(
                Scan,
                "SELECT key, value FROM kv WHERE shard = ? AND space = ? AND key >= ? AND key < ? \
                 ORDER BY key DESC",
            )
            .await?,
            kv_put: prepare(
                Append,
                "INSERT INTO kv (shard, space, key, value) VALUES (?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            kv_delete: prepare(
                Append,
                "DELETE FROM kv USING TIMESTAMP ? WHERE shard = ? AND space = ? AND key = ?",
            )
            .await?,
            kv_drop: prepare(
                Append,
                "DELETE FROM kv USING TIMESTAMP ? WHERE shard = ? AND space = ?",
            )
            .await?,
            row_get: prepare(
                Read,
                "SELECT value FROM rows WHERE tab = ? AND part = ? AND sort = ?",
            )
            .await?,
            row_serial: prepare(
                Serial,
                "SELECT value FROM rows WHERE tab = ? AND part = ? AND sort = ?",
            )
            .await?,
            rows_up: prepare(Scan, "SELECT sort, value FROM rows WHERE tab = ? AND part = ?")
                .await?,
            rows_up_after: prepare(
                Scan,
                "SELECT sort, value FROM rows WHERE tab = ? AND part = ? AND sort > ?",
            )
            .await?,
            rows_down: prepare(
                Scan,
                "SELECT sort, value FROM rows WHERE tab = ? AND part = ? ORDER BY sort DESC",
            )
            .await?,
            rows_down_after: prepare(
                Scan,
                "SELECT sort, value FROM rows WHERE tab = ? AND part = ? AND sort < ? \
                 ORDER BY sort DESC",
            )
            .await?,
            rows_serial: prepare(
                Serial,
                "SELECT sort, value FROM rows WHERE tab = ? AND part = ?",
            )
            .await?,
            row_put: prepare(
                Append,
                "UPDATE rows USING TIMESTAMP ? SET value = ? WHERE tab = ? AND part = ? AND sort = ?",
            )
            .await?,
            row_set: prepare(
                Conditional,
                "UPDATE rows SET value = ? WHERE tab = ? AND part = ? AND sort = ?",
            )
            .await?,
            row_swap: prepare(
                Conditional,
                "UPDATE rows SET value = ? WHERE tab = ? AND part = ? AND sort = ? IF value = ?",
            )
            .await?,
            row_present: prepare(
                Conditional,
                "UPDATE rows SET value = ? WHERE tab = ? AND part = ? AND sort = ? IF value != null",
            )
            .await?,
            intent_put: prepare(
                Append,
                "INSERT INTO intents (bucket, id, begun, writes) VALUES (?, ?, ?, ?)",
            )
            .await?,
            intent_decide: prepare(
                Conditional,
                "UPDATE intents SET state = ? WHERE bucket = ? AND id = ? IF state = null",
            )
            .await?,
            intent_state: prepare(
                Serial,
                "SELECT state FROM intents WHERE bucket = ? AND id = ?",
            )
            .await?,
            intent_drop: prepare(Append, "DELETE FROM intents WHERE bucket = ? AND id = ?").await?,
            intents: prepare(
                Scan,
                "SELECT id, begun, writes, state FROM intents WHERE bucket = ?",
            )
            .await?,
        })
    }
}
