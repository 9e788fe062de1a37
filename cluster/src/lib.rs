//! Which node does what.

pub mod link;
mod ownership;
mod rows;
mod shards;

pub use ownership::{Ownership, Place};
pub use rows::{Cas, Member, Rows, RowsError};
pub use shards::{Closed, HandOver, ShardError, Shards};
