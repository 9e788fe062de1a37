//! A WhatsApp that is made up: in this process, or as a process of its own that keeps a ledger.
//!
//! It shows each WhatsApp id once, as WhatsApp does, and behaves by a [`Script`] and a seed.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use zajil_model::id::InstanceId;
use zajil_model::instance::{TransportKind, TransportSettings};
use zajil_model::phone::Phone;
use zajil_model::time::Clock;

use crate::{Capabilities, EventSink, OpenError, Transport, TransportFactory, TransportSpec};

mod client;
mod dice;
mod fate;
mod hub;
pub mod ledger;
mod line;
mod local;
mod outlet;
pub mod script;
pub mod server;
mod shown;
mod timeline;
mod wire;
mod world;

use client::Remotes;
use hub::Hub;
use local::LocalTransport;
pub use script::{Script, ScriptError};
use shown::SHOWN_IN_PROCESS;

/// Opens simulated instances: in this process, or at a simulator process when the settings of
/// the instance name its address.
#[derive(Debug)]
pub struct SimulatorFactory {
    clock: Arc<dyn Clock>,
    hub: Arc<Hub>,
    remotes: Remotes,
    /// The script that was read last: instances mostly share one.
    last_script: Mutex<Option<(String, Arc<Script>)>>,
    default_script: Arc<Script>,
}

impl SimulatorFactory {
    /// A factory whose background tasks run on `tasks`, and whose made-up behaviour follows
    /// `seed`. The tasks end by themselves when no instance is open any more.
    pub fn new(clock: Arc<dyn Clock>, tasks: TaskTracker, seed: u64) -> Self {
        Self {
            hub: Hub::new(clock.clone(), tasks.clone(), seed, SHOWN_IN_PROCESS, None),
            remotes: Remotes::new(clock.clone(), tasks),
            clock,
            last_script: Mutex::new(None),
            default_script: Arc::new(Script::default()),
        }
    }

    /// Reads the script of an instance.
    fn script(&self, settings: &TransportSettings) -> Result<Arc<Script>, ScriptError> {
        let Some(text) = &settings.script else {
            return Ok(self.default_script.clone());
        };
        let mut last = self.last_script.lock();
        if let Some((known, script)) = &*last
            && known == text
        {
            return Ok(script.clone());
        }
        let script = Arc::new(Script::parse(text)?);
        *last = Some((text.clone(), script.clone()));
        Ok(script)
    }

    /// Whether a repeated id is shown once: by the script of the instance and, for one at a
    /// simulator process, by what that said when it was last connected.
    fn is_idempotent(&self, settings: &TransportSettings) -> Option<bool> {
        let scripted = self.script(settings).is_ok_and(|script| script.idempotent);
        match settings.address.as_deref() {
            Some(address) if scripted => self.remotes.is_idempotent(address),
            _ => Some(scripted),
        }
    }
}

#[async_trait]
impl TransportFactory for SimulatorFactory {
    fn kind(&self) -> TransportKind {
        TransportKind::Simulator
    }

    fn capabilities(&self, settings: &TransportSettings) -> Capabilities {
        Capabilities {
            idempotent_by_id: self.is_idempotent(settings),
            receipts: true,
            pairing: false,
            polls: true,
            lists: true,
            reactions: true,
        }
    }

    fn check(&self, settings: &TransportSettings) -> Result<(), OpenError> {
        self.script(settings)
            .map(drop)
            .map_err(|error| settings_fault(&error))
    }

    async fn open(
        &self,
        spec: TransportSpec,
        events: EventSink,
    ) -> Result<Arc<dyn Transport>, OpenError> {
        let script = self
            .script(&spec.settings)
            .map_err(|error| settings_fault(&error))?;
        let phone = spec.phone.unwrap_or_else(|| made_up_phone(spec.instance));
        if let Some(address) = &spec.settings.address {
            let transport = self.remotes.open(address, spec.instance, phone, events);
            return Ok(Arc::new(transport));
        }
        let opening = self.hub.open(spec.instance, phone, script, events);
        Ok(Arc::new(LocalTransport {
            opening,
            clock: self.clock.clone(),
        }))
    }
}

fn settings_fault(error: &ScriptError) -> OpenError {
    OpenError::Settings(format!("script: {error}"))
}

/// The number of an instance that has none: of +999, which no country has.
fn made_up_phone(instance: InstanceId) -> Phone {
    let digits = format!("999{:010}", instance.get() % 10_000_000_000);
    Phone::from_digits(&digits).expect("13 digits that begin with 9 are a number")
}
