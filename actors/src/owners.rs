//! Asking the owner of a shard, on whichever node it is.
//!
//! What has one owner is asked there: on this node by a call, elsewhere over the link. Who asks
//! does not know the difference, but for the time that it takes. While a shard moves the question
//! waits, up to its deadline; a question that may have been answered is repeated only where that
//! changes nothing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use zajil_cluster::link::{Call, Fate, Header, Lane, Link, LinkError, Method};
use zajil_cluster::{Ownership, Place};
use zajil_model::id::Shard;
use zajil_model::lease::NodeId;

use crate::ids::Opening;

pub mod questions;
mod rows;
mod serve;
mod store;

pub use rows::{StoreRows, free_shards};
pub(crate) use serve::Answered;
pub use serve::Answers;
pub use store::RoutedStore;
pub(crate) use store::changes_here;

/// How long a question about something with an owner waits in all: longer than a take-over takes
/// (about 9 s after a crash), so that most are answered and not refused.
pub const ASK_WITHIN: Duration = Duration::from_secs(10);

/// The shortest wait before a moving shard is asked for again; up to four times that by chance, so
/// that those who wait do not come all at once.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Something that is asked of the owner of a shard.
pub trait Question: Serialize + DeserializeOwned + Send + Sync {
    /// Its number on the wire; never used for anything else.
    const METHOD: Method;
    /// Whether asking twice comes to the same as asking once.
    const REPEAT: Repeat;
    /// How long it waits in all.
    const WITHIN: Duration = ASK_WITHIN;
    /// What is answered.
    type Answer: Serialize + DeserializeOwned + Send;

    /// Which connection it takes.
    fn lane(&self) -> Lane {
        Lane::Control
    }

    /// Whether the answer says that the shard left while it was asked: then nothing was done, and
    /// the next owner is asked.
    fn has_moved(_answer: &Self::Answer) -> bool {
        false
    }
}

/// Whether a question may be asked again when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing, or nothing more the second time.
    Freely,
    /// The same owner knows that it did it, as long as it owns the shard under the same epoch.
    SameOwner,
    /// It might be done twice.
    Never,
}

/// Why the owner of a shard gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Nobody answered in time; nothing was done.
    #[error("the node that owns it could not be reached in time")]
    Unreachable,
    /// It may have been done.
    #[error("it is not known what the node that owns it did")]
    Unknown,
}

/// What several nodes need to share the work.
#[derive(Clone)]
pub struct Sharing {
    /// Who owns what.
    pub ownership: Ownership,
    /// The way to the other nodes; `None` on a node alone.
    pub link: Option<Arc<dyn Link>>,
}

impl Sharing {
    /// A node that shares with nobody.
    pub fn alone() -> Self {
        Self {
            ownership: Ownership::alone(),
            link: None,
        }
    }

    /// Who opens shards.
    pub const fn opening(&self) -> Opening {
        match self.link {
            Some(_) => Opening::ByOwner,
            None => Opening::OnDemand,
        }
    }
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// Finds the owners of shards; clones are the same one.
#[derive(Clone, Debug)]
pub struct Owners(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sharing: Sharing,
    /// Makes each wait another one.
    waits: AtomicU64,
}

/// What became of a question.
#[derive(Debug)]
pub enum Asked<Q: Question> {
    /// This node is the owner: it is to answer.
    Here(Q),
    /// Another node answered.
    There(Q::Answer),
}

/// What became of a question on its way.
enum Way<T> {
    Answered(T),
    /// Nothing was done: somebody else may be asked, after a while.
    Again,
    /// Nobody knows whether it was done.
    Lost,
}

impl Owners {
    /// The owners as `sharing` tells.
    pub fn new(sharing: Sharing) -> Self {
        let waits = AtomicU64::new(sharing.ownership.me().0 << 32);
        Self(Arc::new(Inner { sharing, waits }))
    }

    /// Who owns what.
    pub fn ownership(&self) -> &Ownership {
        &self.0.sharing.ownership
    }

