//! A WhatsApp that does as it is told, and remembers what it was handed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use zajil_model::id::MessageId;
use zajil_model::instance::{TransportKind, TransportSettings};
use zajil_model::phone::Phone;
use zajil_model::refusal::Refusal;
use zajil_model::time::{Clock, Mono};
use zajil_model::wa_id::WaId;
use zajil_transport::{
    Capabilities, EventSink, OpenError, Outbound, SessionEvent, StopMode, Transport,
    TransportEvent, TransportFactory, TransportSpec,
};

use super::phone;

/// What WhatsApp does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Acks it after 10 ms.
    Ack,
    /// Acks it, then says that it was delivered and read.
    Read,
    /// Refuses it once; the next attempt is acked.
    RefuseOnce(Refusal),
    /// Refuses every attempt.
    Refuse(Refusal),
    /// Refuses the first so many attempts; the next one is acked.
    RefuseFirst(u32, Refusal),
    /// Never answers the first attempt, and refuses every other.
    SilentThenRefuse(Refusal),
    /// Never answers.
    Silent,
    /// Never answers the first attempt; the next one is acked.
    SilentOnce,
    /// The transport itself dies in the hand-over.
    Panic,
}

/// A frame that was handed over.
#[derive(Clone, Debug)]
pub struct Frame {
    pub id: MessageId,
    pub wa_id: WaId,
    pub attempt: u8,
    pub recipient: Phone,
    pub at: Mono,
    pub text: String,
    pub node: u64,
}

#[derive(Debug, Default)]
struct Inside {
    frames: Vec<Frame>,
    answers: HashMap<Phone, Answer>,
    seen: HashMap<WaId, u32>,
    sink: Option<EventSink>,
    offline: bool,
    /// It shows a repeated id again.
    forgetful: bool,
    /// Only who is online knows that.
    secretive: bool,
    engines: u32,
    /// Nodes that died: what they hand over reaches nobody.
    pub dead: std::collections::HashSet<u64>,
}

/// A WhatsApp that does as it is told.
#[derive(Clone, Debug)]
pub struct WhatsApp {
    inside: Arc<Mutex<Inside>>,
    clock: Arc<dyn Clock>,
    /// Which node hands over here; 0 where there is one engine.
    node: u64,
}

impl WhatsApp {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            inside: Arc::default(),
            clock,
            node: 0,
        }
    }

    /// The same, as one node of several reaches it.
    pub fn of_node(&self, node: u64) -> Self {
        Self {
            node,
            ..self.clone()
        }
    }

    /// The engine that handed over so far reaches nobody any more.
    pub fn engine_died(&self) {
        self.inside.lock().engines += 1;
    }

    pub fn node_died(&self, node: u64) {
        self.inside.lock().dead.insert(node);
    }

    pub fn answers(&self, recipient: &str, answer: Answer) {
        self.inside.lock().answers.insert(phone(recipient), answer);
    }

    pub fn frames(&self) -> Vec<Frame> {
        self.inside.lock().frames.clone()
    }

    pub fn texts(&self) -> Vec<String> {
        self.frames().into_iter().map(|frame| frame.text).collect()
    }

    pub fn starts_offline(&self) {
        self.inside.lock().offline = true;
    }

    /// From now on it shows a repeated id again, and says so.
    pub fn forgets_ids(&self) {
        self.inside.lock().forgetful = true;
    }

    /// Whether it shows a repeated id again is known only once an instance is online.
    pub fn tells_only_who_is_online(&self) {
        self.inside.lock().secretive = true;
    }

    pub fn comes_online(&self) {
        self.inside.lock().offline = false;
    }

    pub async fn says(&self, event: TransportEvent) {
        let sink = self.inside.lock().sink.clone();
        if let Some(sink) = sink {
            sink.push(vec![event]).await.ok();
        }
    }

    pub async fn session(&self, event: SessionEvent) {
        self.says(TransportEvent::Session(event)).await;
    }

    fn idempotent(&self) -> Option<bool> {
        let inside = self.inside.lock();
        let known = !(inside.secretive && inside.offline);
        known.then_some(!inside.forgetful)
    }

    fn answer(&self, frame: &Frame) -> Vec<TransportEvent> {
        let mut inside = self.inside.lock();
        let turn = inside.seen.entry(frame.wa_id).or_default();
        *turn += 1;
        let (nth, first) = (*turn, *turn == 1);
        let answer = inside
            .answers
            .get(&frame.recipient)
            .copied()
            .unwrap_or(Answer::Ack);
        let (wa_id, at) = (frame.wa_id, self.clock.now());
        let acked = TransportEvent::Acked { wa_id, at };
        let refused = |refusal| TransportEvent::Refused {
            wa_id,
            refusal,
            code: 7,
            at,
        };
        match answer {
            Answer::Ack => vec![acked],
            Answer::Read => vec![
                acked,
                TransportEvent::Received { wa_id, at },
                TransportEvent::Read { wa_id, at },
            ],
            Answer::RefuseOnce(refusal) if first => vec![refused(refusal)],
            Answer::RefuseFirst(times, refusal) if nth <= times => vec![refused(refusal)],
            Answer::SilentOnce | Answer::SilentThenRefuse(_) if first => vec![],
            Answer::Refuse(refusal) | Answer::SilentThenRefuse(refusal) => vec![refused(refusal)],
            Answer::Silent => vec![],
            Answer::RefuseOnce(_) | Answer::RefuseFirst(..) | Answer::SilentOnce => vec![acked],
            Answer::Panic => panic!("the transport dies of this recipient"),
        }
    }
}

#[derive(Debug)]
struct Line {
    whatsapp: WhatsApp,
    /// The engine that opened it; a dead one reaches nobody.
    engine: u32,
    sink: EventSink,
}

#[async_trait]
impl Transport for Line {
    fn submit(&self, frames: Vec<Outbound>) -> Vec<Outbound> {
        {
            let inside = self.whatsapp.inside.lock();
            if self.engine != inside.engines || inside.dead.contains(&self.whatsapp.node) {
                return Vec::new();
            }
        }
        let mut events = Vec::new();
        for outbound in frames {
            let message = outbound.message.get();
            let frame = Frame {
                id: message.id(),
                wa_id: outbound.wa_id,
                attempt: outbound.attempt,
                recipient: message.message().recipient,
                at: self.whatsapp.clock.mono(),
                text: message.message().payload.headline().to_owned(),
                node: self.whatsapp.node,
            };
            self.whatsapp.inside.lock().frames.push(frame.clone());
            events.extend(self.whatsapp.answer(&frame));
        }
        let sink = self.sink.clone();
        tokio::task::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            sink.push(events).await.ok();
        });
        Vec::new()
    }

    async fn stop(&self, _mode: StopMode) {}
}

#[async_trait]
impl TransportFactory for WhatsApp {
    fn kind(&self) -> TransportKind {
        TransportKind::Simulator
    }

    fn capabilities(&self, _settings: &TransportSettings) -> Capabilities {
        Capabilities {
            idempotent_by_id: self.idempotent(),
            receipts: true,
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
        _spec: TransportSpec,
        events: EventSink,
    ) -> Result<Arc<dyn Transport>, OpenError> {
        let (offline, engine) = {
            let mut inside = self.inside.lock();
            inside.sink = Some(events.clone());
            (inside.offline, inside.engines)
        };
        if !offline {
            let online = SessionEvent::Online { phone: None };
            events
                .push(vec![TransportEvent::Session(online)])
                .await
                .ok();
        }
        Ok(Arc::new(Line {
            whatsapp: self.clone(),
            engine,
            sink: events,
        }))
    }
}
