//! Which node does what.
//!
//! ```text
//!  membership ── who is probably alive: a hint ──┐
//!                                                ▼
//!  lease ── this node's row, renewed      challenge ── the peers' rows, watched
//!    │  may it send?                             │  who is dead?
//!    ▼                                           ▼
//!  ownership ◄──────────────────────────── reconcile ── shard rows: take, give
//!    │  who owns what, read by everybody         │
//!    ▼                                           ▼
//!  actors (send, route)                   Shards (open, close, lost)
//! ```
//!
//! Truth is in the store ([`Rows`]) and changes by compare-and-set. Every rule is one of
//! `zajil-model`; the shells here ask the store and the clock, and carry out what the rule says. A
//! node by itself, with the embedded store, needs none of it: [`Ownership::alone`].

mod challenge;
mod cluster;
pub mod config;
mod lease;
mod life;
pub mod link;
pub mod membership;
pub mod metrics;
mod ownership;
mod past;
mod reconcile;
mod rows;
mod shards;
mod shared;
mod status;
#[cfg(test)]
mod testing;

pub use cluster::{Cluster, Config, DrainReport, Ports, Renewals};
pub use lease::Ended;
pub use ownership::{Changed, Ownership, Place};
pub use past::{FolderPast, NoPast, Past};
pub use reconcile::TakeError;
pub use rows::{Cas, Member, Rows, RowsError};
pub use shards::{Closed, HandOver, ShardError, Shards};
pub use status::{PeerStatus, ShardsStatus, Status, Trouble};
