//! What the transports count.

use ::metrics::{Counter, counter, describe_counter};

use crate::TransportEvent;

/// Frames that transports took.
pub const FRAMES: &str = "zajil_transport_frames_total";

/// Events that transports told.
pub const EVENTS: &str = "zajil_transport_events_total";

/// Describes what transports count; `node` calls it once its recorder is in place.
pub fn describe() {
    describe_counter!(FRAMES, "Frames that transports took.");
    describe_counter!(EVENTS, "Events that transports told, by kind.");
}

/// The counters of one transport, looked up once: frames pass at the highest rate of all.
#[derive(Clone)]
pub struct Meters {
    frames: Counter,
    acked: Counter,
    refused: Counter,
    ambiguous: Counter,
    received: Counter,
    read: Counter,
    session: Counter,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}

impl Meters {
    /// The counters of a transport, by the word that its metrics bear.
    pub fn new(transport: &'static str) -> Self {
        let event = |event: &'static str| counter!(EVENTS, "event" => event);
        Self {
            frames: counter!(FRAMES, "transport" => transport),
            acked: event("acked"),
            refused: event("refused"),
            ambiguous: event("ambiguous"),
            received: event("received"),
            read: event("read"),
            session: event("session"),
        }
    }

    /// Frames were taken.
    pub fn taken(&self, frames: usize) {
        self.frames.increment(frames as u64);
    }

    /// Events were told.
    pub fn told(&self, events: &[TransportEvent]) {
        // One increment a kind and batch: the handles are atomics that every core shares.
        let mut counts = [0_u64; 6];
        for event in events {
            let place = match event {
                TransportEvent::Acked { .. } => 0,
                TransportEvent::Refused { .. } => 1,
                TransportEvent::Ambiguous { .. } => 2,
                TransportEvent::Received { .. } => 3,
                TransportEvent::Read { .. } => 4,
                TransportEvent::Session(_) => 5,
            };
            counts[place] += 1;
        }
        let handles = [
            &self.acked,
            &self.refused,
            &self.ambiguous,
            &self.received,
            &self.read,
            &self.session,
        ];
        for (handle, count) in handles.into_iter().zip(counts) {
            if count > 0 {
                handle.increment(count);
            }
        }
    }
}