    /// Asks the owner of a shard. When that is this node, the question comes back, to be answered
    /// by who asked.
    ///
    /// # Errors
    /// [`OwnerError`].
    pub async fn ask<Q: Question>(
        &self,
        shard: Shard,
        question: Q,
    ) -> Result<Asked<Q>, OwnerError> {
        let until = Instant::now() + Q::WITHIN;
        let (mut encoded, mut lost_at) = (None, None);
        loop {
            let place = self.ownership().place(shard);
            if lost_at.is_some_and(|lost| lost != place) {
                return Err(OwnerError::Unknown);
            }
            let way = match place {
                Place::Here(_) => return Ok(Asked::Here(question)),
                Place::There(node, epoch) => {
                    let body = encoded.get_or_insert_with(|| encode(&question)).clone();
                    let header = Header {
                        shard: Some(shard),
                        epoch,
                    };
                    let call = Call {
                        header,
                        method: Q::METHOD,
                        body,
                        deadline: until.saturating_duration_since(Instant::now()),
                        lane: question.lane(),
                    };
                    self.call::<Q>(shard, node, call).await
                }
                Place::Moving | Place::Nobody => Way::Again,
            };
            match way {
                Way::Answered(answer) => return Ok(Asked::There(answer)),
                Way::Again => {}
                Way::Lost => match Q::REPEAT {
                    Repeat::Never => return Err(OwnerError::Unknown),
                    Repeat::SameOwner => lost_at = Some(place),
                    Repeat::Freely => {}
                },
            }
            let wait = self.wait();
            if Instant::now() + wait >= until {
                return Err(match lost_at {
                    Some(_) => OwnerError::Unknown,
                    None => OwnerError::Unreachable,
                });
            }
            // Who hears that the owner changed need not wait any longer.
            drop(tokio::time::timeout(wait, self.leaves(shard, place)).await);
        }
    }

    /// Waits until a shard is somewhere else than `before`, as far as this node knows.
    pub(crate) async fn leaves(&self, shard: Shard, before: Place) {
        let mut changed = self.ownership().changed();
        while self.ownership().place(shard) == before {
            changed.changed().await;
        }
    }

    /// How long to wait before something is asked again.
    fn wait(&self) -> Duration {
        let turn = self.0.waits.fetch_add(1, Ordering::Relaxed);
        ASK_AGAIN.mul_f64(SmallRng::seed_from_u64(turn).random_range(1.0..4.0))
    }

    /// Asks one node, and learns from its refusal.
    async fn call<Q: Question>(&self, shard: Shard, node: NodeId, call: Call) -> Way<Q::Answer> {
        let Some(link) = &self.0.sharing.link else {
            return Way::Again;
        };
        match link.call(node, call).await {
            Ok(reply) => match rmp_serde::from_slice::<Q::Answer>(&reply) {
                Ok(answer) if Q::has_moved(&answer) => Way::Again,
                Ok(answer) => Way::Answered(answer),
                Err(error) => {
                    tracing::error!(node = node.0, method = %Q::METHOD, %error, "cannot read an answer");
                    Way::Lost
                }
            },
            Err(LinkError::NotOwner { owner, epoch }) => {
                self.ownership().learn(shard, owner, epoch);
                Way::Again
            }
            Err(error) if error.fate() == Fate::NotSent => {
                if matches!(error, LinkError::Unreachable { .. }) {
                    self.ownership().doubt();
                }
                Way::Again
            }
            Err(error) => {
                tracing::debug!(node = node.0, method = %Q::METHOD, %error, "an answer was lost");
                Way::Lost
            }
        }
    }

    /// Asks one node about itself, once.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn ask_node<Q: Question>(
        &self,
        node: NodeId,
        question: &Q,
        deadline: Duration,
    ) -> Result<Q::Answer, OwnerError> {
        let link = self
            .0
            .sharing
            .link
            .as_ref()
            .ok_or(OwnerError::Unreachable)?;
        let call = Call {
            header: Header::default(),
            method: Q::METHOD,
            body: encode(question),
            deadline,
            lane: question.lane(),
        };
        let reply = link
            .call(node, call)
            .await
            .map_err(|error| match error.fate() {
                Fate::NotSent => OwnerError::Unreachable,
                Fate::Unknown => OwnerError::Unknown,
            })?;
        rmp_serde::from_slice(&reply).map_err(|_| OwnerError::Unknown)
    }
}

/// A question or an answer as it crosses the link: named maps, so that a field can be added.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    let bytes = rmp_serde::to_vec_named(value);
    Bytes::from(bytes.expect("plain data has a form in MessagePack"))
}
