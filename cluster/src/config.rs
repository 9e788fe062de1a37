//! What the cluster is started with, and what cannot be.

pub mod gossip;
