//! The link between nodes: the port [`Link`], what goes over it and what comes back.
//!
//! A node asks another one about a shard and names the epoch under which it believes that node to
//! be the owner. Bodies are opaque here. Two kinds implement the port: [`TcpLink`] talks over the
//! network, [`fake`] keeps all nodes in one process, for tests and simulation.
//!
//! What a caller that repeats its calls has to know is whether the other node may have acted. So
//! each error tells that by [`LinkError::fate`], and "not sent" is said only where it is certain.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zajil_model::id::{Epoch, Shard};
use zajil_model::lease::NodeId;

mod config;
mod connection;
mod dial;
pub mod fake;
mod frame;
mod hello;
mod line;
mod outbox;
pub mod pki;
mod server;
mod serving;
mod status;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

pub use config::{ClusterId, Identity, NotAClusterId, Timing};
pub use dial::Addresses;
pub use hello::Refusal;
pub use status::{LinkStatus, PeerState, PeerStatus, Refused};
pub use tcp::{LinkSettings, TcpLink};
pub use tls::{
    CertificateFault, CredentialFiles, Credentials, CredentialsError, Unprotected, check_security,
};

/// The longest request or reply in the control lane: what steers must not wait behind what is big.
pub const CONTROL_LIMIT: usize = 1 << 20;

/// The longest request or reply in the bulk lane: a full request of a client, with room.
pub const BULK_LIMIT: usize = 16 << 20;

/// How long nothing at all is heard from a peer before its connection is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(3);

/// Asks other nodes. It is handed in by `node`.
#[async_trait]
pub trait Link: Send + Sync + fmt::Debug {
    /// Asks a node and waits for its reply, at most until the deadline of the call. Dropping the
    /// future tells the other node that nobody waits any more.
    ///
    /// # Errors
    /// What the other node answered, or why there is no answer.
    async fn call(&self, to: NodeId, call: Call) -> Result<Bytes, LinkError>;

    /// Tells a node and waits for nothing but room in the queue to it; it may never arrive.
    ///
    /// # Errors
    /// It was not sent.
    async fn cast(&self, to: NodeId, call: Call) -> Result<(), LinkError>;
}

/// Answers other nodes.
#[async_trait]
pub trait Serve: Send + Sync + fmt::Debug {
    /// Answers one call. The future is dropped when the deadline passes, when the caller gives up
    /// and when its connection ends: work that has to be finished runs in a task of its own.
    ///
    /// Every reply other than [`Reply::Ok`] and [`Reply::Failed`] promises that nothing was done.
    async fn serve(&self, from: NodeId, call: Incoming) -> Reply;
}

/// What a node asks of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which shard it is about, and who owns it as the caller knows.
    pub header: Header,
    /// What is asked.
    pub method: Method,
    /// The question, as the method encodes it.
    pub body: Bytes,
    /// How long the caller waits.
    pub deadline: Duration,
    /// Which connection it takes.
    pub lane: Lane,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The shard; `None` when the call is about the node itself.
    pub shard: Option<Shard>,
    /// The epoch under which the caller believes the other node to own it.
    pub epoch: Epoch,
}

/// Names what is asked. The actors give the numbers; a number never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Method(pub u16);

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The connections to a peer: a big reply in one does not delay what goes through the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Short questions: take-over, hand-off, barriers, single sends.
    Control,
    /// Long ones: bulks, rows of batches, pages of lists.
    Bulk,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Control, Self::Bulk];

    /// The longest body that a request or a reply may have.
    pub const fn limit(self) -> usize {
        match self {
            Self::Control => CONTROL_LIMIT,
            Self::Bulk => BULK_LIMIT,
        }
    }

    /// Its name in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
        }
    }
}

/// A call as the asked node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The shard; `None` when the call is about this node itself.
    pub shard: Option<Shard>,
    /// The epoch under which the caller believes this node to own it.
    pub epoch: Epoch,
    /// What is asked.
    pub method: Method,
    /// The question.
    pub body: Bytes,
    /// How long the caller still waits, counted from when the call arrived.
    pub deadline: Duration,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The answer, as the method encodes it.
    Ok(Bytes),
    /// This node does not own the shard, or not under that epoch.
    NotOwner {
        /// Who does, as far as this node knows.
        owner: Option<NodeId>,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// The shard is on its way between two owners.
    Moving {
        /// When to ask again.
        retry_after: Duration,
    },
    /// This node has too much to do and did not begin.
    Overloaded,
    /// This node does not know the method.
    Unsupported,
    /// It was tried and failed.
    Failed(String),
}

