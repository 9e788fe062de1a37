//! The binary `zajil`: configuration, command line, wiring, telemetry.
//!
//! [`node::Node`] is one running node; two of them can live in one process. What belongs to the
//! process as a whole (log, metrics recorder, signals) is set up by the commands alone. Reading
//! order: [`node`], [`wiring`], [`config`], [`cli`].

pub mod cli;
pub mod client;
pub mod clock;
pub mod command;
pub mod config;
pub mod files;
pub mod first_run;
pub mod gossip;
pub mod node;
mod progress;
pub mod secret;
pub mod show;
pub mod signals;
pub mod telemetry;
pub mod together;
pub mod upkeep;
pub mod wiring;

pub use config::Config;
pub use node::{Node, Process};

/// The allocator of every program that this library is part of. A request's memory is often freed
/// by another thread than took it; with the C library's allocator that was the largest single cost
/// of a request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
