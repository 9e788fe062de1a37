//! What this crate tells of itself, a file for each part: names once, verbs as functions.

pub mod gossip;
pub mod link;
mod ownership;

pub(crate) use ownership::{Metrics, Outcome};
