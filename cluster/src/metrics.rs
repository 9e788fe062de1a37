//! What this crate tells of itself, a file for each part.

pub mod link;
