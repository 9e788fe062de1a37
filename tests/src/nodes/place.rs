//! Where the nodes of a scenario keep things and find each other.

use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cluster::Setup;
use crate::cql::{Cql, Keyspace};
use crate::program::Program;

/// Where nodes keep things and find each other.
#[derive(Debug)]
pub struct Place {
    cql: Cql,
    keyspace: Keyspace,
    /// The network of the nodes: every scenario has one of its own on loopback, so that no two
    /// want the same port.
    network: (u8, u8),
    pub(super) keys: Option<PathBuf>,
    pub(super) program: Program,
}

impl Place {
    /// A new keyspace there, and a new network.
    pub fn on(cql: Cql, about: &str) -> Self {
        let mut dice = StdRng::from_os_rng();
        Self {
            keyspace: cql.keyspace(about),
            cql,
            network: (dice.random_range(1..=254), dice.random_range(0..=254)),
            keys: None,
            program: Program::default(),
        }
    }

    /// The server of their database.
    pub const fn cql(&self) -> &Cql {
        &self.cql
    }

    /// The keyspace that they share.
    pub fn keyspace(&self) -> &str {
        self.keyspace.name()
    }

    /// How the node of this number is started.
    pub fn setup(&self, number: u8) -> Setup {
        let address = |node: u8, port: u16| {
            let (a, b) = self.network;
            format!("127.{a}.{b}.{node}:{port}")
        };
        let seeds: Vec<_> = (1..=3).map(|node| address(node, 7_946)).collect();
        let setup = Setup::new()
            .run_as(self.program)
            .with("node.first_run", "never")
            .with("storage.kind", "cql")
            .with(
                "storage.contact_points",
                self.cql.contact_points().join(","),
            )
            .with("storage.keyspace", self.keyspace.name())
            .with("storage.replication", self.cql.replicas().to_string())
            .with("cluster.node", number.to_string())
            .with("cluster.gossip", address(number, 7_946))
            .with("cluster.link", address(number, 7_947))
            .with("cluster.seeds", seeds.join(","));
        match &self.keys {
            None => setup,
            Some(keys) => {
                let own = keys.join(format!("node-{number}"));
                setup.with("cluster.keys", own.to_string_lossy())
            }
        }
    }
}
