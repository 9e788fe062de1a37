//! What the engine counts: names once, verbs as functions, handles held so that counting costs a
//! few nanoseconds.

use metrics::{Counter, Unit, counter, describe_counter};
use zajil_model::instance::Session;
use zajil_model::lifecycle::Event;
use zajil_model::message::Chunk;
use zajil_model::refusal::Reason;

mod claims;
mod gauges;
mod waits;

pub use claims::ClaimMeters;
pub use gauges::{Backlog, Gauges, Here};
pub use waits::Waits;

const ACCEPTED: &str = "zajil_messages_accepted_total";
const FINISHED: &str = "zajil_messages_finished_total";
const ACKS: &str = "zajil_acks_total";
const RETRIES: &str = "zajil_retries_total";
const HANDED_OVER: &str = "zajil_pacing_tokens_granted_total";
const AMBIGUOUS: &str = "zajil_ambiguous_total";
const UNKNOWN_IDS: &str = "zajil_unknown_ids_total";
const RESTARTS: &str = "zajil_actor_restarts_total";
const QUARANTINED: &str = "zajil_actors_quarantined_total";
const TRANSITIONS: &str = "zajil_instance_transitions_total";

/// The counters of a node.
#[derive(Clone)]
pub struct Metrics {
    accepted: [Counter; 4],
    finished: Ends,
    acks: [Counter; 3],
    retries: [Counter; Reason::ALL.len()],
    handed_over: Counter,
    ambiguous: Counter,
    trouble: Trouble,
    transitions: [Counter; 3],
    /// Attempts on channels that cannot tell a repetition.
    pub claims: ClaimMeters,
    /// How long messages wait.
    pub waits: Waits,
    /// What is true at the moment of a scrape.
    pub gauges: Gauges,
}

#[derive(Clone)]
struct Ends {
    rejected: Counter,
    failed: Counter,
    expired: Counter,
    cancelled: Counter,
    suppressed: Counter,
    unknown: Counter,
}

#[derive(Clone)]
struct Trouble {
    unknown_ids: Counter,
    restarts: Counter,
    quarantined: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

const KINDS: [&str; 4] = ["text", "poll", "list", "reaction"];

fn describe() {
    describe_counter!(ACCEPTED, Unit::Count, "messages accepted, durable, by kind");
    describe_counter!(
        FINISHED,
        Unit::Count,
        "messages that ended without the server's ack"
    );
    describe_counter!(
        ACKS,
        Unit::Count,
        "evidence from the channel: sent, delivered, read"
    );
    describe_counter!(
        RETRIES,
        Unit::Count,
        "attempts refused that are made again, by reason"
    );
    describe_counter!(HANDED_OVER, Unit::Count, "frames handed over to transports");
    describe_counter!(
        AMBIGUOUS,
        Unit::Count,
        "attempts whose outcome was not known"
    );
    describe_counter!(
        UNKNOWN_IDS,
        Unit::Count,
        "answers for WhatsApp ids that are not ours"
    );
    describe_counter!(
        RESTARTS,
        Unit::Count,
        "instance actors started again after a failure"
    );
    describe_counter!(
        QUARANTINED,
        Unit::Count,
        "instance actors kept still after many failures"
    );
    describe_counter!(TRANSITIONS, Unit::Count, "changes of sessions, by where to");
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Describes and registers everything, so that each series is there from the start.
    pub fn new() -> Self {
        describe();
        let end = |outcome: &'static str| counter!(FINISHED, "outcome" => outcome);
        Self {
            accepted: KINDS.map(|kind| counter!(ACCEPTED, "kind" => kind)),
            finished: Ends {
                rejected: end("rejected"),
                failed: end("failed"),
                expired: end("expired"),
                cancelled: end("cancelled"),
                suppressed: end("suppressed"),
                unknown: end("unknown"),
            },
            acks: ["sent", "delivered", "read"].map(|level| counter!(ACKS, "level" => level)),
            retries: Reason::ALL.map(|reason| counter!(RETRIES, "reason" => reason.label())),
            handed_over: counter!(HANDED_OVER),
            ambiguous: counter!(AMBIGUOUS),
            trouble: Trouble {
                unknown_ids: counter!(UNKNOWN_IDS),
                restarts: counter!(RESTARTS, "actor" => "instance"),
                quarantined: counter!(QUARANTINED, "actor" => "instance"),
            },
            transitions: ["open", "connecting", "close"]
                .map(|to| counter!(TRANSITIONS, "to" => to)),
            claims: ClaimMeters::new(),
            waits: Waits::new(),
            gauges: Gauges::new(),
        }
    }

    /// The messages of a chunk were accepted.
    pub fn accepted(&self, chunk: &Chunk) {
        // One request brings messages of one kind.
        let kind = chunk.messages.first().map(|message| message.payload.kind());
        if let Some(place) = KINDS.iter().position(|known| Some(*known) == kind) {
            self.accepted[place].increment(u64::from(chunk.len()));
        }
    }

    /// Frames were handed over.
    pub fn handed_over(&self, frames: usize) {
        self.handed_over.increment(frames as u64);
    }

    /// Something became known of a message.
    pub fn outcome(&self, event: &Event) {
        match event {
            Event::Acked => self.acks[0].increment(1),
            Event::Delivered => self.acks[1].increment(1),
            Event::Read => self.acks[2].increment(1),
            Event::Refused { failure, .. } => self.retries[failure.reason as usize].increment(1),
            Event::Rejected(_) => self.finished.rejected.increment(1),
            Event::Failed(_) => self.finished.failed.increment(1),
            Event::Expired => self.finished.expired.increment(1),
            Event::Cancelled => self.finished.cancelled.increment(1),
            Event::Suppressed => self.finished.suppressed.increment(1),
            Event::Unknown => self.finished.unknown.increment(1),
            Event::Attempt(_) | Event::Scheduled(_) | Event::Due => {}
        }
    }

    /// An attempt's outcome was not known.
    pub fn ambiguous(&self) {
        self.ambiguous.increment(1);
    }

    /// An answer named a WhatsApp id that is not ours.
    pub fn unknown_id(&self) {
        self.trouble.unknown_ids.increment(1);
    }

    /// A session changed.
    pub fn session_changed(&self, to: &Session) {
        let place = match to {
            Session::Open => 0,
            Session::Connecting => 1,
            Session::Closed { .. } => 2,
        };
        self.transitions[place].increment(1);
    }

    /// An instance actor is started again.
    pub fn restarted(&self) {
        self.trouble.restarts.increment(1);
    }

    /// An instance actor is kept still.
    pub fn quarantined(&self) {
        self.trouble.quarantined.increment(1);
    }
}
