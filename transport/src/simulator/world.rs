//! The simulated WhatsApp itself: instances, what they were shown, and what will happen.
//!
//! Pure: it is told the time, and answers with the events that its callers hand on.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use zajil_model::id::InstanceId;
use zajil_model::phone::Phone;
use zajil_model::refusal::Refusal;
use zajil_model::time::Mono;

use super::dice::{Dice, Topic, fingerprint};
use super::fate::{Fact, Frame, Steps, decide, receipts};
use super::line::{Line, Moment, Phase};
use super::script::{Script, SessionEnd};
use super::shown::Shown;
use super::timeline::{Happening, Timeline};
use crate::{SessionEvent, TransportEvent};

mod triggers;

/// Unanswered frames of an instance; no more are taken above. Far more than a window of the
/// engine, which is 256.
const UNANSWERED_LIMIT: usize = 4_096;

/// Things that are to happen; no more frames are taken above. A million hold 100,000 frames a
/// second with all receipts, in about 100 MB.
const TIMELINE_LIMIT: usize = 1 << 20;

/// The code of a refusal while the instance is restricted, as WhatsApp's.
const RESTRICTED_CODE: u16 = 463;

/// Names one opening of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LineKey {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// Which opening of it.
    pub(crate) generation: u32,
}

/// What opening an instance does.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Names the opening.
    pub(crate) key: LineKey,
    /// What the one is told who had it open before.
    pub(crate) before: Vec<TransportEvent>,
    /// What the one is told who opens it.
    pub(crate) events: Vec<TransportEvent>,
}

/// Where frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// From this process: those that are not taken never left.
    Local,
    /// Over a connection: those that are not taken were on their way when it happened.
    Remote,
}

/// What became of handed-over frames at once.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// How many were taken: the first ones.
    pub(crate) count: usize,
    /// For each taken one, whether the recipient is shown it by this frame.
    pub(crate) shown: Vec<bool>,
    /// What is told at once.
    pub(crate) events: Vec<TransportEvent>,
}

/// The simulated WhatsApp.
#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    lines: FxHashMap<InstanceId, Line>,
    attached: usize,
    shown: Shown,
    timeline: Timeline,
    steps: Steps,
}

impl World {
    /// A world whose chances follow `seed`, and that remembers `shown` ids.
    pub(crate) fn new(seed: u64, shown: usize) -> Self {
        Self {
            seed,
            lines: FxHashMap::default(),
            attached: 0,
            shown: Shown::new(shown),
            timeline: Timeline::default(),
            steps: Vec::new(),
        }
    }

    /// Opens an instance; who had it open before is replaced. What an instance went through stays:
    /// a ban, the count of its frames, receipts that came meanwhile.
    pub(crate) fn open(
        &mut self,
        instance: InstanceId,
        phone: Phone,
        script: Arc<Script>,
        now: Moment,
    ) -> Opened {
        let is_new = !self.lines.contains_key(&instance);
        if is_new {
            self.schedule_triggers(instance, &script, now.mono);
        }
        let line = self
            .lines
            .entry(instance)
            .or_insert_with(|| Line::new(script.clone(), phone));
        let (mut before, mut events) = (Vec::new(), Vec::new());
        if line.is_attached() {
            line.broken(Phase::Offline, now, &mut before);
            before.push(TransportEvent::Session(SessionEvent::Replaced));
        } else {
            self.attached += 1;
        }
        line.at_once = script.is_at_once();
        (line.script, line.phone) = (script, phone);
        line.generation += 1;
        line.era += 1;
        let wait =
            Dice::of_instance(self.seed, instance).micros(Topic::AckLatency, line.script.connect);
        if line.banned {
            line.phase = Phase::Ended(SessionEnd::Banned);
            events.push(TransportEvent::Session(SessionEvent::Banned));
        } else if wait == 0 {
            line.online(now, &mut events);
        } else {
            line.phase = Phase::Offline;
            let happening = Happening {
                instance,
                era: line.era,
                fact: Fact::Online,
            };
            self.timeline
                .push(now.mono + Duration::from_micros(wait), happening);
        }
        let key = LineKey {
            instance,
            generation: line.generation,
        };
        Opened {
            key,
            before,
            events,
        }
    }

