//! A small language for tests of the engine: an engine on a store in memory, on time that tests
//! move, and a WhatsApp that does as it is told.
#![allow(
    dead_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::new_without_default,
    clippy::disallowed_methods,
    reason = "the language of tests: each file uses what it needs of it, and a failure is a panic"
)]

#[path = "support/trouble.rs"]
pub mod trouble;

#[path = "support/site.rs"]
pub mod site;

#[path = "support/campaign.rs"]
pub mod campaign;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use zajil_actors::directory::NewInstance;
use zajil_actors::engine::{Engine, Ports};
use zajil_actors::owners::Sharing;
use zajil_actors::send::{AcceptError, Reserved, Submission};
use zajil_model::id::{AccountId, Epoch, MessageId, RequestId};
use zajil_model::instance::{Instance, TransportKind, TransportSettings};
use zajil_model::lifecycle::{Event, MessageState, Outcome, Status};
use zajil_model::message::{DEFAULT_TTL_SECONDS, Lane, Message, OnAmbiguous, Payload};
use zajil_model::pace::{PaceSpec, Per};
use zajil_model::phone::Phone;
use zajil_model::refusal::Refusal;
use zajil_model::time::{Clock, Mono, Timestamp};
use zajil_model::wa_id::WaId;
use zajil_storage::{Append, Entry, MemoryStore, Store};
use zajil_transport::{
    Capabilities, EventSink, OpenError, Outbound, SessionEvent, StopMode, Transport,
    TransportEvent, TransportFactory, TransportSpec,
};

/// Tells tokio's time, which stands still while anybody works and jumps when all wait.
#[derive(Debug)]
pub struct TokioClock(tokio::time::Instant);

impl TokioClock {
    pub fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000) + self.0.elapsed()
    }

    fn mono(&self) -> Mono {
        Mono::from_nanos(self.0.elapsed().as_nanos() as u64)
    }
}

/// The same, with a wall clock that somebody sets wrong.
#[derive(Debug)]
pub struct WrongClock {
    time: TokioClock,
    /// By how many microseconds the wall clock is ahead.
    ahead: AtomicI64,
}

impl WrongClock {
    pub fn new() -> Self {
        Self {
            time: TokioClock::new(),
            ahead: AtomicI64::new(0),
        }
    }

    /// From now on the wall clock is so many seconds ahead, or behind.
    pub fn is_ahead_by(&self, seconds: i64) {
        self.ahead.store(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        let right = self.time.now().as_micros();
        Timestamp::from_micros(right + self.ahead.load(Ordering::Relaxed))
    }

    fn mono(&self) -> Mono {
        self.time.mono()
    }
}

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

/// An engine, its WhatsApp and one account with one instance.
pub struct World {
    pub engine: Engine,
    pub store: Arc<dyn Store>,
    pub whatsapp: WhatsApp,
    pub account: AccountId,
    pub instance: Arc<Instance>,
    pub clock: Arc<dyn Clock>,
}

pub fn phone(text: &str) -> Phone {
    Phone::parse(text).unwrap()
}

/// So many a second, one at a time.
pub fn per_second(count: f64) -> PaceSpec {
    PaceSpec {
        count,
        per: Per::Second,
        burst: Some(1),
        jitter: 0.0,
        daily_cap: None,
        time_zone: None,
    }
}

pub fn text(recipient: &str, content: &str) -> Message {
    Message {
        recipient: phone(recipient),
        payload: Payload::Text(content.into()),
        send_at: None,
        ttl_seconds: DEFAULT_TTL_SECONDS,
        client_ref: None,
        on_ambiguous: OnAmbiguous::Unknown,
    }
}

impl World {
    pub async fn new(pace: PaceSpec) -> Self {
        Self::on(Arc::new(MemoryStore::new()), pace).await
    }

    pub async fn on(store: Arc<dyn Store>, pace: PaceSpec) -> Self {
        Self::at(store, Arc::new(TokioClock::new()), pace).await
    }

