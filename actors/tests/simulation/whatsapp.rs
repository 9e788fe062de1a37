//! A WhatsApp that shows each id once, and keeps a ledger of all that it was handed. In some worlds
//! it forgets ids, and says so: then nothing that may have gone may go again.
//!
//! A connection keeps its order. What it does with a message is decided by the message itself, so
//! that an attempt by another node meets the same: most are acked, some are refused once, some are
//! left unanswered once, and to some recipients nobody may write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Handle;
use zajil_model::id::{InstanceId, MessageId};
use zajil_model::instance::{TransportKind, TransportSettings};
use zajil_model::phone::Phone;
use zajil_model::refusal::{Reason, Refusal};
use zajil_model::wa_id::WaId;
use zajil_transport::{
    Capabilities, EventSink, OpenError, Outbound, SessionEvent, StopMode, Transport,
    TransportEvent, TransportFactory, TransportSpec,
};

use crate::clock::{SimClock, wall};
use crate::oracle::Oracle;
use crate::rare::Rare;
use crate::wire::{End, Lateness, Wire};

/// How long an answer takes at most: what is judged has to be there by then.
const LATEST_ANSWER: Duration = Duration::from_secs(14);

/// A frame that was handed over.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) id: MessageId,
    pub(crate) instance: InstanceId,
    pub(crate) recipient: Phone,
    pub(crate) process: u32,
    /// In true time.
    pub(crate) handed_at: Duration,
}

#[derive(Debug, Default)]
struct Inside {
    frames: Vec<Frame>,
    names: BTreeMap<MessageId, WaId>,
    /// In which order messages were shown.
    shown: BTreeMap<MessageId, u64>,
    refused: BTreeSet<MessageId>,
    ignored: BTreeSet<MessageId>,
    /// What each process was not answered.
    in_flight: BTreeMap<u32, BTreeSet<MessageId>>,
    /// Who handed over last for an instance.
    last: BTreeMap<InstanceId, u32>,
}

#[derive(Debug)]
pub(crate) struct WhatsApp {
    wire: Wire,
    oracle: Arc<Oracle>,
    forgets_ids: bool,
    inside: Mutex<Inside>,
}

impl WhatsApp {
    pub(crate) fn new(wire: Wire, oracle: Arc<Oracle>, forgets_ids: bool) -> Arc<Self> {
        let inside = Mutex::default();
        Arc::new(Self {
            wire,
            oracle,
            forgets_ids,
            inside,
        })
    }

    pub(crate) fn frames(&self) -> Vec<Frame> {
        self.inside.lock().frames.clone()
    }

    /// The messages that were shown, each with its place in the order.
    pub(crate) fn shown(&self) -> BTreeMap<MessageId, u64> {
        self.inside.lock().shown.clone()
    }

    /// What a process handed over and was not answered.
    pub(crate) fn in_flight(&self, process: u32) -> usize {
        let inside = self.inside.lock();
        inside.in_flight.get(&process).map_or(0, BTreeSet::len)
    }

    /// A frame leaves a process.
    fn handed(&self, frame: Frame, wa_id: WaId) {
        let (id, process) = (frame.id, frame.process);
        self.oracle.hands_over(process, id, frame.handed_at);
        let mut inside = self.inside.lock();
        let named = *inside.names.entry(id).or_insert(wa_id);
        if named != wa_id {
            self.oracle.wrong(&format!("{id} goes out under two names"));
        }
        if inside
            .frames
            .iter()
            .any(|other| other.id == id && other.process != process)
        {
            self.oracle.reached.note(Rare::SentAgainByTheNextOwner);
        }
        inside.in_flight.entry(process).or_default().insert(id);
        inside.last.insert(frame.instance, process);
        inside.frames.push(frame);
    }

    /// A frame arrives; answers what WhatsApp says to it.
    fn receives(&self, id: MessageId, wa_id: WaId, line: &Line) -> Option<TransportEvent> {
        let at = wall(self.wire.now());
        let mut inside = self.inside.lock();
        if inside.last.get(&line.instance) != Some(&line.process) {
            self.oracle.reached.note(Rare::LateFrame);
        }
        let refused = |refusal| TransportEvent::Refused {
            wa_id,
            refusal,
            code: 7,
            at,
        };
        let is_shown = inside.shown.contains_key(&id);
        match mood(id) {
            Mood::Forbids if !is_shown => {
                return Some(refused(Refusal::Permanent(Reason::NotAllowed)));
            }
            Mood::RefusesOnce if !is_shown && inside.refused.insert(id) => {
                return Some(refused(Refusal::Temporary));
            }
            _ => {}
        }
        let place = inside.shown.len() as u64;
        if is_shown && self.forgets_ids {
            self.oracle.wrong(&format!("{id} is shown twice"));
        } else if is_shown {
            self.oracle.reached.note(Rare::ShownOnceOfTwo);
        } else {
            inside.shown.insert(id, place);
            self.oracle.trace(|| format!("{id} is shown"));
        }
        let silent = mood(id) == Mood::SilentOnce && inside.ignored.insert(id);
        (!silent).then_some(TransportEvent::Acked { wa_id, at })
    }

