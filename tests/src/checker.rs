//! Compares the two books: what was promised and what WhatsApp got.
//!
//! A pure function of the evidence. It shares no code with the engine: it knows the promises
//! alone. Each kind of fault that it can find is planted into a good pair of books by a test.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use zajil_model::lifecycle::Status;
use zajil_model::message::Lane;

use crate::ledger::{Accepted, Book, Final, Frame};
use crate::operator::Pace;

mod faults;
mod order;
mod pace;

pub use faults::{Fault, Report};

/// Something after which nothing may be handed over to WhatsApp. Times are microseconds of the
/// wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// For what it holds.
    pub of: Held,
    /// When the answer that promised it was read.
    pub from: i64,
    /// When its end was asked for; `None` is never.
    pub until: Option<i64>,
}

/// What a barrier holds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A recipient, who opted out.
    Recipient(String),
    /// An instance, which is paused.
    Instance(u64),
    /// A message, which is cancelled.
    Message(u64),
}

/// What the evidence is measured by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How fast instances may send.
    pub paces: BTreeMap<u64, Pace>,
    /// What held something back.
    pub barriers: Vec<Barrier>,
    /// When the node was killed: microseconds of the wall clock.
    pub kills: Vec<i64>,
    /// How long a frame may be on its way, its outcome unwritten: only such a frame may be
    /// repeated after a kill.
    pub in_flight: Duration,
    /// How late a hand-over may be stamped after the pace allowed it: what a busy machine makes a
    /// thread wait. A window may look this much shorter than it was.
    pub stamp_lag: Duration,
    /// Whether the channel refuses or leaves unanswered: it may be sent a message again then, and
    /// may fail one that it showed.
    pub troubled_channel: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            paces: BTreeMap::new(),
            barriers: Vec::new(),
            kills: Vec::new(),
            in_flight: Duration::from_secs(2),
            stamp_lag: Duration::from_millis(50),
            troubled_channel: false,
        }
    }
}

/// Both books, and what the API says in the end.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What the customer knows.
    pub book: Book,
    /// What WhatsApp got, in its order.
    pub frames: Vec<Frame>,
    /// What the API says.
    pub finals: Vec<Final>,
}

/// Finds everything in the evidence that breaks a promise.
pub fn check(evidence: &Evidence, rules: &Rules) -> Report {
    let case = Case::new(evidence, rules);
    let mut faults = Vec::new();
    case.promised(&mut faults);
    case.states(&mut faults);
    case.phantoms(&mut faults);
    case.twice(&mut faults);
    case.repeats(&mut faults);
    case.barriers(&mut faults);
    order::check(&case, &mut faults);
    pace::check(&evidence.frames, rules, &mut faults);
    Report {
        accepted: evidence.book.accepted.len(),
        indeterminate: evidence.book.indeterminate.len(),
        refused: evidence.book.refused.len(),
        frames: evidence.frames.len(),
        shown: evidence.frames.iter().filter(|frame| frame.shown).count(),
        faults,
    }
}

/// The evidence, with its ways from one book to the other.
struct Case<'e> {
    evidence: &'e Evidence,
    rules: &'e Rules,
    finals: HashMap<u64, &'e Final>,
    by_wa_id: HashMap<&'e str, &'e Final>,
    /// The frames of each WhatsApp id, by their place in the ledger.
    frames: HashMap<&'e str, Vec<usize>>,
}

