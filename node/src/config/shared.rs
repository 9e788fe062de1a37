//! What a node is told of the store that it shares, and of the nodes that it shares it with.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use zajil_cluster::link::ClusterId;

use super::{Layers, address, count, schema};

/// The store that several nodes share, and how they find each other.
#[derive(Clone, Debug)]
pub struct SharedConfig {
    /// Some servers of the database, as `host:port`.
    pub contact_points: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// Copies of everything.
    pub replication: u8,
    /// The datacenter that is near, where it is named.
    pub datacenter: Option<String>,
    /// Who this node is to the database: name and password.
    pub login: Option<(String, String)>,
    /// The name of the cluster.
    pub cluster: String,
    /// The number of this node.
    pub node: u64,
    /// Where it gossips.
    pub gossip: SocketAddr,
    /// Where other nodes ask it.
    pub link: SocketAddr,
    /// Under which address others reach it, when it is another one.
    pub advertise: Option<IpAddr>,
    /// Where others gossip.
    pub seeds: Vec<String>,
    /// The folder with its keys.
    pub keys: Option<PathBuf>,
}

impl SharedConfig {
    /// What was checked to be right; `None` for a node alone.
    pub(super) fn from_layers(layers: &Layers) -> Option<Self> {
        if layers.text("storage.kind") != "cql" {
            return None;
        }
        let some = |key| Some(layers.text(key).to_owned()).filter(|text| !text.is_empty());
        let places = |key| schema::places(layers.text(key)).expect("the value was checked");
        let user = some("storage.user");
        let password = layers.text("storage.password").to_owned();
        Some(Self {
            contact_points: places("storage.contact_points"),
            keyspace: layers.text("storage.keyspace").to_owned(),
            replication: u8::try_from(count(layers, "storage.replication"))
                .expect("the value was checked"),
            datacenter: some("storage.datacenter"),
            login: user.map(|user| (user, password)),
            cluster: layers.text("cluster.id").to_owned(),
            node: count(layers, "cluster.node") as u64,
            gossip: address(layers, "cluster.gossip"),
            link: address(layers, "cluster.link"),
            advertise: layers.text("cluster.advertise").parse().ok(),
            seeds: places("cluster.seeds"),
            keys: some("cluster.keys").map(PathBuf::from),
        })
    }
}

/// Checks what belongs together.
pub(super) fn check(layers: &mut Layers) {
    let advertise = layers.text("cluster.advertise");
    if !advertise.is_empty() && advertise.parse::<IpAddr>().is_err() {
        let wanted = "an IP address that other nodes can reach, such as \"10.0.0.7\"".to_owned();
        layers.refuse("cluster.advertise", wanted);
    }
    if let Err(rule) = layers.text("cluster.id").parse::<ClusterId>() {
        layers.refuse("cluster.id", format!("a good name: {rule}"));
    }
    if layers.text("storage.kind") != "cql" {
        return;
    }
    if layers.text("storage.contact_points").is_empty() {
        let wanted = "at least one server of the database, such as \"10.0.0.1:9042\"".to_owned();
        layers.refuse("storage.contact_points", wanted);
    }
    if layers.text("cluster.node").is_empty() {
        let wanted = "the number of this node, which no other one has".to_owned();
        layers.refuse("cluster.node", wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Source};
    use super::*;

    fn with(settings: &[(&str, &str)]) -> Layers {
        let mut layers = Layers::defaults();
        for (key, value) in settings {
            layers.set(key, (*value).to_owned(), Source::Flag("--set"));
        }
        layers
    }

    #[test]
    fn a_node_is_alone_unless_its_store_is_shared() {
        let config = Config::from_layers(&mut with(&[("cluster.node", "3")])).unwrap();

        assert!(config.shared.is_none());
    }

    #[test]
    fn a_shared_store_needs_a_place_and_a_node_a_number() {
        let faults = Config::from_layers(&mut with(&[("storage.kind", "cql")])).unwrap_err();

        let said = faults.to_string();
        assert!(said.contains("storage.contact_points"), "{said}");
        assert!(said.contains("cluster.node"), "{said}");
    }

    #[test]
    fn a_cluster_is_named_by_one_rule_for_gossip_link_and_certificates() {
        for wrong in ["", "My Cluster", "my.cluster", "-mine"] {
            let faults = Config::from_layers(&mut with(&[("cluster.id", wrong)])).unwrap_err();

            assert!(faults.to_string().contains("1 to 40 of a-z"), "{faults}");
        }
    }

    #[test]
    fn a_node_of_a_cluster_knows_its_place() {
        let mut layers = with(&[
            ("storage.kind", "cql"),
            ("storage.contact_points", "10.0.0.1:9042, db-2:9042"),
            ("cluster.node", "3"),
            ("cluster.seeds", "10.0.0.5:7946"),
            ("cluster.advertise", "10.0.0.7"),
        ]);

        let shared = Config::from_layers(&mut layers).unwrap().shared.unwrap();

        assert_eq!(shared.contact_points, ["10.0.0.1:9042", "db-2:9042"]);
        assert_eq!((shared.node, shared.replication), (3, 3));
        assert_eq!(shared.seeds, ["10.0.0.5:7946"]);
        assert_eq!(shared.advertise, Some(IpAddr::from([10, 0, 0, 7])));
    }
}
