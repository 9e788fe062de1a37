//! The hourly window of an API key.
//!
//! A window opens with its first request and lasts an hour. Requests are counted in memory and
//! *reserved* in storage ahead of them, a chunk at a time: what is served never goes beyond what
//! is durably reserved, and a new owner takes the whole reservation for used. A crash may cost a
//! caller the rest of a chunk; it never lets more than the limit through.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How long a window lasts.
pub const WINDOW: Duration = Duration::from_secs(3_600);

/// The fewest requests that one write reserves: small keys still write seldom.
pub const MIN_CHUNK: u64 = 50;

/// A write reserves this part of the limit, so that the window of a usual key costs 20 writes.
pub const CHUNKS_PER_WINDOW: u64 = 20;

/// The most requests that one write reserves: what a crash may cost a key, so that a large one
/// bears many in a window. At 100,000 requests a second it is a write a second.
pub const MAX_CHUNK: u64 = 100_000;

/// A reservation: the form in which a window is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// When the window opened.
    pub start: Timestamp,
    /// How many requests of it may be served.
    pub upto: u64,
}

impl Reservation {
    /// When the window is over: an hour after its start, rounded up to the whole second that
    /// clients are told, so that waiting for it is always enough.
    pub fn reset(&self) -> Timestamp {
        let end = (self.start + WINDOW).as_micros();
        Timestamp::from_seconds(end.div_euclid(1_000_000) + i64::from(end % 1_000_000 != 0))
    }
}

/// What a caller is told in the headers of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the request may pass.
    pub allowed: bool,
    /// Requests allowed in a window.
    pub limit: u64,
    /// Requests left in this window, this one counted.
    pub remaining: u64,
    /// When the window is over; a whole second.
    pub reset: Timestamp,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is counted, or refused.
    Answered(Answer),
    /// It is not counted yet: make this reservation durable, say so to [`Window::reserved`], and
    /// take again. It is the same one until then, so one write at a time is enough.
    MustReserve(Reservation),
}

/// The window of one API key, with one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// What is durable; `None` before the first request.
    durable: Option<Reservation>,
    /// What was asked to become durable and is not known to be.
    asked: Option<Reservation>,
    /// Requests counted in the durable window.
    used: u64,
}

impl Window {
    /// A window that never saw a request.
    pub fn new() -> Self {
        Self::default()
    }

    /// The window as its last owner left it in storage: all that was reserved counts as used.
    pub fn recovered(saved: Option<Reservation>) -> Self {
        Self {
            durable: saved,
            asked: None,
            used: saved.map_or(0, |saved| saved.upto),
        }
    }

    /// Counts one request under the limit that is in force at this moment.
    pub fn take(&mut self, now: Timestamp, limit: u64) -> Take {
        let Some(current) = self.current(now) else {
            if limit == 0 {
                let reset = Reservation {
                    start: now,
                    upto: 0,
                }
                .reset();
                return Take::Answered(Answer {
                    allowed: false,
                    limit,
                    remaining: 0,
                    reset,
                });
            }
            return Take::MustReserve(self.ask(
                now,
                Reservation {
                    start: now,
                    upto: chunk(limit),
                },
            ));
        };
        if self.used < limit && self.used >= current.upto {
            return Take::MustReserve(self.ask(now, self.next(current, limit)));
        }
        let allowed = self.used < limit;
        self.used += u64::from(allowed);
        let remaining = limit.saturating_sub(self.used);
        Take::Answered(Answer {
            allowed,
            limit,
            remaining,
            reset: current.reset(),
        })
    }

    /// What a request would be told, without counting one.
    pub fn peek(&self, now: Timestamp, limit: u64) -> Answer {
        let (used, reset) = match self.current(now) {
            Some(current) => (self.used, current.reset()),
            None => (
                0,
                Reservation {
                    start: now,
                    upto: 0,
                }
                .reset(),
            ),
        };
        Answer {
            allowed: used < limit,
            limit,
            remaining: limit.saturating_sub(used),
            reset,
        }
    }

    /// Whether a reservation is to be written now, before anybody has to wait for it: half a chunk
    /// or less is left of the window and no other reservation is on its way.
    pub fn is_low(&self, now: Timestamp, limit: u64) -> bool {
        self.current(now).is_some_and(|current| {
            let left = current.upto.saturating_sub(self.used);
            self.asked.is_none() && current.upto < limit && left <= chunk(limit) / 2
        })
    }

    /// The reservation to write now, if the window [is low](Self::is_low).
    pub fn needs_reservation(&mut self, now: Timestamp, limit: u64) -> Option<Reservation> {
        let current = self.current(now)?;
        self.is_low(now, limit)
            .then(|| self.ask(now, self.next(current, limit)))
    }

    /// A reservation is durable.
    pub fn reserved(&mut self, reservation: Reservation) {
        if self.asked == Some(reservation) {
            self.asked = None;
        }
        match &mut self.durable {
            Some(current) if reservation.start < current.reset() => {
                // One of the same window raises it; one of a window before is late and says nothing.
                if reservation.start == current.start {
                    current.upto = current.upto.max(reservation.upto);
                }
            }
            _ => {
                self.durable = Some(reservation);
                self.used = 0;
            }
        }
    }

    /// What to store when the owner stops in order, with no write under way and no request after:
    /// what was used and not what was reserved, so that the next owner's headers are exact. `None`
    /// when nothing is open or storage says so already.
    pub fn handover(&self, now: Timestamp) -> Option<Reservation> {
        let current = self.current(now)?;
        let unsure = self.asked.is_some() || self.used < current.upto;
        unsure.then_some(Reservation {
            start: current.start,
            upto: self.used,
        })
    }

    /// The window that is open now.
    fn current(&self, now: Timestamp) -> Option<Reservation> {
        self.durable.filter(|window| now < window.reset())
    }

    /// The reservation that follows the current one in its window.
    fn next(&self, current: Reservation, limit: u64) -> Reservation {
        let upto = current
            .upto
            .max(self.used)
            .saturating_add(chunk(limit))
            .min(limit);
        Reservation {
            start: current.start,
            upto: upto.max(current.upto),
        }
    }

    /// Remembers what is asked; answers what was asked before while its window is not over.
    fn ask(&mut self, now: Timestamp, wanted: Reservation) -> Reservation {
        let before = self.asked.filter(|asked| now < asked.reset());
        *self.asked.insert(before.unwrap_or(wanted))
    }
}

/// How many requests one write reserves.
fn chunk(limit: u64) -> u64 {
    (limit / CHUNKS_PER_WINDOW)
        .clamp(MIN_CHUNK, MAX_CHUNK)
        .min(limit)
}
