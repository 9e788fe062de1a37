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
use Kind::{Append, Conditional, Read, Scan, Serial};

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

/// The statements, by what they are about.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) time: Prepared,
    pub(super) log: Log,
    pub(super) shards: Shards,
    pub(super) kv: Keys,
    pub(super) rows: Rows,
    pub(super) sets: Sets,
    pub(super) intents: Intents,
}

impl Statements {
    /// Prepares them all.
    pub(super) async fn prepare(
        session: &Session,
        profiles: &Profiles,
    ) -> Result<Self, PrepareError> {
        let with = Preparing { session, profiles };
        Ok(Self {
            time: with
                .one(Read, "SELECT toUnixTimestamp(now()) FROM system.local")
                .await?,
            log: Log::prepare(&with).await?,
            shards: Shards::prepare(&with).await?,
            kv: Keys::prepare(&with).await?,
            rows: Rows::prepare(&with).await?,
            sets: Sets::prepare(&with).await?,
            intents: Intents::prepare(&with).await?,
        })
    }
}

/// What it takes to prepare one.
struct Preparing<'a> {
    session: &'a Session,
    profiles: &'a Profiles,
}

impl Preparing<'_> {
    async fn one(&self, kind: Kind, text: &str) -> Result<Prepared, PrepareError> {
        let mut statement = self.session.prepare(text).await?;
        statement.set_execution_profile_handle(Some(self.profiles.handle(kind)));
        // Absolute values: the same once or twice. Conditional ones are looked into instead.
        statement.set_is_idempotent(kind != Kind::Conditional);
        statement.set_page_size(PAGE_ROWS);
        Ok(Prepared { kind, statement })
    }
}

/// Of the logs.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) put: Prepared,
    pub(super) one: Prepared,
    pub(super) from: Prepared,
    pub(super) drop: Prepared,
}

impl Log {
    async fn prepare(with: &Preparing<'_>) -> Result<Self, PrepareError> {
        let put = "INSERT INTO log (shard, bucket, lsn, epoch, at, body) VALUES (?, ?, ?, ?, ?, \
                 ?) USING TIMESTAMP ? AND TTL ?";
        let one = "SELECT body FROM log WHERE shard = ? AND bucket = ? AND lsn = ?";
        let from = "SELECT lsn, epoch, at, body FROM log WHERE shard = ? AND bucket = ? AND lsn >= \
                 ?";
        let drop = "DELETE FROM log USING TIMESTAMP ? WHERE shard = ? AND bucket = ?";
        Ok(Self {
            put: with.one(Append, put).await?,
            one: with.one(Read, one).await?,
            from: with.one(Scan, from).await?,
            drop: with.one(Append, drop).await?,
        })
    }
}

/// Of the heads of shards, and of flushes that are kept beside them.
#[derive(Debug)]
pub(super) struct Shards {
    pub(super) row: Prepared,
    pub(super) seen: Prepared,
    pub(super) first: Prepared,
    pub(super) next: Prepared,
    pub(super) flush: Prepared,
    pub(super) put_part: Prepared,
    pub(super) parts: Prepared,
}

impl Shards {
    async fn prepare(with: &Preparing<'_>) -> Result<Self, PrepareError> {
        let row = "SELECT epoch, seq, head, redo FROM shards WHERE shard = ?";
        let first =
            "INSERT INTO shards (epoch, seq, head, shard) VALUES (?, ?, ?, ?) IF NOT EXISTS";
        let next = "UPDATE shards SET epoch = ?, seq = ?, head = ? WHERE shard = ? IF epoch = ? \
                 AND seq = ?";
        let flush = "UPDATE shards SET epoch = ?, seq = ?, head = ?, redo = ? WHERE shard = ? IF \
                 epoch = ? AND seq = ?";
        let put_part = "INSERT INTO redo (shard, slot, part, seq, body) VALUES (?, ?, ?, ?, ?) USING \
                 TIMESTAMP ?";
        let parts = "SELECT part, seq, body FROM redo WHERE shard = ? AND slot = ?";
        Ok(Self {
            row: with.one(Serial, row).await?,
            seen: with.one(Read, row).await?,
            first: with.one(Conditional, first).await?,
            next: with.one(Conditional, next).await?,
            flush: with.one(Conditional, flush).await?,
            put_part: with.one(Append, put_part).await?,
            parts: with.one(Scan, parts).await?,
        })
    }
}

/// Of the projections.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) get: Prepared,
    pub(super) up: Prepared,
    pub(super) down: Prepared,
    pub(super) put: Prepared,
    pub(super) delete: Prepared,
    pub(super) drop: Prepared,
}

