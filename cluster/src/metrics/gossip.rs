//! What gossip counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

const MEMBERS: &str = "zajil_gossip_members";
const CHANGES: &str = "zajil_gossip_state_changes_total";
const DROPPED: &str = "zajil_gossip_packets_dropped_total";
const PACKETS: &str = "zajil_gossip_packets_total";
const DETECTION: &str = "zajil_gossip_detection_timeout_seconds";
const VIEW: &str = "zajil_cluster_view_hash";

/// Why a datagram of the gossip was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Too short or too long to be sealed.
    Length,
    /// Of a format that this program does not know.
    Format,
    /// Of another cluster.
    Cluster,
    /// Sealed with a key that this node does not have.
    Key,
    /// Sent too long ago, or in the future.
    Untimely,
    /// Forged, or changed on its way.
    Forged,
    /// Seen before.
    Repeated,
    /// From one sender more than are remembered.
    Crowded,
    /// Sent by this very node, or by one that has its name and incarnation.
    Own,
    /// Sealed well, and nothing that the gossip library understands.
    NotUnderstood,
    /// Sent to the inner pair of sockets by another process of this machine.
    Stranger,
    /// It could not be sent.
    Unsent,
}

impl Dropped {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Length,
        Self::Format,
        Self::Cluster,
        Self::Key,
        Self::Untimely,
        Self::Forged,
        Self::Repeated,
        Self::Crowded,
        Self::Own,
        Self::NotUnderstood,
        Self::Stranger,
        Self::Unsent,
    ];

    /// The reason as metrics and logs name it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Format => "format",
            Self::Cluster => "cluster",
            Self::Key => "key",
            Self::Untimely => "untimely",
            Self::Forged => "forged",
            Self::Repeated => "repeated",
            Self::Crowded => "crowded",
            Self::Own => "own",
            Self::NotUnderstood => "not_understood",
            Self::Stranger => "stranger",
            Self::Unsent => "unsent",
        }
    }
}

/// How the nodes are that gossip has heard of, this one aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Probably alive.
    pub live: usize,
    /// Heard, but not all that they say has arrived.
    pub joining: usize,
    /// Heard, and what they say cannot be.
    pub unreadable: usize,
    /// Silent.
    pub dead: usize,
}

/// The counters of the gossip of a node.
#[derive(Clone)]
pub struct GossipMetrics {
    dropped: [Counter; Dropped::ALL.len()],
    /// The same again: metrics cannot be read, and readiness and tests want to.
    drops: Arc<[AtomicU64; Dropped::ALL.len()]>,
    sent: Counter,
    received: Counter,
    members: [Gauge; 4],
    joined: Counter,
    left: Counter,
    detection: Gauge,
    view: Gauge,
}

impl std::fmt::Debug for GossipMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GossipMetrics").finish_non_exhaustive()
    }
}

fn describe() {
    let count = Unit::Count;
    describe_gauge!(
        MEMBERS,
        count,
        "other nodes that gossip has heard of, by state"
    );
    describe_counter!(CHANGES, count, "peers that became alive or were lost");
    describe_counter!(DROPPED, count, "gossip datagrams dropped, by reason");
    describe_counter!(PACKETS, count, "gossip datagrams taken or sent");
    describe_gauge!(
        DETECTION,
        Unit::Seconds,
        "after how long a silence the slowest live peer counts as lost"
    );
    describe_gauge!(
        VIEW,
        count,
        "a number made from the nodes that are alive, this one too; nodes that agree show the same"
    );
}

impl Default for GossipMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl GossipMetrics {
    /// Describes and registers everything, so that each series is there from the start.
    pub fn new() -> Self {
        describe();
        Self {
            dropped: Dropped::ALL.map(|why| counter!(DROPPED, "reason" => why.label())),
            drops: Arc::new(Dropped::ALL.map(|_| AtomicU64::new(0))),
            sent: counter!(PACKETS, "direction" => "sent"),
            received: counter!(PACKETS, "direction" => "received"),
            members: ["live", "joining", "unreadable", "dead"]
                .map(|state| gauge!(MEMBERS, "state" => state)),
            joined: counter!(CHANGES, "to" => "alive"),
            left: counter!(CHANGES, "to" => "lost"),
            detection: gauge!(DETECTION),
            view: gauge!(VIEW),
        }
    }

    /// A datagram was dropped.
    pub fn dropped(&self, why: Dropped) {
        self.dropped[why as usize].increment(1);
        self.drops[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many datagrams were dropped for a reason.
    pub fn drops(&self, why: Dropped) -> u64 {
        self.drops[why as usize].load(Ordering::Relaxed)
    }

    /// A datagram was sent.
    pub fn sent(&self) {
        self.sent.increment(1);
    }

    /// A datagram was taken.
    pub fn received(&self) {
        self.received.increment(1);
    }

    /// So many peers became alive, and so many were lost.
    pub fn changed(&self, joined: usize, left: usize) {
        self.joined.increment(joined as u64);
        self.left.increment(left as u64);
    }

    /// How the other nodes are, and the longest silence that a live one may keep.
    pub fn members(&self, members: Members, detection: Duration) {
        let Members {
            live,
            joining,
            unreadable,
            dead,
        } = members;
        let counts = [live, joining, unreadable, dead];
        for (gauge, count) in self.members.iter().zip(counts) {
            gauge.set(count as f64);
        }
        self.detection.set(detection.as_secs_f64());
    }

    /// The number made from the nodes that are alive; below 2^48, so that a gauge holds it exactly.
    pub fn view(&self, fingerprint: u64) {
        self.view.set(fingerprint as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let metrics = GossipMetrics::new();
        for (count, why) in (1..).zip(Dropped::ALL) {
            (0..count).for_each(|_| metrics.dropped(why));
        }

        for (count, why) in (1..).zip(Dropped::ALL) {
            assert_eq!(metrics.drops(why), count, "{}", why.label());
        }
    }
}
