//! Where and how to gossip.

use std::net::SocketAddr;

use crate::link::{ClusterId, NotAClusterId};
use crate::membership::keys::KeyRing;

/// More seeds do not help: any one that answers names all others.
pub const MOST_SEEDS: usize = 32;

/// What gossip is started with.
#[derive(Clone, Debug)]
pub struct GossipConfig {
    /// Where to listen, by UDP. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach this node. Port 0 stands for the one it listens at.
    pub advertise: SocketAddr,
    /// Where others may be found at first, each as `host:port`.
    pub seeds: Vec<String>,
    /// Only nodes with the same id are of one cluster.
    pub cluster: String,
    /// What datagrams are sealed with.
    pub keys: Option<KeyRing>,
}

/// What is wrong with the settings of the gossip.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGossip {
    /// Plain gossip where others can reach it.
    #[error(
        "gossip at {0}, which is not loopback, needs keys: without them anybody who can send a \
         datagram there could speak for any node"
    )]
    NeedsKeys(SocketAddr),
    /// Nobody can reach the node there.
    #[error("gossip cannot be advertised as {0}: others need an address to reach this node at")]
    NoAddress(SocketAddr),
    /// Others would be told to send where it does not listen.
    #[error("gossip listens on loopback ({listen}) and cannot be advertised as {advertise}")]
    OutOfReach {
        /// Where it listens.
        listen: SocketAddr,
        /// What others would be told.
        advertise: SocketAddr,
    },
    /// An id that cannot be.
    #[error("the cluster id {id:?} cannot be")]
    ClusterId {
        /// It.
        id: String,
        /// What it should be: the same as for the link.
        source: NotAClusterId,
    },
    /// A seed without a host or a port.
    #[error("the seed {0:?} is not a host and a port, such as node-1:7946")]
    Seed(String),
    /// Too many.
    #[error("there can be at most {MOST_SEEDS} seeds")]
    TooManySeeds,
}

impl GossipConfig {
    /// Checks the settings, before anything is opened.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), BadGossip> {
        self.check_addresses()?;
        if let Err(source) = self.cluster.parse::<ClusterId>() {
            let id = self.cluster.clone();
            return Err(BadGossip::ClusterId { id, source });
        }
        if self.seeds.len() > MOST_SEEDS {
            return Err(BadGossip::TooManySeeds);
        }
        let bad = self.seeds.iter().find(|seed| !is_host_and_port(seed));
        bad.map_or(Ok(()), |seed| Err(BadGossip::Seed(seed.clone())))
    }

    fn check_addresses(&self) -> Result<(), BadGossip> {
        let (listen, advertise) = (self.listen, self.advertise);
        if advertise.ip().is_unspecified() {
            return Err(BadGossip::NoAddress(advertise));
        }
        let open = [listen, advertise]
            .into_iter()
            .find(|at| !at.ip().is_loopback());
        if let (Some(address), None) = (open, &self.keys) {
            return Err(BadGossip::NeedsKeys(address));
        }
        if listen.ip().is_loopback() && !advertise.ip().is_loopback() {
            return Err(BadGossip::OutOfReach { listen, advertise });
        }
        Ok(())
    }
}

fn is_host_and_port(seed: &str) -> bool {
    let Some((host, port)) = seed.rsplit_once(':') else {
        return false;
    };
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::keys::tests::ring;

    fn at(listen: &str, advertise: &str, keys: Option<KeyRing>) -> Result<(), BadGossip> {
        let config = GossipConfig {
            listen: listen.parse().unwrap(),
            advertise: advertise.parse().unwrap(),
            seeds: vec!["node-1:7946".to_owned(), "[::1]:7946".to_owned()],
            cluster: "home".to_owned(),
            keys,
        };
        config.check()
    }

    fn home() -> GossipConfig {
        GossipConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: SocketAddr::from(([127, 0, 0, 1], 0)),
            seeds: Vec::new(),
            cluster: "home".to_owned(),
            keys: None,
        }
    }

    #[test]
    fn plain_gossip_stays_on_loopback() {
        let open = |text: &str| BadGossip::NeedsKeys(text.parse().unwrap());

        assert_eq!(at("127.0.0.1:7946", "127.0.0.1:7946", None), Ok(()));
        assert_eq!(at("[::1]:7946", "[::1]:7946", None), Ok(()));
        for listen in ["0.0.0.0:7946", "10.0.0.1:7946", "[::]:7946"] {
            assert_eq!(at(listen, "127.0.0.1:7946", None), Err(open(listen)));
        }
        assert_eq!(
            at("127.0.0.1:7946", "10.0.0.1:7946", None),
            Err(open("10.0.0.1:7946"))
        );
    }

    #[test]
    fn sealed_gossip_may_be_anywhere_that_others_can_reach() {
        let keys = || Some(ring(&[1]));

        assert_eq!(at("0.0.0.0:7946", "10.0.0.1:7946", keys()), Ok(()));
        assert!(matches!(
            at("0.0.0.0:7946", "0.0.0.0:7946", keys()),
            Err(BadGossip::NoAddress(_))
        ));
        assert!(matches!(
            at("127.0.0.1:7946", "10.0.0.1:7946", keys()),
            Err(BadGossip::OutOfReach { .. })
        ));
    }

    #[test]
    fn the_refusal_of_plain_gossip_says_why() {
        let refusal = at("0.0.0.0:7946", "10.0.0.1:7946", None).unwrap_err();

        let said = refusal.to_string();
        assert!(
            said.starts_with("gossip at 0.0.0.0:7946, which is not loopback, needs keys"),
            "{said}"
        );
    }

    #[test]
    fn ids_and_seeds_that_cannot_be_are_refused() {
        let long = "x".repeat(41);
        for id in ["", "two words", "naïve", "Home", "my.home", "-home", &long] {
            let config = GossipConfig {
                cluster: id.to_owned(),
                ..home()
            };
            assert!(matches!(config.check(), Err(BadGossip::ClusterId { id: it, .. }) if it == id));
        }
        for seed in [
            "",
            "node-1",
            ":7946",
            "node-1:",
            "node-1:0",
            "node-1:x",
            "node-1:65536",
        ] {
            let config = GossipConfig {
                seeds: vec![seed.to_owned()],
                ..home()
            };
            assert_eq!(config.check(), Err(BadGossip::Seed(seed.to_owned())));
        }
        let many = vec!["node-1:7946".to_owned(); MOST_SEEDS + 1];
        assert_eq!(
            GossipConfig {
                seeds: many,
                ..home()
            }
            .check(),
            Err(BadGossip::TooManySeeds)
        );
    }
}
