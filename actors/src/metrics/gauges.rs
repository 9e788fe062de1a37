//! What is true of a node at the moment of a scrape.

use std::time::Duration;

use metrics::{Gauge, Unit, describe_gauge, gauge};

const RUNNING: &str = "zajil_instances_running";
const INSTANCES: &str = "zajil_instances";
const DAMAGED: &str = "zajil_instances_damaged";
const WINDOW_BYTES: &str = "zajil_window_bytes";
const WAKE_UPS: &str = "zajil_wake_ups_waiting";
const QUEUE: &str = "zajil_queue_messages";
const OLDEST: &str = "zajil_queue_oldest_age_seconds";
const SHARDS: &str = "zajil_shards_owned";

/// The gauges of a node.
#[derive(Clone)]
pub struct Gauges {
    running: Gauge,
    sessions: [Gauge; 3],
    asleep: Gauge,
    damaged: Gauge,
    window_bytes: Gauge,
    wake_ups: Gauge,
    queue: [Gauge; 3],
    oldest: Gauge,
    shards: Gauge,
}

impl std::fmt::Debug for Gauges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gauges").finish_non_exhaustive()
    }
}

/// What is known without asking the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here {
    /// Running instances by session: open, connecting, closed.
    pub sessions: [usize; 3],
    /// Instances that exist, running or not.
    pub exist: u64,
    /// Running instances with messages that cannot be read.
    pub damaged: usize,
    /// What their windows hold, in bytes.
    pub window_bytes: usize,
    /// Points in time at which actors asked to be woken.
    pub wake_ups: usize,
    /// Shards that this node owns.
    pub shards: u16,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    /// Messages by state: scheduled, pending, processing.
    pub messages: [u64; 3],
    /// For how long the oldest message has waited that might go, pace aside.
    pub oldest: Duration,
}

impl Gauges {
    pub(super) fn new() -> Self {
        describe_gauge!(RUNNING, Unit::Count, "instances with a running actor");
        describe_gauge!(
            INSTANCES,
            Unit::Count,
            "instances that exist: by session those with a running actor, asleep the others, which are opened when they have work"
        );
        describe_gauge!(
            DAMAGED,
            Unit::Count,
            "instances whose messages cannot all be read, because what is stored is damaged"
        );
        describe_gauge!(
            WINDOW_BYTES,
            Unit::Bytes,
            "messages held in the windows of all instances"
        );
        describe_gauge!(
            WAKE_UPS,
            Unit::Count,
            "points in time at which actors asked to be woken"
        );
        describe_gauge!(
            QUEUE,
            Unit::Count,
            "messages that are not settled, by state"
        );
        describe_gauge!(
            OLDEST,
            Unit::Seconds,
            "age of the oldest message that waits to be sent"
        );
        describe_gauge!(SHARDS, Unit::Count, "shards that this node owns");
        Self {
            running: gauge!(RUNNING),
            sessions: ["open", "connecting", "close"]
                .map(|state| gauge!(INSTANCES, "state" => state)),
            asleep: gauge!(INSTANCES, "state" => "asleep"),
            damaged: gauge!(DAMAGED),
            window_bytes: gauge!(WINDOW_BYTES),
            wake_ups: gauge!(WAKE_UPS),
            queue: ["scheduled", "pending", "processing"]
                .map(|state| gauge!(QUEUE, "state" => state)),
            oldest: gauge!(OLDEST),
            shards: gauge!(SHARDS),
        }
    }

    /// What is known without asking the store.
    pub fn here(&self, here: Here) {
        let running = here.sessions.iter().sum::<usize>() as u64;
        self.running.set(running as f64);
        self.asleep.set(here.exist.saturating_sub(running) as f64);
        self.damaged.set(here.damaged as f64);
        for (gauge, count) in self.sessions.iter().zip(here.sessions) {
            gauge.set(count as f64);
        }
        self.window_bytes.set(here.window_bytes as f64);
        self.wake_ups.set(here.wake_ups as f64);
        self.shards.set(f64::from(here.shards));
    }

    /// What waits.
    pub fn backlog(&self, backlog: Backlog) {
        for (gauge, count) in self.queue.iter().zip(backlog.messages) {
            gauge.set(count as f64);
        }
        self.oldest.set(backlog.oldest.as_secs_f64());
    }
}
