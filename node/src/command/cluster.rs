//! `zajil cluster`: several nodes that are one.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::client;
use crate::cli::Settings;
use crate::client::Target;

mod drain;
mod init;
mod status;

/// Make, see and steer the nodes that share one store.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with clusters.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make the keys and certificates of a cluster, or of one more node of it.
    ///
    /// Nodes that talk over a network show each other certificates of their cluster's own
    /// authority, and seal their gossip with a key that all of them have. This writes both into a
    /// folder, with a folder in it for each node. It talks to no node, and never overwrites a
    /// file. Nodes on one machine need none of it when they listen on loopback.
    #[command(after_help = "Examples:\n  \
        zajil cluster init --dir zajil-cluster --nodes 3\n  \
        zajil cluster init --dir zajil-cluster --add 4")]
    Init(init::InitArgs),
    /// Show the nodes as one of them knows them: state, shards, lease, link, version.
    ///
    /// A node is `live`, `draining` (it gives its shards away), `silent` (it has its lease, but is
    /// not heard), `suspended` (it could not renew its lease, and sends nothing), `joining`, or
    /// `dead` (its shards belong to others). How old a lease is, each node knows of its own alone.
    /// Below the table stands what moves, what has no owner, why the node that was asked is not
    /// ready, and what went wrong last.
    #[command(after_help = "Examples:\n  \
        zajil cluster status --data-dir /var/lib/zajil\n  \
        zajil cluster status --operations-url http://10.0.0.7:8081")]
    Status(Asked),
    /// Have a node give its shards away and end, and wait until it did.
    ///
    /// The same as SIGTERM: other nodes take its shards over one by one, what is in flight is
    /// finished, and the process ends with exit code 0, at the latest after `node.drain_timeout`.
    /// A supervisor that always restarts starts it again.
    #[command(after_help = "Examples:\n  \
        zajil cluster drain --data-dir /var/lib/zajil\n  \
        zajil cluster drain --operations-url http://10.0.0.7:8081 --token TOKEN")]
    Drain(Asked),
}

/// Which node is asked.
#[derive(Args, Debug)]
pub struct Asked {
    /// Which node.
    #[command(flatten)]
    pub target: Target,
}

/// Does it.
pub fn run(settings: &Settings, args: ClusterArgs) -> Result<ExitCode> {
    match args.action {
        Action::Init(args) => init::run(args),
        Action::Status(asked) => client(status::run(settings, asked.target)),
        Action::Drain(asked) => client(drain::run(settings, asked.target)),
    }
}