impl<'e> Case<'e> {
    fn new(evidence: &'e Evidence, rules: &'e Rules) -> Self {
        let mut frames: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, frame) in evidence.frames.iter().enumerate() {
            frames.entry(frame.id.as_str()).or_default().push(place);
        }
        let named = |last: &'e Final| Some((last.wa_id.as_deref()?, last));
        Self {
            evidence,
            rules,
            finals: evidence.finals.iter().map(|last| (last.id, last)).collect(),
            by_wa_id: evidence.finals.iter().filter_map(named).collect(),
            frames,
        }
    }

    fn frames_of(&self, last: &Final) -> impl Iterator<Item = (usize, &'e Frame)> {
        let places = last
            .wa_id
            .as_deref()
            .and_then(|wa_id| self.frames.get(wa_id));
        let frames = &self.evidence.frames;
        places
            .into_iter()
            .flatten()
            .map(move |place| (*place, &frames[*place]))
    }

    /// The place in the ledger at which a message was shown.
    fn shown(&self, last: &Final) -> Option<usize> {
        self.frames_of(last)
            .find(|(_, frame)| frame.shown)
            .map(|(place, _)| place)
    }

    /// What was accepted is known and not lost.
    fn promised(&self, faults: &mut Vec<Fault>) {
        for Accepted { id, client_ref, .. } in &self.evidence.book.accepted {
            match self.finals.get(id) {
                Some(last) if last.client_ref == *client_ref => {}
                _ => faults.push(Fault::Lost {
                    id: *id,
                    client_ref: client_ref.clone(),
                }),
            }
        }
    }

    /// What the API says agrees with what WhatsApp got.
    fn states(&self, faults: &mut Vec<Fault>) {
        for last in &self.evidence.finals {
            let (id, status) = (last.id, last.status);
            let shown = self.shown(last).is_some();
            let fits = match status {
                Status::Scheduled | Status::Pending | Status::Processing => {
                    faults.push(Fault::Stuck { id, status });
                    continue;
                }
                Status::Sent | Status::Delivered | Status::Read => shown,
                Status::Expired | Status::Cancelled | Status::Suppressed => !shown,
                Status::Failed => !shown || self.rules.troubled_channel,
                Status::Unknown => true,
            };
            if !fits {
                faults.push(Fault::Lie { id, status, shown });
            }
        }
    }

    /// Nobody sent what the customer did not ask for.
    fn phantoms(&self, faults: &mut Vec<Fault>) {
        let book = &self.evidence.book;
        let accepted = book.accepted.iter().map(|one| one.client_ref.as_str());
        let doubtful = book.indeterminate.iter().map(|one| one.client_ref.as_str());
        let asked: BTreeSet<_> = accepted.chain(doubtful).collect();
        for last in &self.evidence.finals {
            if !asked.contains(last.client_ref.as_str()) {
                faults.push(Fault::NobodyAsked {
                    id: last.id,
                    client_ref: last.client_ref.clone(),
                });
            }
        }
        for frame in &self.evidence.frames {
            let known = self.by_wa_id.get(frame.id.as_str());
            if known.is_none_or(|last| last.recipient != frame.recipient) {
                faults.push(Fault::Phantom {
                    wa_id: frame.id.clone(),
                });
            }
        }
    }

    /// Nothing was shown twice, by whatever name, or accepted twice.
    fn twice(&self, faults: &mut Vec<Fault>) {
        let mut shown = BTreeMap::<_, usize>::new();
        for frame in self.evidence.frames.iter().filter(|frame| frame.shown) {
            *shown.entry((&frame.recipient, &frame.id)).or_default() += 1;
        }
        for ((_, wa_id), _) in shown.into_iter().filter(|(_, times)| *times > 1) {
            faults.push(Fault::ShownTwice {
                what: wa_id.clone(),
            });
        }
        let mut by_ref = BTreeMap::<_, Vec<&Final>>::new();
        for last in &self.evidence.finals {
            by_ref.entry(&last.client_ref).or_default().push(last);
        }
        for (client_ref, finals) in by_ref.into_iter().filter(|(_, finals)| finals.len() > 1) {
            let shown = finals
                .into_iter()
                .filter(|last| self.shown(last).is_some())
                .count();
            let what = client_ref.clone();
            faults.push(if shown > 1 {
                Fault::ShownTwice { what }
            } else {
                Fault::AcceptedTwice { what }
            });
        }
    }

    /// A frame was repeated only if it was in flight when the node was killed.
    fn repeats(&self, faults: &mut Vec<Fault>) {
        if self.rules.troubled_channel {
            return;
        }
        let in_flight = i64::try_from(self.rules.in_flight.as_micros()).unwrap_or(i64::MAX);
        for (wa_id, places) in &self.frames {
            let times = places
                .iter()
                .map(|place| self.evidence.frames[*place].handed_over_at);
            for (before, after) in times.clone().zip(times.skip(1)) {
                let excused =
                    |kill: &i64| (before..=after).contains(kill) && kill - before <= in_flight;
                if !self.rules.kills.iter().any(excused) {
                    faults.push(Fault::Repeated {
                        wa_id: (*wa_id).to_owned(),
                    });
                }
            }
        }
    }

    /// Nothing was handed over behind a barrier.
    fn barriers(&self, faults: &mut Vec<Fault>) {
        for Barrier { of, from, until } in &self.rules.barriers {
            let behind = |frame: &&Frame| {
                frame.handed_over_at > *from
                    && until.is_none_or(|until| frame.handed_over_at < until)
            };
            let held = |frame: &&Frame| match of {
                Held::Recipient(number) => frame.recipient == *number,
                Held::Instance(instance) => frame.instance == *instance,
                Held::Message(id) => self
                    .by_wa_id
                    .get(frame.id.as_str())
                    .is_some_and(|last| last.id == *id),
            };
            for frame in self.evidence.frames.iter().filter(held).filter(behind) {
                faults.push(Fault::BehindBarrier {
                    wa_id: frame.id.clone(),
                    of: of.clone(),
                    late: Duration::from_micros(frame.handed_over_at.abs_diff(*from)),
                });
            }
        }
    }
}

/// A stretch of messages that keep their order.
type Line<'e> = (u64, &'e str, Lane);

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").finish_non_exhaustive()
    }
}
