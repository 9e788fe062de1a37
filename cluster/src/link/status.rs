//! What the link tells people: whom it reaches, and who was refused and why.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;
use zajil_model::lease::NodeId;

use super::Lane;
use super::hello::Refusal;
use crate::metrics::link::{self as metrics, Side};

/// Refused peers that are remembered, at most: strangers must not fill the memory.
const REMEMBERED: usize = 256;

/// How the link is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// The connections to other nodes that were ever asked for.
    pub peers: Vec<PeerStatus>,
    /// Who was refused, or refused this node, and did not get through since.
    pub refused: Vec<Refused>,
}

/// How the connection of one lane to one node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// The node.
    pub node: NodeId,
    /// The lane.
    pub lane: Lane,
    /// How it is.
    pub state: PeerState,
    /// Which life of the node it is, where there is a connection.
    pub incarnation: Option<u64>,
    /// The software that the node runs, where there is a connection.
    pub software: Option<String>,
    /// Calls that wait for an answer.
    pub in_flight: usize,
    /// What ended the last connection or attempt, where there is none now.
    pub problem: Option<String>,
}

/// How a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// Nobody needs one.
    Idle,
    /// It is being made.
    Dialing,
    /// It is there.
    Up,
    /// The last one failed; the next call makes another one.
    Down,
}

/// A peer that did not get past its hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Who: a node that was asked, or an address that asked.
    pub who: String,
    /// The name of the reason.
    pub reason: &'static str,
    /// The reason.
    pub detail: String,
    /// Whether somebody has to mend it: it does not pass by itself.
    pub lasts: bool,
    /// How often.
    pub times: u64,
    /// Seconds since the last time.
    pub seconds_ago: u64,
}

/// The other end of a connection that was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    /// This node connected to it.
    To(NodeId),
    /// It connected, and said that it is that node, if it said so much.
    From(IpAddr, Option<NodeId>),
}

impl Who {
    const fn side(self) -> Side {
        match self {
            Self::To(_) => Side::Asking,
            Self::From(..) => Side::Asked,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(node) => write!(f, "node {}", node.0),
            Self::From(ip, Some(node)) => write!(f, "{ip}, as node {}", node.0),
            Self::From(ip, None) => write!(f, "{ip}"),
        }
    }
}

/// Remembers who was refused, and says each reason once.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<BTreeMap<(Who, &'static str), Entry>>);

#[derive(Debug)]
struct Entry {
    refusal: Refusal,
    times: u64,
    last: Instant,
}

impl Journal {
    /// A connection did not get past its hello.
    pub(super) fn refused(&self, who: Who, refusal: &Refusal) {
        metrics::refused(who.side(), refusal);
        let mut entries = self.0.lock();
        let key = (who, refusal.label());
        if let Some(entry) = entries.get_mut(&key) {
            entry.times += 1;
            entry.last = Instant::now();
            entry.refusal = refusal.clone();
            return;
        }
        if entries.len() >= REMEMBERED {
            let oldest = entries.iter().min_by_key(|(_, it)| it.last);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                entries.remove(&oldest);
            }
        }
        entries.insert(
            key,
            Entry {
                refusal: refusal.clone(),
                times: 1,
                last: Instant::now(),
            },
        );
        drop(entries);
        log(who, refusal);
    }

    /// A connection got past its hello: what was is over.
    pub(super) fn connected(&self, who: Who) {
        metrics::connected(who.side());
        self.0.lock().retain(|(it, _), _| *it != who);
    }

    pub(super) fn entries(&self) -> Vec<Refused> {
        let entries = self.0.lock();
        let shown = |((who, reason), entry): (&(Who, &'static str), &Entry)| Refused {
            who: who.to_string(),
            reason,
            detail: entry.refusal.to_string(),
            lasts: entry.refusal.lasts(),
            times: entry.times,
            seconds_ago: entry.last.elapsed().as_secs(),
        };
        entries.iter().map(shown).collect()
    }
}

fn log(who: Who, refusal: &Refusal) {
    let reason = refusal.label();
    match (who.side(), refusal.lasts()) {
        (Side::Asking, true) => tracing::error!(peer = %who, reason, %refusal, "cannot link"),
        (Side::Asking, false) => tracing::info!(peer = %who, reason, %refusal, "cannot link"),
        (Side::Asked, true) => tracing::error!(peer = %who, reason, %refusal, "refused a link"),
        (Side::Asked, false) => tracing::info!(peer = %who, reason, %refusal, "refused a link"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn stranger(number: u32) -> Who {
        Who::From(Ipv4Addr::from_bits(number).into(), None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_counted_until_its_peer_gets_through() {
        let journal = Journal::default();
        let peer = Who::To(NodeId(2));

        journal.refused(peer, &Refusal::Late);
        journal.refused(peer, &Refusal::Late);
        journal.refused(peer, &Refusal::NotANode);

        let times: Vec<_> = journal.entries().iter().map(|it| it.times).collect();
        assert_eq!(times, [2, 1]);
        journal.connected(peer);
        assert_eq!(journal.entries(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_are_remembered_up_to_a_bound_and_the_oldest_is_forgotten() {
        let journal = Journal::default();

        for number in 0..=REMEMBERED {
            journal.refused(stranger(number as u32), &Refusal::NotANode);
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }

        let entries = journal.entries();
        assert_eq!(entries.len(), REMEMBERED);
        assert!(!entries.iter().any(|it| it.who == "0.0.0.0"));
    }
}
