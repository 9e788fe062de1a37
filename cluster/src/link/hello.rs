//! The hello: who is there, and whether both can talk.
//!
//! The node that connects speaks first; the other one answers with a hello of its own even when it
//! refuses, so that both sides can say what is wrong. A hello is a magic word, a length and a
//! MessagePack map.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zajil_model::lease::NodeId;

use super::config::Identity;
use super::{Lane, tls::CertificateFault};

/// Begins every hello: whoever says something else is not a node.
const MAGIC: [u8; 8] = *b"zajil\x01lk";

/// The longest hello. It is read before anything is known of the peer.
const LIMIT: usize = 4 << 10;

/// The oldest protocol that this node speaks.
pub(super) const OLDEST: u16 = 1;

/// The newest protocol that this node speaks.
pub(super) const NEWEST: u16 = 1;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The protocols that it speaks, from here
    pub(super) oldest: u16,
    /// to here.
    pub(super) newest: u16,
    pub(super) cluster: String,
    pub(super) node: u64,
    pub(super) incarnation: u64,
    /// What it can do beyond its protocol, a bit each. None is defined yet.
    #[serde(default)]
    pub(super) features: u64,
    /// For people.
    #[serde(default)]
    pub(super) software: String,
}

/// What the connecting node says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opening {
    pub(super) hello: Hello,
    /// Whom it means to reach: an address may have passed to another node.
    pub(super) to: u64,
    pub(super) lane: Lane,
}

/// What the other node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) hello: Hello,
    /// Why it will not talk; absent when it will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
}

/// Why two nodes do not talk to each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What connected, or was connected to, is not a node.
    #[error("it does not speak the protocol of the link")]
    NotANode,
    /// Another cluster.
    #[error("it belongs to cluster {theirs}, this node to {ours}")]
    OtherCluster {
        /// Its cluster.
        theirs: String,
        /// This node's.
        ours: String,
    },
    /// No protocol is spoken by both.
    #[error("it speaks protocols {oldest} to {newest}, this node {OLDEST} to {NEWEST}")]
    Version {
        /// Its oldest protocol.
        oldest: u16,
        /// Its newest.
        newest: u16,
    },
    /// It has this node's own id: a copied data folder.
    #[error("it says that it is node {}, which is this node: was a data folder copied?", node.0)]
    SameNode {
        /// The id.
        node: NodeId,
    },
    /// It is not the node that was meant: an address passed on.
    #[error("it is node {} and not the one that was meant", node.0)]
    OtherNode {
        /// Who it is.
        node: NodeId,
    },
    /// It means to reach another node than this one: an address passed on.
    #[error("it means to reach node {}, which is not here", node.0)]
    MeantOther {
        /// Whom it meant.
        node: NodeId,
    },
    /// Nobody told where it is.
    #[error("its address is not known")]
    Nowhere,
    /// Its certificate does not prove that it is that node.
    #[error("{0}")]
    Certificate(CertificateFault),
    /// It refused, and its hello does not show why.
    #[error("it refused: {0}")]
    Refused(String),
    /// It stops.
    #[error("it is stopping")]
    Stopping,
    /// It takes no more connections.
    #[error("it has too many connections")]
    Full,
    /// It did not finish its hello in time.
    #[error("it did not say hello in time")]
    Late,
    /// The connection failed.
    #[error("{0}")]
    Failed(String),
    /// It is elsewhere, and nothing protects the way.
    #[error("{0} is not on this machine, and there are no keys: see `zajil cluster init`")]
    Unprotected(std::net::SocketAddr),
}

impl Refusal {
    /// Its name, in metrics and on the wire.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotANode => "not_a_node",
            Self::OtherCluster { .. } => "cluster",
            Self::Version { .. } => "version",
            Self::SameNode { .. } => "same_node",
            Self::OtherNode { .. } | Self::MeantOther { .. } => "other_node",
            Self::Nowhere => "nowhere",
            Self::Certificate(_) => "certificate",
            Self::Refused(_) => "refused",
            Self::Stopping => "stopping",
            Self::Full => "full",
            Self::Late => "late",
            Self::Failed(_) => "connection",
            Self::Unprotected(_) => "unprotected",
        }
    }

    /// Whether somebody has to mend it: the rest passes by itself.
    pub const fn lasts(&self) -> bool {
        match self {
            Self::NotANode
            | Self::OtherCluster { .. }
            | Self::Version { .. }
            | Self::SameNode { .. }
            | Self::Certificate(_)
            | Self::Refused(_)
            | Self::Unprotected(_) => true,
            Self::OtherNode { .. }
            | Self::MeantOther { .. }
            | Self::Nowhere
            | Self::Stopping
            | Self::Full
            | Self::Late
            | Self::Failed(_) => false,
        }
    }
}

impl Hello {
    pub(super) fn of(identity: &Identity) -> Self {
        Self {
            oldest: OLDEST,
            newest: NEWEST,
            cluster: identity.cluster.to_string(),
            node: identity.node.0,
            incarnation: identity.incarnation.0,
            features: 0,
            software: identity.software.clone(),
        }
    }