    fn answered(&self, process: u32, id: MessageId) {
        let mut inside = self.inside.lock();
        inside.in_flight.entry(process).or_default().remove(&id);
    }
}

/// What WhatsApp does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Acks,
    RefusesOnce,
    SilentOnce,
    Forbids,
}

fn mood(id: MessageId) -> Mood {
    match SmallRng::seed_from_u64(id.get()).random_range(0..100) {
        ..88 => Mood::Acks,
        88..94 => Mood::RefusesOnce,
        94..98 => Mood::SilentOnce,
        _ => Mood::Forbids,
    }
}

/// The way to WhatsApp of one process.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) whatsapp: Arc<WhatsApp>,
    pub(crate) process: u32,
    pub(crate) end: End,
    pub(crate) clock: Arc<SimClock>,
}

#[async_trait]
impl TransportFactory for Gate {
    fn kind(&self) -> TransportKind {
        TransportKind::Simulator
    }

    fn capabilities(&self, _settings: &TransportSettings) -> Capabilities {
        Capabilities {
            idempotent_by_id: Some(!self.whatsapp.forgets_ids),
            receipts: false,
            pairing: false,
            polls: true,
            lists: true,
            reactions: true,
        }
    }

    fn check(&self, _settings: &TransportSettings) -> Result<(), OpenError> {
        Ok(())
    }

    async fn open(
        &self,
        spec: TransportSpec,
        events: EventSink,
    ) -> Result<Arc<dyn Transport>, OpenError> {
        let takes = self.whatsapp.wire.dice(5..60);
        tokio::time::sleep(Duration::from_millis(takes)).await;
        let online = SessionEvent::Online { phone: None };
        // Who opened it may be gone.
        events
            .push(vec![TransportEvent::Session(online)])
            .await
            .ok();
        let line = Line {
            whatsapp: Arc::clone(&self.whatsapp),
            process: self.process,
            end: self.end,
            clock: Arc::clone(&self.clock),
            instance: spec.instance,
            sink: events,
            handle: Handle::current(),
            last: Mutex::default(),
        };
        Ok(Arc::new(Connection(Arc::new(line))))
    }
}

/// The connection of one instance.
#[derive(Debug)]
struct Line {
    whatsapp: Arc<WhatsApp>,
    process: u32,
    end: End,
    clock: Arc<SimClock>,
    instance: InstanceId,
    sink: EventSink,
    handle: Handle,
    /// When the last frame arrives, and the last answer.
    last: Mutex<(Duration, Duration)>,
}

#[derive(Debug)]
struct Connection(Arc<Line>);

#[async_trait]
impl Transport for Connection {
    fn submit(&self, frames: Vec<Outbound>) -> Vec<Outbound> {
        for outbound in frames {
            self.0.hand_over(&outbound);
        }
        Vec::new()
    }

    async fn stop(&self, _mode: StopMode) {}
}

impl Line {
    fn hand_over(self: &Arc<Self>, outbound: &Outbound) {
        let message = outbound.message.get();
        let (id, wa_id) = (message.id(), outbound.wa_id);
        let frame = Frame {
            id,
            instance: self.instance,
            recipient: message.message().recipient,
            process: self.process,
            handed_at: self.clock.true_now(),
        };
        self.whatsapp.handed(frame, wa_id);
        let line = Arc::clone(self);
        let wire = &self.whatsapp.wire;
        let arrives = move || line.arrives(id, wa_id);
        match wire.way((self.end, End::WhatsApp), Lateness::Often) {
            None => wire.lose(arrives),
            Some(takes) => {
                // A connection keeps its order.
                let mut last = self.last.lock();
                last.0 = last.0.max(wire.now() + takes);
                wire.deliver(last.0, arrives);
            }
        }
    }

    fn arrives(self: Arc<Self>, id: MessageId, wa_id: WaId) {
        let Some(event) = self.whatsapp.receives(id, wa_id, &self) else {
            return;
        };
        let line = Arc::clone(&self);
        let comes = move || {
            let (sink, handle) = (line.sink.clone(), line.handle.clone());
            line.whatsapp.answered(line.process, id);
            handle.spawn(async move {
                // The instance may have left.
                sink.push(vec![event]).await.ok();
            });
        };
        let wire = &self.whatsapp.wire;
        match wire.way((End::WhatsApp, self.end), Lateness::Seldom) {
            None => wire.lose(comes),
            Some(takes) => {
                let mut last = self.last.lock();
                let takes = (takes * 5).min(LATEST_ANSWER);
                last.1 = last.1.max(wire.now() + takes);
                wire.deliver(last.1, comes);
            }
        }
    }
}