    /// Hands frames over, in order.
    pub(crate) fn submit(
        &mut self,
        key: LineKey,
        frames: &[Frame],
        arrival: Arrival,
        now: Moment,
    ) -> Taken {
        let mut taken = Taken::default();
        for frame in frames {
            let full = self.timeline.len() >= TIMELINE_LIMIT;
            let Some(line) = attached(&mut self.lines, key) else {
                break;
            };
            if line.phase != Phase::Online || full || line.unanswered() >= UNANSWERED_LIMIT {
                if arrival == Arrival::Local {
                    break;
                }
                let wa_id = frame.wa_id;
                taken.events.push(TransportEvent::Ambiguous {
                    wa_id,
                    at: now.wall,
                });
                taken.shown.push(false);
            } else {
                let shown = self.take(key.instance, frame, now, &mut taken.events);
                taken.shown.push(shown);
            }
            taken.count += 1;
        }
        taken
    }

    /// Takes no more frames of an instance; answers still come.
    pub(crate) fn drain(&mut self, key: LineKey) {
        if let Some(line) = attached(&mut self.lines, key)
            && matches!(line.phase, Phase::Online | Phase::Offline)
        {
            line.phase = Phase::Draining;
        }
    }

    /// Closes an instance; answers what is still unanswered.
    pub(crate) fn close(&mut self, key: LineKey, now: Moment) -> Vec<TransportEvent> {
        let mut events = Vec::new();
        if let Some(line) = attached(&mut self.lines, key) {
            line.broken(Phase::Closed, now, &mut events);
            self.attached -= 1;
        }
        events
    }

    /// What happened until now, by instance.
    pub(crate) fn due(&mut self, now: Moment) -> Vec<(LineKey, Vec<TransportEvent>)> {
        let mut told: Vec<(LineKey, Vec<TransportEvent>)> = Vec::new();
        let mut places: FxHashMap<InstanceId, usize> = FxHashMap::default();
        for happening in self.timeline.due(now.mono) {
            let instance = happening.instance;
            let Some(line) = self.lines.get_mut(&instance) else {
                continue;
            };
            let key = LineKey {
                instance,
                generation: line.generation,
            };
            let place = *places.entry(instance).or_insert_with(|| {
                told.push((key, Vec::new()));
                told.len() - 1
            });
            self.happen(happening, now, &mut told[place].1);
        }
        told.retain(|(_, events)| !events.is_empty());
        told
    }

