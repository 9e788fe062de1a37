//! How long messages wait, stage by stage.

use std::time::Duration;

use metrics::{Histogram, Unit, describe_histogram, histogram};

const STAGE: &str = "zajil_stage_duration_seconds";
const EXCESS: &str = "zajil_excess_wait_seconds";

/// The histograms of waits. A record costs some 60 ns, a message makes three.
#[derive(Clone)]
pub struct Waits {
    queue: Histogram,
    server_ack: Histogram,
    excess: Histogram,
}

impl std::fmt::Debug for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waits").finish_non_exhaustive()
    }
}

impl Waits {
    pub(super) fn new() -> Self {
        describe_histogram!(
            STAGE,
            Unit::Seconds,
            "time of a message in a stage of its way"
        );
        describe_histogram!(
            EXCESS,
            Unit::Seconds,
            "time from the moment that pace and schedule allowed a hand-over to the hand-over"
        );
        Self {
            queue: histogram!(STAGE, "stage" => "queue_wait"),
            server_ack: histogram!(STAGE, "stage" => "server_ack"),
            excess: histogram!(EXCESS),
        }
    }

    /// A message is handed over for the first time, so long after it might first go.
    pub fn queued(&self, time: Duration) {
        self.queue.record(time);
    }

    /// A message is handed over, so long after its pace and its schedule allowed it.
    pub fn in_excess(&self, time: Duration) {
        self.excess.record(time);
    }

    /// WhatsApp's server took a message, so long after it was handed over.
    pub fn acked(&self, time: Duration) {
        self.server_ack.record(time);
    }
}
