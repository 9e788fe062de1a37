//! Who this node is on the link, and the times that the link keeps.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zajil_model::lease::{Incarnation, NodeId};

use super::DEAD_AFTER;

/// The longest name of a cluster: with `node-<id>.` before it, it is still a label of a host name
/// in a certificate.
const LONGEST_CLUSTER_ID: usize = 40;

/// Names a cluster: nodes of different ones do not talk to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(String);

/// A text that cannot name a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster is named by 1 to {LONGEST_CLUSTER_ID} of a-z, 0-9 and - (not first or last)")]
pub struct NotAClusterId;

impl FromStr for ClusterId {
    type Err = NotAClusterId;

    fn from_str(text: &str) -> Result<Self, NotAClusterId> {
        let letter = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        let edge = text.starts_with('-') || text.ends_with('-');
        let fits = (1..=LONGEST_CLUSTER_ID).contains(&text.len());
        if fits && !edge && text.bytes().all(letter) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAClusterId)
        }
    }
}

impl TryFrom<String> for ClusterId {
    type Error = NotAClusterId;

    fn try_from(text: String) -> Result<Self, NotAClusterId> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> Self {
        id.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who this node is, as it tells its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id, for ever.
    pub node: NodeId,
    /// Which of its lives this is.
    pub incarnation: Incarnation,
    /// The version of its software, for people.
    pub software: String,
}

/// The times that the link keeps. Tests shorten them; nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often each side says that it is there.
    pub ping_every: Duration,
    /// How long nothing at all is heard before a connection is dead: several pings.
    pub dead_after: Duration,
    /// How long a connection without calls stays open.
    pub idle_after: Duration,
    /// How long connecting, TLS and hello may take together.
    pub hello_within: Duration,
    /// The first wait after a connection failed; each further one is twice as long.
    pub backoff_from: Duration,
    /// The longest wait between two attempts.
    pub backoff_to: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(1),
            dead_after: DEAD_AFTER,
            idle_after: Duration::from_secs(60),
            hello_within: Duration::from_secs(2),
            backoff_from: Duration::from_millis(50),
            backoff_to: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_named_as_a_host_may_be() {
        for good in ["a", "zajil-3f2a", "0"] {
            assert_eq!(good.parse::<ClusterId>().unwrap().to_string(), good);
        }
        let long = "a".repeat(LONGEST_CLUSTER_ID + 1);
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "ä", &long] {
            assert_eq!(bad.parse::<ClusterId>(), Err(NotAClusterId), "{bad}");
        }
    }
}