impl Keys {
    async fn prepare(with: &Preparing<'_>) -> Result<Self, PrepareError> {
        let get = "SELECT value FROM kv WHERE shard = ? AND space = ? AND key = ?";
        let up = "SELECT key, value FROM kv WHERE shard = ? AND space = ? AND key >= ? AND key < \
                 ?";
        let down = "SELECT key, value FROM kv WHERE shard = ? AND space = ? AND key >= ? AND key < \
                 ? ORDER BY key DESC";
        let put = "INSERT INTO kv (shard, space, key, value) VALUES (?, ?, ?, ?) USING TIMESTAMP \
                 ?";
        let delete = "DELETE FROM kv USING TIMESTAMP ? WHERE shard = ? AND space = ? AND key = ?";
        let drop = "DELETE FROM kv USING TIMESTAMP ? WHERE shard = ? AND space = ?";
        Ok(Self {
            get: with.one(Read, get).await?,
            up: with.one(Scan, up).await?,
            down: with.one(Scan, down).await?,
            put: with.one(Append, put).await?,
            delete: with.one(Append, delete).await?,
            drop: with.one(Append, drop).await?,
        })
    }
}

/// Reads of rows.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) all: Prepared,
    pub(super) get: Prepared,
    pub(super) get_serial: Prepared,
    pub(super) up: Prepared,
    pub(super) up_after: Prepared,
    pub(super) down: Prepared,
    pub(super) down_after: Prepared,
    pub(super) up_serial: Prepared,
}

impl Rows {
    async fn prepare(with: &Preparing<'_>) -> Result<Self, PrepareError> {
        let get = "SELECT value FROM rows WHERE tab = ? AND part = ? AND sort = ?";
        let get_serial = "SELECT value FROM rows WHERE tab = ? AND part = ? AND sort = ?";
        let up = "SELECT sort, value FROM rows WHERE tab = ? AND part = ?";
        let up_after = "SELECT sort, value FROM rows WHERE tab = ? AND part = ? AND sort > ?";
        let down = "SELECT sort, value FROM rows WHERE tab = ? AND part = ? ORDER BY sort DESC";
        let down_after = "SELECT sort, value FROM rows WHERE tab = ? AND part = ? AND sort < ? ORDER BY \
                 sort DESC";
        let up_serial = "SELECT sort, value FROM rows WHERE tab = ? AND part = ?";
        let all = "SELECT tab, part, sort, value FROM rows";
        Ok(Self {
            all: with.one(Scan, all).await?,
            get: with.one(Read, get).await?,
            get_serial: with.one(Serial, get_serial).await?,
            up: with.one(Scan, up).await?,
            up_after: with.one(Scan, up_after).await?,
            down: with.one(Scan, down).await?,
            down_after: with.one(Scan, down_after).await?,
            up_serial: with.one(Serial, up_serial).await?,
        })
    }
}

/// Writes of rows.
#[derive(Debug)]
pub(super) struct Sets {
    pub(super) put: Prepared,
    pub(super) set: Prepared,
    pub(super) swap: Prepared,
    pub(super) present: Prepared,
}

impl Sets {
    async fn prepare(with: &Preparing<'_>) -> Result<Self, PrepareError> {
        let put = "UPDATE rows USING TIMESTAMP ? SET value = ? WHERE tab = ? AND part = ? AND \
                 sort = ?";
        let set = "UPDATE rows SET value = ? WHERE tab = ? AND part = ? AND sort = ?";
        let swap = "UPDATE rows SET value = ? WHERE tab = ? AND part = ? AND sort = ? IF value = ?";
        let present = "UPDATE rows SET value = ? WHERE tab = ? AND part = ? AND sort = ? IF value != \
                 null";
        Ok(Self {
            put: with.one(Append, put).await?,
            set: with.one(Conditional, set).await?,
            swap: with.one(Conditional, swap).await?,
            present: with.one(Conditional, present).await?,
        })
    }
}

/// Of writes that are under way.
#[derive(Debug)]
pub(super) struct Intents {
    pub(super) put: Prepared,
    pub(super) decide: Prepared,
    pub(super) state: Prepared,
    pub(super) drop: Prepared,
    pub(super) all: Prepared,
}

impl Intents {
    async fn prepare(with: &Preparing<'_>) -> Result<Self, PrepareError> {
        let put = "INSERT INTO intents (bucket, id, begun, writes) VALUES (?, ?, ?, ?)";
        let decide = "UPDATE intents SET state = ? WHERE bucket = ? AND id = ? IF state = null";
        let state = "SELECT state FROM intents WHERE bucket = ? AND id = ?";
        let drop = "DELETE FROM intents WHERE bucket = ? AND id = ?";
        let all = "SELECT id, begun, writes, state FROM intents WHERE bucket = ?";
        Ok(Self {
            put: with.one(Append, put).await?,
            decide: with.one(Conditional, decide).await?,
            state: with.one(Serial, state).await?,
            drop: with.one(Append, drop).await?,
            all: with.one(Scan, all).await?,
        })
    }
}
