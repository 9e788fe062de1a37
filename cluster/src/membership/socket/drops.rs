//! Counts what is dropped, and says so once a minute for each reason: a flood of foreign datagrams
//! must not become a flood of log lines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;
use zajil_model::time::{Clock, Mono};

use crate::metrics::gossip::{Dropped, GossipMetrics};

/// How long a reason that was told is not told again.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What is dropped by one socket.
#[derive(Debug)]
pub(in crate::membership) struct Drops {
    metrics: GossipMetrics,
    clock: Arc<dyn Clock>,
    told: [Option<Mono>; Dropped::ALL.len()],
}

impl Drops {
    pub(super) fn new(metrics: GossipMetrics, clock: Arc<dyn Clock>) -> Self {
        Self {
            metrics,
            clock,
            told: [None; Dropped::ALL.len()],
        }
    }

    /// A datagram from or to `peer` was dropped.
    pub(super) fn note(&mut self, why: Dropped, peer: SocketAddr) {
        self.metrics.dropped(why);
        if self.is_to_be_told(why) {
            let (reason, count) = (why.label(), self.metrics.drops(why));
            warn!(reason, %peer, count, "gossip datagram dropped: {}", sentence(why));
        }
    }

    fn is_to_be_told(&mut self, why: Dropped) -> bool {
        let now = self.clock.mono();
        let told = &mut self.told[why as usize];
        let is_due = told.is_none_or(|told| now.since(told) >= TOLD_AGAIN_AFTER);
        if is_due {
            *told = Some(now);
        }
        is_due
    }
}

const fn sentence(why: Dropped) -> &'static str {
    match why {
        Dropped::Length => "it does not have the length of a sealed one",
        Dropped::Format => "it is of a format that this version does not know",
        Dropped::Cluster => "it is of a cluster with another id",
        Dropped::Key => "it was sealed with a key that this node does not have",
        Dropped::Untimely => {
            "it was sent more than 30 s from now: the clocks differ, or it was captured"
        }
        Dropped::Forged => "it is forged",
        Dropped::Repeated => "it was seen before, or is far behind others of its sender",
        Dropped::Crowded => "more senders than can be remembered",
        Dropped::Own => {
            "it came back to its sender, or another node has the same name (a copied data folder?)"
        }
        Dropped::NotUnderstood => "what was sealed is no message of the gossip",
        Dropped::Stranger => "a process of this machine sent to the inner socket",
        Dropped::Unsent => "it could not be sent",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use zajil_model::time::Timestamp;

    use super::*;

    #[derive(Debug, Default)]
    struct Seconds(AtomicU64);

    impl Clock for Seconds {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }

        fn mono(&self) -> Mono {
            Mono::from_nanos(self.0.load(Ordering::Relaxed) * 1_000_000_000)
        }
    }

    #[test]
    fn a_reason_is_told_once_a_minute_and_counted_each_time() {
        let clock = Arc::new(Seconds::default());
        let metrics = GossipMetrics::new();
        let mut drops = Drops::new(metrics.clone(), clock.clone());
        let mut told = |seconds| {
            clock.0.store(seconds, Ordering::Relaxed);
            drops.is_to_be_told(Dropped::Forged)
        };

        assert_eq!(
            [0, 1, 59, 60, 61, 120].map(&mut told),
            [true, false, false, true, false, true]
        );
        drops.note(Dropped::Key, SocketAddr::from(([127, 0, 0, 1], 1)));
        drops.note(Dropped::Key, SocketAddr::from(([127, 0, 0, 1], 1)));

        assert_eq!(metrics.drops(Dropped::Key), 2);
    }
}
