//! What the link tells of itself.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::link::{Lane, LinkError, Refusal};

const CALLS: &str = "zajil_link_calls_total";
const DURATION: &str = "zajil_link_call_duration_seconds";
const IN_FLIGHT: &str = "zajil_link_calls_in_flight";
const SERVED: &str = "zajil_link_served_total";
const BYTES: &str = "zajil_link_bytes_total";
const CONNECTIONS: &str = "zajil_link_connections_total";
const LOST: &str = "zajil_link_connections_lost_total";
const REFUSED: &str = "zajil_link_handshake_failures_total";

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// This node asked or connected.
    Asking,
    /// Another one did.
    Asked,
}

impl Side {
    const fn label(self) -> &'static str {
        match self {
            Self::Asking => "out",
            Self::Asked => "in",
        }
    }
}

/// How serving a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// With a reply.
    Answered,
    /// It was not begun: too much was under way.
    Overloaded,
    /// Its deadline passed.
    Expired,
    /// It panicked.
    Panicked,
}

impl Service {
    const ALL: [Self; 4] = [
        Self::Answered,
        Self::Overloaded,
        Self::Expired,
        Self::Panicked,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Overloaded => "overloaded",
            Self::Expired => "expired",
            Self::Panicked => "panicked",
        }
    }
}

/// Describes every metric of the link and makes those without a peer's label, so that they are
/// there from the start.
pub fn describe() {
    for lane in Lane::ALL {
        counter!(CALLS, "lane" => lane.label(), "outcome" => "ok").increment(0);
        gauge!(IN_FLIGHT, "lane" => lane.label()).set(0.0);
        drop(histogram!(DURATION, "lane" => lane.label()));
    }
    for service in Service::ALL {
        counter!(SERVED, "outcome" => service.label()).increment(0);
    }
    for side in [Side::Asking, Side::Asked] {
        counter!(BYTES, "way" => side.label()).increment(0);
        counter!(CONNECTIONS, "way" => side.label()).increment(0);
    }
    describe_counter!(CALLS, "calls to other nodes, by outcome");
    describe_histogram!(DURATION, Unit::Seconds, "from a call to its answer");
    describe_gauge!(IN_FLIGHT, "calls to other nodes that wait for an answer");
    describe_counter!(SERVED, "calls of other nodes, by how serving them ended");
    describe_counter!(BYTES, Unit::Bytes, "bytes read (in) and written (out)");
    describe_counter!(
        CONNECTIONS,
        "connections that said hello, to (out) and from (in) other nodes"
    );
    describe_counter!(LOST, "connections that ended before their time, by reason");
    describe_counter!(REFUSED, "connections that did not get past their hello");
}

/// A call set out; dropping what this answers ends it.
pub(crate) fn calling(lane: Lane) -> InFlight {
    gauge!(IN_FLIGHT, "lane" => lane.label()).increment(1.0);
    InFlight(lane)
}

/// A call that waits for its answer.
#[derive(Debug)]
pub(crate) struct InFlight(Lane);

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT, "lane" => self.0.label()).decrement(1.0);
    }
}

/// A call ended.
pub(crate) fn called<T>(lane: Lane, outcome: &Result<T, LinkError>, took: Duration) {
    let label = outcome.as_ref().map_or_else(LinkError::label, |_| "ok");
    counter!(CALLS, "lane" => lane.label(), "outcome" => label).increment(1);
    histogram!(DURATION, "lane" => lane.label()).record(took);
}

/// Serving a call ended.
pub(crate) fn served(service: Service) {
    counter!(SERVED, "outcome" => service.label()).increment(1);
}

/// Bytes were written.
pub(crate) fn sent(bytes: usize) {
    counter!(BYTES, "way" => Side::Asking.label()).increment(bytes as u64);
}

/// Bytes were read.
pub(crate) fn received(bytes: usize) {
    counter!(BYTES, "way" => Side::Asked.label()).increment(bytes as u64);
}

/// A connection said hello.
pub(crate) fn connected(side: Side) {
    counter!(CONNECTIONS, "way" => side.label()).increment(1);
}

/// A connection ended, and not because it had nothing to do.
pub(crate) fn lost(reason: &'static str) {
    counter!(LOST, "reason" => reason).increment(1);
}

/// A connection did not get past its hello.
pub(crate) fn refused(side: Side, refusal: &Refusal) {
    counter!(REFUSED, "way" => side.label(), "reason" => refusal.label()).increment(1);
}
