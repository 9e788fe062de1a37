//! A small language for tests of the engine: an engine on a store in memory, on time that tests
//! move, and a WhatsApp that does as it is told.
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::new_without_default,
    clippy::disallowed_methods,
    reason = "the language of tests: each file uses what it needs of it, and a failure is a panic"
)]

#[path = "support/clocks.rs"]
pub mod clocks;

#[path = "support/whatsapp.rs"]
pub mod whatsapp;

#[path = "support/trouble.rs"]
pub mod trouble;

#[path = "support/site.rs"]
pub mod site;

#[path = "support/campaign.rs"]
pub mod campaign;

use std::sync::Arc;
use std::time::Duration;

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
use zajil_model::time::Clock;
use zajil_storage::{Append, Entry, MemoryStore, Store};

pub use clocks::{TokioClock, WrongClock};
pub use whatsapp::{Answer, Frame, WhatsApp};

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
        self.whatsapp.engine_died();
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

    /// Waits until a message has a status.
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