    /// When something happens next; `None` while nobody is connected to be told.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        if self.attached == 0 {
            None
        } else {
            self.timeline.next_due()
        }
    }

    /// Decides what becomes of a frame; answers whether it is shown.
    fn take(
        &mut self,
        instance: InstanceId,
        frame: &Frame,
        now: Moment,
        events: &mut Vec<TransportEvent>,
    ) -> bool {
        let Some(line) = self.lines.get_mut(&instance) else {
            return false;
        };
        line.frames += 1;
        let (number, script) = (line.frames, line.script.clone());
        let id = fingerprint(instance, frame.wa_id);
        let known = script.idempotent && self.shown.contains(id);
        if line.at_once {
            if !known {
                self.shown.insert(id);
            }
            events.push(TransportEvent::Acked {
                wa_id: frame.wa_id,
                at: now.wall,
            });
            return !known;
        }
        let dice = Dice::of_frame(self.seed, instance, frame.wa_id, frame.attempt);
        let mut steps = std::mem::take(&mut self.steps);
        let trigger = triggers::by_frame(&script, number);
        let reaches = if let Some(trigger) = trigger.filter(|trigger| trigger.breaks()) {
            let reaches = dice.happens(Topic::Caught, trigger.shown(&script));
            if reaches && !known {
                receipts(&script, dice, frame.wa_id, 0, &mut steps);
            }
            reaches
        } else {
            if let Some(trigger) = trigger {
                self.pull(instance, trigger.fact(), now, events);
            }
            self.judge(instance, frame, dice, known, now, &mut steps)
        };
        if reaches && !known {
            self.shown.insert(id);
        }
        self.carry_out(instance, frame, &mut steps, now, events);
        self.steps = steps;
        if let Some(trigger) = trigger.filter(|trigger| trigger.breaks()) {
            self.pull(instance, trigger.fact(), now, events);
        }
        reaches && !known
    }

    /// What an online instance's server does with a frame; answers whether it reaches the phone.
    fn judge(
        &mut self,
        instance: InstanceId,
        frame: &Frame,
        dice: Dice,
        known: bool,
        now: Moment,
        steps: &mut Steps,
    ) -> bool {
        let Some(line) = self.lines.get_mut(&instance) else {
            return false;
        };
        let script = line.script.clone();
        let (wa_id, attempt) = (frame.wa_id, frame.attempt);
        let after = dice.micros(Topic::AckLatency, script.latency);
        let refused = |refusal, code| {
            (
                after,
                Fact::Refused {
                    wa_id,
                    attempt,
                    refusal,
                    code,
                },
            )
        };
        if line.is_restricted(now.mono) {
            steps.push(refused(Refusal::HoldInstance, RESTRICTED_CODE));
            return false;
        }
        if let Some(ceiling) = script.throttle
            && line.is_above(ceiling, now.mono)
        {
            steps.push(refused(
                Refusal::Throttled {
                    wait_ms: ceiling.wait_ms,
                },
                ceiling.code,
            ));
            return false;
        }
        decide(&script, dice, frame, line.frames, known, steps).reaches
    }

    /// Tells what happens at once and puts the rest on the timeline.
    fn carry_out(
        &mut self,
        instance: InstanceId,
        frame: &Frame,
        steps: &mut Steps,
        now: Moment,
        events: &mut Vec<TransportEvent>,
    ) {
        let Some(line) = self.lines.get_mut(&instance) else {
            return;
        };
        let answered = steps
            .iter()
            .any(|(_, fact)| matches!(fact, Fact::Acked { .. } | Fact::Refused { .. }));
        // Frames that no answer comes for wait until the connection breaks, and must not fill the
        // room of the others meanwhile.
        if answered || line.unanswered() < UNANSWERED_LIMIT / 2 {
            line.awaits(frame);
        }
        let era = line.era;
        for (after, fact) in steps.drain(..) {
            if after == 0 {
                events.extend(line.told(fact, era, now));
            } else {
                let at = now.mono + Duration::from_micros(after);
                self.timeline.push(
                    at,
                    Happening {
                        instance,
                        era,
                        fact,
                    },
                );
            }
        }
    }

    /// Lets something happen.
    fn happen(&mut self, happening: Happening, now: Moment, events: &mut Vec<TransportEvent>) {
        let Happening {
            instance,
            era,
            fact,
        } = happening;
        match fact {
            Fact::Disconnect(_) | Fact::Restrict(_) | Fact::End(_) => {
                self.pull(instance, fact, now, events);
            }
            Fact::Online => {
                if let Some(line) = self.lines.get_mut(&instance)
                    && line.era == era
                    && line.phase == Phase::Offline
                {
                    line.online(now, events);
                }
            }
            Fact::Acked { .. }
            | Fact::Refused { .. }
            | Fact::AckedAgain(_)
            | Fact::Nacked { .. }
            | Fact::Received(_)
            | Fact::Read(_) => {
                if let Some(line) = self.lines.get_mut(&instance) {
                    events.extend(line.told(fact, era, now));
                }
            }
        }
    }
}

/// The line of an opening, unless another one has it now.
fn attached(lines: &mut FxHashMap<InstanceId, Line>, key: LineKey) -> Option<&mut Line> {
    lines
        .get_mut(&key.instance)
        .filter(|line| line.generation == key.generation && line.is_attached())
}

#[cfg(test)]
mod tests;
