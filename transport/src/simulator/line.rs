//! One instance as the simulated server sees it: its connection and what is unanswered on it.

use std::mem;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use zajil_model::phone::Phone;
use zajil_model::time::{Mono, Timestamp};
use zajil_model::wa_id::WaId;

use super::fate::{Fact, Frame};
use super::script::{Script, SessionEnd, Throttle};
use crate::{SessionEvent, TransportEvent};

/// Receipts that are kept for an instance while it is offline, as WhatsApp keeps them; later ones
/// are lost. 1,024 cover a short absence at full pace for 64 KiB.
const HELD_RECEIPTS: usize = 1_024;

/// Unanswered frames above this give their memory back when they are answered.
const KEPT_CAPACITY: usize = 256;

/// A point in time on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// For what is due.
    pub(crate) mono: Mono,
    /// For what is told.
    pub(crate) wall: Timestamp,
}

/// How the connection of an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody is connected.
    Closed,
    /// On its way to be online.
    Offline,
    /// Frames are taken.
    Online,
    /// No more frames are taken; answers still come.
    Draining,
    /// The session ended; frames are taken after it was opened again.
    Ended(SessionEnd),
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Line {
    /// What it does.
    pub(crate) script: Arc<Script>,
    /// How its connection is.
    pub(crate) phase: Phase,
    /// Counts connections, disconnects and endings: answers of an older era never come.
    pub(crate) era: u32,
    /// Counts openings: who opened it before has lost it.
    pub(crate) generation: u32,
    /// The number that it speaks for.
    pub(crate) phone: Phone,
    /// Frames so far, over all connections.
    pub(crate) frames: u64,
    /// Whether the number is banned, which opening it again does not change.
    pub(crate) banned: bool,
    /// Whether its script acks every frame at once and does nothing else.
    pub(crate) at_once: bool,
    /// Until when it may not send.
    restricted_until: Option<Mono>,
    second: (Mono, u32),
    unanswered: FxHashSet<(WaId, u8)>,
    held: Vec<Fact>,
}

impl Line {
    /// An instance that was never open.
    pub(crate) fn new(script: Arc<Script>, phone: Phone) -> Self {
        Self {
            script,
            phase: Phase::Closed,
            era: 0,
            generation: 0,
            phone,
            frames: 0,
            banned: false,
            at_once: false,
            restricted_until: None,
            second: (Mono::default(), 0),
            unanswered: FxHashSet::default(),
            held: Vec::new(),
        }
    }

    /// Whether somebody is connected.
    pub(crate) fn is_attached(&self) -> bool {
        self.phase != Phase::Closed
    }

    /// How many frames wait for their answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Remembers that a frame waits for its answer.
    pub(crate) fn awaits(&mut self, frame: &Frame) {
        self.unanswered.insert((frame.wa_id, frame.attempt));
    }

    /// Whether it may not send now.
    pub(crate) fn is_restricted(&mut self, now: Mono) -> bool {
        match self.restricted_until {
            Some(until) if now < until => true,
            Some(_) | None => {
                self.restricted_until = None;
                false
            }
        }
    }

    /// Counts a frame against the ceiling; whether it is above.
    pub(crate) fn is_above(&mut self, ceiling: Throttle, now: Mono) -> bool {
        let (start, count) = &mut self.second;
        if *count == 0 || now.since(*start).as_secs() >= 1 {
            (*start, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count > ceiling.per_second
    }

    /// What a fact tells the one who is connected; `None` when it tells nothing.
    pub(crate) fn told(&mut self, fact: Fact, era: u32, now: Moment) -> Option<TransportEvent> {
        let at = now.wall;
        let current = era == self.era;
        match fact {
            Fact::Acked { wa_id, attempt } => self
                .answer(current, wa_id, attempt)
                .then_some(TransportEvent::Acked { wa_id, at }),
            Fact::Refused {
                wa_id,
                attempt,
                refusal,
                code,
            } => self
                .answer(current, wa_id, attempt)
                .then_some(TransportEvent::Refused {
                    wa_id,
                    refusal,
                    code,
                    at,
                }),
            Fact::AckedAgain(wa_id) => {
                (current && self.listens()).then_some(TransportEvent::Acked { wa_id, at })
            }
            Fact::Nacked { .. } | Fact::Received(_) | Fact::Read(_) if !self.listens() => {
                if self.held.len() < HELD_RECEIPTS {
                    self.held.push(fact);
                }
                None
            }
            Fact::Nacked {
                wa_id,
                refusal,
                code,
            } => Some(TransportEvent::Refused {
                wa_id,
                refusal,
                code,
                at,
            }),
            Fact::Received(wa_id) => Some(TransportEvent::Received { wa_id, at }),
            Fact::Read(wa_id) => Some(TransportEvent::Read { wa_id, at }),
            Fact::Online | Fact::Disconnect(_) | Fact::Restrict(_) | Fact::End(_) => None,
        }
    }

    /// Comes online, and tells what was held meanwhile.
    pub(crate) fn online(&mut self, now: Moment, events: &mut Vec<TransportEvent>) {
        self.phase = Phase::Online;
        let phone = Some(self.phone);
        events.push(TransportEvent::Session(SessionEvent::Online { phone }));
        for fact in mem::take(&mut self.held) {
            events.extend(self.told(fact, self.era, now));
        }
    }

    /// Breaks the connection: what is unanswered stays so.
    pub(crate) fn broken(&mut self, phase: Phase, now: Moment, events: &mut Vec<TransportEvent>) {
        self.phase = phase;
        self.era += 1;
        let mut ids: Vec<_> = mem::take(&mut self.unanswered).into_iter().collect();
        ids.sort_unstable();
        let ambiguous = |(wa_id, _)| TransportEvent::Ambiguous {
            wa_id,
            at: now.wall,
        };
        events.extend(ids.into_iter().map(ambiguous));
    }

    /// Stops sending until a time.
    pub(crate) fn restricted(&mut self, for_ms: u32, now: Moment) -> TransportEvent {
        let wait = std::time::Duration::from_millis(for_ms.into());
        self.restricted_until = Some(now.mono + wait);
        TransportEvent::Session(SessionEvent::Restricted {
            until: now.wall + wait,
        })
    }

    fn listens(&self) -> bool {
        matches!(self.phase, Phase::Online | Phase::Draining)
    }

    fn answer(&mut self, current: bool, wa_id: WaId, attempt: u8) -> bool {
        if !current {
            return false;
        }
        self.unanswered.remove(&(wa_id, attempt));
        if self.unanswered.is_empty() && self.unanswered.capacity() > KEPT_CAPACITY {
            self.unanswered = FxHashSet::default();
        }
        true
    }
}