/// Whether the other node may have acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It certainly did not: the call may be repeated anywhere.
    NotSent,
    /// Nobody knows: only what is safe to do twice may be repeated.
    Unknown,
}

/// Which body was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The question: it was not sent.
    Request,
    /// The answer: the call was served.
    Reply,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The node does not own the shard, or not under that epoch.
    #[error("the node does not own the shard under that epoch")]
    NotOwner {
        /// Who does, as far as that node knows.
        owner: Option<NodeId>,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// The shard is on its way between two owners.
    #[error("the shard is moving between two owners")]
    Moving {
        /// When to ask again.
        retry_after: Duration,
    },
    /// Too many calls are on their way already, or the other node has too much to do.
    #[error("too many calls to the node are on their way")]
    Overloaded,
    /// The other node does not know the method: it runs another version.
    #[error("the node does not know method {method}")]
    Unsupported {
        /// The method.
        method: Method,
    },
    /// The other node tried and failed.
    #[error("the node failed: {0}")]
    Failed(String),
    /// There is no connection, or it ended before the answer came.
    #[error("cannot reach node {}: {reason}", node.0)]
    Unreachable {
        /// The node.
        node: NodeId,
        /// What is in the way.
        reason: String,
        /// Whether it may have acted.
        fate: Fate,
    },
    /// The nodes do not talk to each other, and will not until somebody mends it. Nothing was sent.
    #[error("no link to node {}: {refusal}", node.0)]
    Refused {
        /// The node.
        node: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// The deadline passed.
    #[error("no answer before the deadline")]
    Expired {
        /// Whether the other node may have acted.
        fate: Fate,
    },
    /// A body is longer than its lane allows.
    #[error("a body of {bytes} bytes is longer than the {limit} that the lane allows")]
    TooLarge {
        /// Which.
        part: Part,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
}

impl LinkError {
    /// Whether the other node may have acted.
    pub const fn fate(&self) -> Fate {
        match self {
            Self::NotOwner { .. }
            | Self::Moving { .. }
            | Self::Overloaded
            | Self::Unsupported { .. }
            | Self::Refused { .. }
            | Self::TooLarge {
                part: Part::Request,
                ..
            } => Fate::NotSent,
            Self::Failed(_)
            | Self::TooLarge {
                part: Part::Reply, ..
            } => Fate::Unknown,
            Self::Unreachable { fate, .. } | Self::Expired { fate } => *fate,
        }
    }

    /// Its name in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotOwner { .. } => "not_owner",
            Self::Moving { .. } => "moving",
            Self::Overloaded => "overloaded",
            Self::Unsupported { .. } => "unsupported",
            Self::Failed(_) => "failed",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Expired { .. } => "expired",
            Self::TooLarge { .. } => "too_large",
        }
    }
}

impl Call {
    /// Refuses a body that its lane does not take.
    ///
    /// # Errors
    /// The body is too long.
    fn check(&self) -> Result<(), LinkError> {
        too_large(Part::Request, self.body.len(), self.lane)
    }

    fn arrived(self) -> Incoming {
        Incoming {
            shard: self.header.shard,
            epoch: self.header.epoch,
            method: self.method,
            body: self.body,
            deadline: self.deadline,
        }
    }
}

impl Reply {
    /// What the caller gets.
    fn into_result(self, method: Method, lane: Lane) -> Result<Bytes, LinkError> {
        match self {
            Self::Ok(body) => too_large(Part::Reply, body.len(), lane).map(|()| body),
            Self::NotOwner { owner, epoch } => Err(LinkError::NotOwner { owner, epoch }),
            Self::Moving { retry_after } => Err(LinkError::Moving { retry_after }),
            Self::Overloaded => Err(LinkError::Overloaded),
            Self::Unsupported => Err(LinkError::Unsupported { method }),
            Self::Failed(why) => Err(LinkError::Failed(why)),
        }
    }
}

fn too_large(part: Part, bytes: usize, lane: Lane) -> Result<(), LinkError> {
    let limit = lane.limit();
    if bytes <= limit {
        return Ok(());
    }
    Err(LinkError::TooLarge { part, bytes, limit })
}
