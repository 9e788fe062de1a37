//! The embedded store: a file log of our own and projections of it, in one directory.

pub mod log;
