//! Nodes that gossip over real sockets on loopback: who hears whom, and what is kept out.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "gossip/support.rs"]
mod support;

#[path = "gossip/fifty.rs"]
mod fifty;
#[path = "gossip/joining.rs"]
mod joining;
#[path = "gossip/keys.rs"]
mod keys;
#[path = "gossip/trust.rs"]
mod trust;
