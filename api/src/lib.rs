//! Zajil: the HTTP edge.
mod auth;
mod body;
mod config;
mod envelope;
mod error;
mod front;
mod json;
mod limit;
mod metrics;
mod page;
mod request;
mod server;
mod stamp;
mod state;
mod validate;

pub use config::{ApiConfig, OperatorToken, ServerLimits};
pub use server::{ServerReport, serve};
pub use state::{ApiState, Peer, Shared};
