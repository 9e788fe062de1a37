//! What a node has to know to find its store, and why it does not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zajil_model::time::Clock;

use crate::StoreError;
use crate::projection::Budgets;

/// Where a CQL store is and how it is used.
#[derive(Clone)]
pub struct CqlConfig {
    /// `HOST:PORT` of some nodes of the database; the others are found by themselves.
    pub contact_points: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// Whether it is made if there is none.
    pub missing: Missing,
    /// How many copies of everything the local datacenter keeps, when the keyspace is made. One
    /// that exists with fewer is refused.
    pub replication: u8,
    /// The datacenter that is near; `None` is that of the node that answers first.
    pub datacenter: Option<String>,
    /// Who this node is to the database, if it asks.
    pub credentials: Option<Credentials>,
    /// How long requests may take.
    pub timeouts: Timeouts,
    /// How long messages are kept, which `retire` sees to. What it should ever miss goes by itself
    /// two months later.
    pub retention: Duration,
    /// How often what changed is flushed.
    pub flush_every: Duration,
    /// What the projection of one shard may hold in memory. A node may own all 1,024.
    pub budgets: Budgets,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// What becomes of a keyspace that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is made.
    Made,
    /// It is an error: whoever opens it wants what is in it.
    Refused,
}

/// A name and a password.
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// How long requests may take, by what they do. Those of the database should not be longer, or it
/// works on what nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To make a connection.
    pub connect: Duration,
    /// To append to a log, or write without a condition.
    pub append: Duration,
    /// To write under a condition.
    pub conditional: Duration,
    /// To read a few rows.
    pub read: Duration,
    /// To read many.
    pub scan: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            append: Duration::from_secs(2),
            conditional: Duration::from_secs(5),
            read: Duration::from_secs(2),
            scan: Duration::from_secs(10),
        }
    }
}

/// The budgets of one shard: with 1,024 shards all busy they add up to some 400 MiB, and to next to
/// nothing with shards that are idle.
pub const SHARD_BUDGETS: Budgets = Budgets {
    flush_bytes: 512 << 10,
    hot_bytes: 256 << 10,
    body_bytes: 128 << 10,
    idle_heads: 64,
};

impl CqlConfig {
    /// A store at these contact points, with the usual settings.
    pub fn new(contact_points: Vec<String>, keyspace: String, clock: Arc<dyn Clock>) -> Self {
        Self {
            contact_points,
            keyspace,
            missing: Missing::Made,
            replication: 3,
            datacenter: None,
            credentials: None,
            timeouts: Timeouts::default(),
            retention: Duration::from_secs(90 * 86_400),
            flush_every: Duration::from_secs(1),
            budgets: SHARD_BUDGETS,
            clock,
        }
    }
}

impl fmt::Debug for CqlConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CqlConfig")
            .field("contact_points", &self.contact_points)
            .field("keyspace", &self.keyspace)
            .finish_non_exhaustive()
    }
}

/// Why a CQL store does not open.
#[derive(Debug, thiserror::Error)]
pub enum CqlOpenError {
    /// The name of the keyspace is not one.
    #[error(
        "keyspace {0:?} cannot be: a name has 1 to 48 lower-case letters, digits and underscores, \
         and begins with a letter"
    )]
    KeyspaceName(String),
    /// There is no such keyspace.
    #[error("there is no keyspace {0}")]
    NoKeyspace(String),
    /// None was given.
    #[error("no contact point of the database is given")]
    NoContactPoint,
    /// Nobody answers.
    #[error("the database cannot be reached: {}", list(.0))]
    Unreachable(Vec<Unreachable>),
    /// The named datacenter has no node.
    #[error("there is no datacenter {named:?}; there are {}", .there.join(", "))]
    Datacenter {
        /// What the configuration says.
        named: String,
        /// What the database says.
        there: Vec<String>,
    },
    /// The keyspace keeps fewer copies than was asked for.
    #[error(
        "keyspace {keyspace} keeps {found} copies in datacenter {datacenter}, {wanted} are asked \
         for: alter the keyspace and repair it, or ask for fewer"
    )]
    Replication {
        /// The keyspace.
        keyspace: String,
        /// The local datacenter.
        datacenter: String,
        /// How many it keeps.
        found: u8,
        /// How many are asked for.
        wanted: u8,
    },
    /// A later version of this program has been there.
    #[error("the tables are of version {found}, this program knows {known}: use a newer one")]
    NewerSchema {
        /// The version of the tables.
        found: u32,
        /// The version that this program makes.
        known: u32,
    },
    /// The tables of a version were made from other statements than those that this program has.
    #[error("version {0} of the tables was made by a program that differs from this one")]
    ForeignSchema(u32),
    /// The database refused a step.
    #[error("cannot {operation}: {reason}")]
    Step {
        /// What was tried.
        operation: String,
        /// What it said.
        reason: String,
    },
    /// A thread could not be started.
    #[error("cannot start the threads of the store")]
    Threads(#[source] std::io::Error),
    /// A read or write failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A contact point that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// `HOST:PORT`.
    pub contact_point: String,
    /// What went wrong with it.
    pub reason: String,
}

fn list(points: &[Unreachable]) -> String {
    let each = points
        .iter()
        .map(|one| format!("{} ({})", one.contact_point, one.reason));
    each.collect::<Vec<_>>().join(", ")
}