    /// The same, by another clock.
    pub async fn at(store: Arc<dyn Store>, clock: Arc<dyn Clock>, pace: PaceSpec) -> Self {
        let whatsapp = WhatsApp::new(clock.clone());
        let engine = start(&store, &clock, &whatsapp).await;
        let account = engine.directory().create_account("Acme").await.unwrap().id;
        let new = simulated("shop", pace);
        let instance = engine.directory().create_instance(account, new).await;
        let instance = instance.unwrap();
        Self {
            engine,
            store,
            whatsapp,
            account,
            instance,
            clock,
        }
    }

    /// The engine dies without a word, and another one starts on what it left.
    pub async fn dies_and_starts_again(&mut self) {
        self.whatsapp.inside.lock().engines += 1;
        self.engine = start(&self.store, &self.clock, &self.whatsapp).await;
    }

    /// Another instance, as fast as the first one.
    pub async fn another(&self, name: &str) -> Arc<Instance> {
        let new = simulated(name, self.instance.pace.clone());
        let directory = self.engine.directory();
        directory.create_instance(self.account, new).await.unwrap()
    }

    pub async fn send(&self, messages: Vec<Message>) -> Reserved {
        self.send_by(&self.instance, messages).await
    }

    pub async fn send_by(&self, instance: &Arc<Instance>, messages: Vec<Message>) -> Reserved {
        let submission = submission(instance, Lane::Normal, messages);
        self.engine.send(submission, false).await.unwrap()
    }

    pub async fn try_send(
        &self,
        lane: Lane,
        messages: Vec<Message>,
    ) -> Result<Reserved, AcceptError> {
        let submission = submission(&self.instance, lane, messages);
        self.engine.send(submission, false).await
    }

    pub async fn state(&self, id: MessageId) -> MessageState {
        self.store.message(id).await.unwrap().unwrap().state
    }

    /// Waits until a message has a status.
    /// Writes that something happened to a message, behind the back of its actor.
    pub async fn write(&self, epoch: Epoch, id: MessageId, event: Event) {
        let at = self.clock.now();
        let outcome = Outcome { id, at, event };
        let (reply, written) = tokio::sync::oneshot::channel();
        let append = Append {
            shard: id.giver(),
            epoch,
            entries: vec![Entry::Outcomes(vec![outcome])],
        };
        let done = |result| drop(reply.send(result));
        self.engine.store().append(append, Box::new(done));
        written.await.unwrap().unwrap();
    }

    pub async fn becomes(&self, id: MessageId, status: Status) {
        for _ in 0..100_000 {
            if self.state(id).await.status == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} is {:?}, not {status:?}", self.state(id).await.status);
    }

    /// Changes the instance and puts it in force.
    pub async fn change(&mut self, change: impl Fn(&mut Instance) + Send + Sync) {
        let directory = self.engine.directory();
        let changed = directory
            .update_instance(self.account, self.instance.id, change)
            .await;
        self.instance = changed.unwrap();
        self.engine
            .apply_instance(self.instance.clone())
            .await
            .unwrap();
    }
}

/// An instance that sends through the made-up WhatsApp.
pub fn simulated(name: &str, pace: PaceSpec) -> NewInstance {
    NewInstance {
        name: name.to_owned(),
        transport: TransportKind::Simulator,
        settings: TransportSettings::default(),
        pace,
        queue_while_disconnected: false,
    }
}

fn submission(instance: &Arc<Instance>, lane: Lane, messages: Vec<Message>) -> Submission {
    Submission {
        instance: instance.clone(),
        lane,
        bytes: messages.len() * 100,
        messages,
        request: RequestId(1),
    }
}

async fn start(store: &Arc<dyn Store>, clock: &Arc<dyn Clock>, whatsapp: &WhatsApp) -> Engine {
    let ports = Ports {
        store: store.clone(),
        clock: clock.clone(),
        transports: vec![Arc::new(whatsapp.clone())],
        sharing: Sharing::alone(),
        seed: 1,
    };
    Engine::start(ports).await.unwrap()
}