    /// Whether this node talks to one that says this.
    pub(super) fn check(&self, me: &Identity) -> Result<(), Refusal> {
        if self.cluster != me.cluster.to_string() {
            return Err(Refusal::OtherCluster {
                theirs: shown(&self.cluster),
                ours: me.cluster.to_string(),
            });
        }
        if self.oldest > NEWEST || self.newest < OLDEST {
            let (oldest, newest) = (self.oldest, self.newest);
            return Err(Refusal::Version { oldest, newest });
        }
        if self.node == me.node.0 {
            return Err(Refusal::SameNode { node: me.node });
        }
        Ok(())
    }

    /// Whether it is the node that was meant.
    pub(super) fn check_meant(&self, node: NodeId) -> Result<(), Refusal> {
        if self.node == node.0 {
            return Ok(());
        }
        Err(Refusal::OtherNode {
            node: NodeId(self.node),
        })
    }
}

impl Answer {
    /// Whether both will talk, as the connecting node sees it.
    pub(super) fn check(&self, me: &Identity, meant: NodeId) -> Result<(), Refusal> {
        self.hello.check(me)?;
        self.hello.check_meant(meant)?;
        match self.refused.as_deref() {
            None => Ok(()),
            Some("stopping") => Err(Refusal::Stopping),
            Some("full") => Err(Refusal::Full),
            Some("certificate") => Err(Refusal::Certificate(CertificateFault::Ours)),
            Some(other) => Err(Refusal::Refused(shown(other))),
        }
    }
}

/// What a stranger said, fit for a log.
pub(super) fn shown(text: &str) -> String {
    const ENOUGH: usize = 64;
    text.chars()
        .filter(|it| !it.is_control())
        .take(ENOUGH)
        .collect()
}

/// Says a hello.
pub(super) async fn say<T: Serialize + Sync>(
    out: &mut (impl AsyncWrite + Unpin + Send),
    hello: &T,
) -> io::Result<()> {
    let map = rmp_serde::to_vec_named(hello).map_err(io::Error::other)?;
    let length = u32::try_from(map.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::from(MAGIC);
    bytes.extend(length.to_be_bytes());
    bytes.extend(map);
    out.write_all(&bytes).await?;
    out.flush().await
}

/// Hears a hello, and takes not a byte more than it.
pub(super) async fn hear<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin + Send),
) -> Result<T, Refusal> {
    let mut start = [0; MAGIC.len() + 4];
    let failed = |error: io::Error| super::tls::refusal(&error);
    from.read_exact(&mut start).await.map_err(failed)?;
    let (magic, length) = start.split_at(MAGIC.len());
    let length = length.try_into().map_or(u32::MAX, u32::from_be_bytes) as usize;
    if magic != MAGIC || length > LIMIT {
        return Err(Refusal::NotANode);
    }
    let mut map = vec![0; length];
    from.read_exact(&mut map).await.map_err(failed)?;
    rmp_serde::from_slice(&map).map_err(|_| Refusal::NotANode)
}

#[cfg(test)]
mod tests {
    use zajil_model::lease::Incarnation;

    use super::*;

    fn me() -> Identity {
        Identity {
            cluster: "souq".parse().unwrap(),
            node: NodeId(1),
            incarnation: Incarnation(4),
            software: "1.0".to_owned(),
        }
    }

    fn peer() -> Hello {
        Hello {
            node: 2,
            ..Hello::of(&me())
        }
    }

    #[tokio::test]
    async fn a_hello_is_heard_as_it_was_said() {
        let (mut here, mut there) = tokio::io::duplex(LIMIT);

        say(&mut here, &peer()).await.unwrap();

        assert_eq!(hear::<Hello>(&mut there).await, Ok(peer()));
    }

    #[tokio::test]
    async fn whoever_speaks_another_protocol_is_no_node() {
        let (mut here, mut there) = tokio::io::duplex(LIMIT);

        here.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();

        assert_eq!(hear::<Hello>(&mut there).await, Err(Refusal::NotANode));
    }

    #[test]
    fn nodes_of_one_cluster_talk_when_they_share_a_protocol() {
        let speaks = |oldest, newest| Hello {
            oldest,
            newest,
            ..peer()
        };

        assert_eq!(speaks(0, 1).check(&me()), Ok(()));
        assert_eq!(speaks(1, 9).check(&me()), Ok(()));
        let (oldest, newest) = (2, 9);
        let newer = Err(Refusal::Version { oldest, newest });
        assert_eq!(speaks(2, 9).check(&me()), newer);
    }

    #[test]
    fn another_cluster_and_a_second_self_are_refused() {
        let other = Hello {
            cluster: "bazaar\n".to_owned(),
            ..peer()
        };
        let (theirs, ours) = ("bazaar".to_owned(), "souq".to_owned());
        let refused = Err(Refusal::OtherCluster { theirs, ours });
        assert_eq!(other.check(&me()), refused);

        let second = Hello::of(&me()).check(&me());
        assert_eq!(second, Err(Refusal::SameNode { node: NodeId(1) }));
    }

    #[test]
    fn an_answer_from_another_node_than_was_meant_is_no_answer() {
        let answer = Answer {
            hello: peer(),
            refused: None,
        };

        let refused = answer.check(&me(), NodeId(3));

        assert_eq!(refused, Err(Refusal::OtherNode { node: NodeId(2) }));
        assert_eq!(answer.check(&me(), NodeId(2)), Ok(()));
    }
}
