//! What a script does to a connection: disconnects, restrictions, endings.

use std::time::Duration;

use zajil_model::id::InstanceId;
use zajil_model::time::Mono;

use super::World;
use crate::simulator::fate::Fact;
use crate::simulator::line::{Moment, Phase};
use crate::simulator::script::{Script, SessionEnd};
use crate::simulator::timeline::Happening;
use crate::{SessionEvent, TransportEvent};

/// Something of the script that a frame sets off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trigger(Fact);

impl Trigger {
    /// What happens.
    pub(super) const fn fact(self) -> Fact {
        self.0
    }

    /// Whether the connection breaks by it.
    pub(super) const fn breaks(self) -> bool {
        matches!(self.0, Fact::Disconnect(_) | Fact::End(_))
    }

    /// The share of frames caught by it that are shown all the same.
    pub(super) fn shown(self, script: &Script) -> f64 {
        match self.0 {
            Fact::Disconnect(place) => script.disconnects[place].shown,
            _ => 0.0,
        }
    }
}

/// What the `number`-th frame of an instance sets off; an ending before a disconnect before a
/// restriction.
pub(super) fn by_frame(script: &Script, number: u64) -> Option<Trigger> {
    let here = |after: Option<u64>| after == Some(number);
    let ending = script
        .endings
        .iter()
        .position(|rule| here(rule.after_frames));
    let disconnect = || {
        script.disconnects.iter().position(|rule| {
            here(rule.after_frames)
                || rule
                    .every_frames
                    .is_some_and(|every| number.is_multiple_of(every))
        })
    };
    let restriction = || {
        script
            .restrictions
            .iter()
            .position(|rule| here(rule.after_frames))
    };
    let fact = ending
        .map(Fact::End)
        .or_else(|| disconnect().map(Fact::Disconnect))
        .or_else(|| restriction().map(Fact::Restrict))?;
    Some(Trigger(fact))
}

impl World {
    /// Puts what happens at a time after the first opening on the timeline.
    pub(super) fn schedule_triggers(&mut self, instance: InstanceId, script: &Script, now: Mono) {
        let disconnects = script.disconnects.iter().enumerate();
        let restrictions = script.restrictions.iter().enumerate();
        let endings = script.endings.iter().enumerate();
        let facts = disconnects
            .map(|(place, rule)| (rule.at_ms, Fact::Disconnect(place)))
            .chain(restrictions.map(|(place, rule)| (rule.at_ms, Fact::Restrict(place))))
            .chain(endings.map(|(place, rule)| (rule.at_ms, Fact::End(place))));
        for (at_ms, fact) in facts {
            if let Some(at_ms) = at_ms {
                let at = now + Duration::from_millis(at_ms);
                self.timeline.push(
                    at,
                    Happening {
                        instance,
                        era: 0,
                        fact,
                    },
                );
            }
        }
    }

    /// Lets the script act on the connection of an instance.
    pub(super) fn pull(
        &mut self,
        instance: InstanceId,
        fact: Fact,
        now: Moment,
        events: &mut Vec<TransportEvent>,
    ) {
        let Some(line) = self.lines.get_mut(&instance) else {
            return;
        };
        let script = line.script.clone();
        match fact {
            Fact::Disconnect(place) if matches!(line.phase, Phase::Online | Phase::Draining) => {
                // The script of a later opening may have fewer rules.
                let Some(rule) = script.disconnects.get(place) else {
                    return;
                };
                line.broken(Phase::Offline, now, events);
                let reason = "the simulated connection dropped".to_owned();
                events.push(TransportEvent::Session(SessionEvent::Offline { reason }));
                let back = Happening {
                    instance,
                    era: line.era,
                    fact: Fact::Online,
                };
                self.timeline
                    .push(now.mono + Duration::from_millis(rule.for_ms.into()), back);
            }
            Fact::Restrict(place) => {
                let Some(rule) = script.restrictions.get(place) else {
                    return;
                };
                let event = line.restricted(rule.for_ms, now);
                if line.is_attached() {
                    events.push(event);
                }
            }
            Fact::End(place) => {
                let Some(rule) = script.endings.get(place) else {
                    return;
                };
                line.banned |= rule.session == SessionEnd::Banned;
                if line.is_attached() {
                    line.broken(Phase::Ended(rule.session), now, events);
                    events.push(TransportEvent::Session(ended(rule.session)));
                }
            }
            _ => {}
        }
    }
}

const fn ended(session: SessionEnd) -> SessionEvent {
    match session {
        SessionEnd::Replaced => SessionEvent::Replaced,
        SessionEnd::LoggedOut => SessionEvent::LoggedOut,
        SessionEnd::Banned => SessionEvent::Banned,
    }
}
