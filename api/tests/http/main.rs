//! What clients see of the HTTP edge, on an engine with a store in memory.

mod batches;
mod errors;
mod isolation;
mod operations;
mod resources;
mod sends;
mod server;
mod specification;
mod support;
