//! The usual setting of a scenario: a WhatsApp, a node, an account with instances, a customer.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checker::{self, Barrier, Evidence, Report, Rules};
use crate::clock::wall_micros;
use crate::cluster::{Engine, Setup};
use crate::customer::Customer;
use crate::form::{folder, short_or_long};
use crate::operator::{Account, Operator, Pace, UNLIMITED};
use crate::wait::seconds;
use crate::whatsapp::WhatsApp;

/// How long the rest of a load may take to be settled and its receipts to come in.
pub(crate) fn settles_within() -> Duration {
    short_or_long(seconds(60), seconds(900))
}

/// After so many kills the customer gets a new key: each costs a key what was reserved ahead for it,
/// up to one and a half twentieths of its limit, so that 14 in an hour use up any key.
const KILLS_OF_A_KEY: usize = 10;

/// A setting, and what happened in it. What is made first ends last: the node before WhatsApp.
#[derive(Debug)]
pub struct Scene {
    /// The node.
    pub engine: Engine,
    /// The made-up WhatsApp.
    pub whatsapp: WhatsApp,
    /// The operator of the node.
    pub operator: Operator,
    /// The account.
    pub account: Account,
    /// Its customer.
    pub customer: Customer,
    /// Its instances, all at the made-up WhatsApp.
    pub instances: Vec<u64>,
    /// What the books are measured by; scenarios add their kills and barriers.
    pub rules: Rules,
    /// Where everything is kept.
    pub folder: TempDir,
}

/// What a scene is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    script: Value,
    paces: Vec<Pace>,
    setup: Setup,
    data: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            script: json!({}),
            paces: vec![Pace {
                rate: 200.0,
                burst: 20,
            }],
            setup: Setup::new(),
            data: None,
        }
    }
}

impl Plan {
    /// One instance at 200 a second, and a WhatsApp where everything arrives.
    pub fn new() -> Self {
        Self::default()
    }

    /// WhatsApp behaves by this script.
    #[must_use]
    pub fn script(self, script: Value) -> Self {
        Self { script, ..self }
    }

    /// An instance for each of these paces.
    #[must_use]
    pub fn paces(self, paces: &[(f64, u32)]) -> Self {
        let paces = paces
            .iter()
            .map(|(rate, burst)| Pace {
                rate: *rate,
                burst: *burst,
            })
            .collect();
        Self { paces, ..self }
    }

    /// The node is started so.
    #[must_use]
    pub fn setup(self, setup: Setup) -> Self {
        Self { setup, ..self }
    }

    /// The data of the node is in this folder, and not in one of the scene.
    #[must_use]
    pub fn data(self, folder: PathBuf) -> Self {
        Self {
            data: Some(folder),
            ..self
        }
    }

    /// Makes it.
    ///
    /// # Errors
    /// A process cannot be started.
    pub async fn start(self) -> Result<Scene> {
        let folder = folder()?;
        let whatsapp = WhatsApp::start(folder.path(), &self.script).await?;
        let setup = self.setup.with("node.first_run", "never");
        let data = self.data.unwrap_or_else(|| folder.path().join("data"));
        let engine = Engine::start(&data, setup).await?;
        let operator = engine.operator();
        let account = operator.make_account("scenario").await;
        let customer = operator.customer(&account.key);
        let mut rules = Rules::default();
        let mut instances = Vec::new();
        for (number, pace) in self.paces.into_iter().enumerate() {
            let settings = json!({ "address": whatsapp.address().to_string() });
            let name = format!("number-{number}");
            let id = operator
                .make_instance(account.id, &name, pace, settings)
                .await;
            rules.paces.insert(id, pace);
            instances.push(id);
        }
        Ok(Scene {
            engine,
            whatsapp,
            operator,
            account,
            customer,
            instances,
            rules,
            folder,
        })
    }
}

impl Scene {
    /// The usual one.
    ///
    /// # Errors
    /// A process cannot be started.
    pub async fn usual() -> Result<Self> {
        Plan::new().start().await
    }

    /// The first instance.
    pub fn instance(&self) -> u64 {
        self.instances[0]
    }

    /// Kills the node, and starts it again on the same data; answers when it was
    /// killed.
    ///
    /// # Errors
    /// It does not start.
    pub async fn kill_and_start_again(&mut self) -> Result<i64> {
        let at = self.engine.kill().await;
        self.rules.kills.push(at);
        self.engine.start_again().await?;
        if self.rules.kills.len().is_multiple_of(KILLS_OF_A_KEY) {
            self.customer
                .change_key(self.operator.make_key(self.account.id, UNLIMITED).await);
        }
        Ok(at)
    }

    /// Writes down a barrier that holds from now on.
    pub fn hold(&mut self, of: checker::Held) {
        let from = wall_micros();
        self.rules.barriers.push(Barrier {
            of,
            from,
            until: None,
        });
    }

    /// Waits until every message is settled, and collects the evidence.
    pub async fn evidence(&self) -> Evidence {
        self.customer.await_settled(settles_within()).await;
        let finals = self.customer.finals().await;
        Evidence {
            book: self.customer.book(),
            frames: self.whatsapp.frames(),
            finals,
        }
    }

    /// Waits until every message is settled, and compares the books.
    pub async fn verdict(&self) -> Report {
        checker::check(&self.evidence().await, &self.rules)
    }
}
