//! What clients see of the HTTP edge, on an engine with a store in memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batches;
mod errors;
mod isolation;
mod operations;
mod resources;
mod sends;
mod server;
mod specification;
mod support;
