//! Where the nodes of a scenario keep things and find each other.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cluster::Setup;
use crate::cql::{Cql, Keyspace};
use crate::network::Network;
use crate::program::Program;

use super::{GOSSIP, LINK};

/// Where nodes keep things and find each other.
#[derive(Debug)]
pub struct Place {
    cql: Cql,
    keyspace: Keyspace,
    /// Every scenario has a part of loopback of its own, so that no two want the same port.
    loopback: (u8, u8),
    /// The network that nodes are on, if they are not on loopback.
    pub(super) network: Option<Arc<Network>>,
    /// Where nodes reach the database that go another way than the others.
    pub(super) detours: BTreeMap<u8, SocketAddr>,
    pub(super) keys: Option<PathBuf>,
    pub(super) program: Program,
}

impl Place {
    /// A new keyspace there, and a new part of loopback.
    pub fn on(cql: Cql, about: &str) -> Self {
        let mut dice = StdRng::from_os_rng();
        Self {
            keyspace: cql.keyspace(about),
            cql,
            loopback: (dice.random_range(1..=254), dice.random_range(0..=254)),
            network: None,
            detours: BTreeMap::new(),
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

    /// The address of whom all nodes reach that are here.
    pub(super) fn shared_address(&self) -> IpAddr {
        let switch = self.network.as_ref().map(|network| network.switch());
        switch.unwrap_or(Ipv4Addr::LOCALHOST.into())
    }

    fn address(&self, node: u8) -> Ipv4Addr {
        let (a, b) = self.loopback;
        match &self.network {
            Some(network) => network.host(node).address,
            None => Ipv4Addr::new(127, a, b, node),
        }
    }

    fn contact_points(&self, node: u8) -> String {
        let detour = self.detours.get(&node).map(SocketAddr::to_string);
        detour.unwrap_or_else(|| self.cql.contact_points().join(","))
    }

    /// How the node of this number is started.
    pub fn setup(&self, number: u8) -> Setup {
        let at = |node: u8, port: u16| format!("{}:{port}", self.address(node));
        let seeds: Vec<_> = (1..=3).map(|node| at(node, GOSSIP)).collect();
        let setup = Setup::new()
            .run_as(self.program)
            .with("node.first_run", "never")
            .with("storage.kind", "cql")
            .with("storage.contact_points", self.contact_points(number))
            .with("storage.keyspace", self.keyspace.name())
            .with("storage.replication", self.cql.replicas().to_string())
            .with("cluster.node", number.to_string())
            .with("cluster.gossip", at(number, GOSSIP))
            .with("cluster.link", at(number, LINK))
            .with("cluster.seeds", seeds.join(","));
        let setup = match &self.network {
            None => setup,
            Some(network) => setup.on(network.host(number)),
        };
        match &self.keys {
            None => setup,
            Some(keys) => {
                let own = keys.join(format!("node-{number}"));
                setup.with("cluster.keys", own.to_string_lossy())
            }
        }
    }
}
