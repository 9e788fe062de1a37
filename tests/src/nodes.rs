//! Several nodes over one database, each a process on a data folder of its own, and a made-up WhatsApp
//! that all of them use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checker::{self, Evidence, Report, Rules};
use crate::cluster::Engine;
use crate::cql::Cql;
use crate::customer::Customer;
use crate::form::folder;
use crate::network::Network;
use crate::operator::{Account, Pace};
use crate::program::{self, Program};
use crate::scene::settles_within;
use crate::wait::{seconds, until};
use crate::whatsapp::WhatsApp;

mod place;

pub use place::Place;

/// The port of gossip, at each node.
pub(crate) const GOSSIP: u16 = 7_946;

/// The port of the link, at each node.
pub(crate) const LINK: u16 = 7_947;

/// Shards of a cluster, fixed for ever.
const SHARDS: u64 = 1_024;

/// Within this a node that is asked to stop has to be gone.
const STOPS_WITHIN: Duration = seconds(20);

/// Numbers that nodes of a scenario may have: they are told of each other's places before they run.
const MOST_NODES: u8 = 4;

/// What several nodes are to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    nodes: u8,
    script: Value,
    paces: Vec<Pace>,
    keys: Option<PathBuf>,
    network: Option<Arc<Network>>,
    detours: BTreeMap<u8, SocketAddr>,
    program: Program,
}

/// Several nodes. What is made first ends last: the nodes before WhatsApp and their keyspace.
#[derive(Debug)]
pub struct Nodes {
    engines: Vec<Engine>,
    place: Place,
    /// The made-up WhatsApp.
    pub whatsapp: WhatsApp,
    /// The account.
    pub account: Account,
    /// Its customer, who goes from node to node.
    pub customer: Customer,
    /// Its instances, all at the made-up WhatsApp.
    pub instances: Vec<u64>,
    /// What the books are measured by; scenarios add their barriers.
    pub rules: Rules,
    /// Where everything is kept.
    pub folder: TempDir,
}

impl Default for Plan {
    fn default() -> Self {
        let pace = Pace {
            rate: 60.0,
            burst: 10,
        };
        Self {
            nodes: 3,
            script: json!({ "latency": { "min_ms": 2, "max_ms": 30 } }),
            paces: vec![pace; 6],
            keys: None,
            network: None,
            detours: BTreeMap::new(),
            program: Program::default(),
        }
    }
}

impl Plan {
    /// Three nodes, six instances at 60 a second, and a WhatsApp where everything arrives.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many nodes.
    #[must_use]
    pub fn nodes(self, nodes: u8) -> Self {
        Self { nodes, ..self }
    }

    /// WhatsApp behaves by this script.
    #[must_use]
    pub fn script(self, script: Value) -> Self {
        Self { script, ..self }
    }

    /// An instance for each of these paces.
    #[must_use]
    pub fn paces(self, paces: Vec<Pace>) -> Self {
        Self { paces, ..self }
    }

    /// This is run as the program.
    #[must_use]
    pub fn run_as(self, program: Program) -> Self {
        Self { program, ..self }
    }

    /// Each node has the keys of its number from this folder, as `zajil cluster init` made it.
    #[must_use]
    pub fn keys(self, folder: PathBuf) -> Self {
        Self {
            keys: Some(folder),
            ..self
        }
    }

    /// Each node is a machine of this network, and they get the keys that they need there.
    #[must_use]
    pub fn over(self, network: &Arc<Network>) -> Self {
        Self {
            network: Some(network.clone()),
            ..self
        }
    }

    /// The node of this number reaches the database there, where something stands between the two.
    #[must_use]
    pub fn reaching(mut self, number: u8, at: SocketAddr) -> Self {
        self.detours.insert(number, at);
        self
    }

    /// Starts them on the server that all tests share; nothing where there can be none, which is
    /// then said.
    ///
    /// # Errors
    /// A process cannot be started.
    pub async fn start(self, test: &str) -> Result<Option<Nodes>> {
        match Cql::shared(test).await {
            Some(cql) => Ok(Some(self.start_on(cql, test).await?)),
            None => Ok(None),
        }
    }

    /// Starts them on a server.
    ///
    /// # Errors
    /// A process cannot be started.
    pub async fn start_on(self, cql: Cql, test: &str) -> Result<Nodes> {
        let folder = folder()?;
        let mut place = Place::on(cql, test);
        (place.network, place.program) = (self.network, self.program);
        place.detours = self.detours;
        place.keys = match (self.keys, &place.network) {
            (None, Some(_)) => Some(program::make_keys(folder.path()).await?),
            (keys, _) => keys,
        };
        let at = place.shared_address();
        let whatsapp = WhatsApp::start_at(at, self.program, folder.path(), &self.script).await?;
        let mut engines = Vec::new();
        for number in 1..=self.nodes {
            let data = folder.path().join(format!("node-{number}"));
            engines.push(Engine::start(&data, place.setup(number)).await?);
        }
        let operator = engines[0].operator();
        let account = operator.make_account("scenario").await;
        let doors = engines.iter().map(|engine| engine.at().clone()).collect();
        let mut nodes = Nodes {
            customer: Customer::of_many(doors, &account.key),
            engines,
            place,
            whatsapp,
            account,
            instances: Vec::new(),
            rules: Rules::default(),
            folder,
        };
        nodes.await_balanced(seconds(60)).await;
        for (number, pace) in self.paces.into_iter().enumerate() {
            nodes.make_instance(number, pace).await;
        }
        Ok(nodes)
    }
}

impl Nodes {
    async fn make_instance(&mut self, number: usize, pace: Pace) {
        let settings = json!({ "address": self.whatsapp.address().to_string() });
        // Each at another node: none of them is special.
        let operator = self.engines[number % self.engines.len()].operator();
        let name = format!("number-{number}");
        let id = operator
            .make_instance(self.account.id, &name, pace, settings)
            .await;
        self.rules.paces.insert(id, pace);
        self.instances.push(id);
    }

    /// The node of this number, from 1.
    pub fn node(&self, number: u8) -> &Engine {
        &self.engines[usize::from(number) - 1]
    }

    fn node_mut(&mut self, number: u8) -> &mut Engine {
        &mut self.engines[usize::from(number) - 1]
    }

    /// The customer, at one node alone.
    pub fn customer_at(&self, number: u8) -> Customer {
        self.customer.only_at(self.node(number).at())
    }

    /// The numbers of the nodes that run and are not frozen.
    pub fn running(&self) -> Vec<u8> {
        (1..)
            .zip(&self.engines)
            .filter(|(_, engine)| engine.at().api().is_some())
            .map(|(number, _)| number)
            .collect()
    }

    /// `kill -9`; answers when it was, in microseconds of the wall clock.
    pub async fn kill(&mut self, number: u8) -> i64 {
        let at = self.node_mut(number).kill().await;
        self.rules.kills.push(at);
        at
    }

    /// The node stops where it is: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub async fn freeze(&mut self, number: u8) -> Result<i64> {
        let at = self.node_mut(number).freeze().await?;
        // What was on its way then is sent again by whoever takes over.
        self.rules.kills.push(at);
        Ok(at)
    }

    /// A frozen node goes on.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub async fn thaw(&mut self, number: u8) -> Result<()> {
        self.node_mut(number).thaw().await
    }

    /// Asks a node to stop, as a service manager does, and waits until it did.
    ///
    /// # Errors
    /// It did not in the time that it has for that.
    pub async fn stop(&mut self, number: u8) -> Result<ExitStatus> {
        self.node_mut(number).stop(STOPS_WITHIN).await
    }

    /// Starts a node again on its data.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&mut self, number: u8) -> Result<()> {
        self.node_mut(number).start_again().await
    }

    /// Starts one more node; answers its number.
    ///
    /// # Errors
    /// It does not start.
    pub async fn join(&mut self) -> Result<u8> {
        let number = u8::try_from(self.engines.len() + 1).context("there are few nodes")?;
        anyhow::ensure!(number <= MOST_NODES, "there are {MOST_NODES} nodes at most");
        let data = self.folder.path().join(format!("node-{number}"));
        let engine = Engine::start(&data, self.place.setup(number)).await?;
        self.engines.push(engine);
        Ok(number)
    }

    /// Where nodes keep things and find each other.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// How many shards each running node owns, as it tells by itself.
    pub async fn owned(&self) -> BTreeMap<u8, u64> {
        let mut owned = BTreeMap::new();
        for number in self.running() {
            let told = self.node(number).metric("zajil_shards_owned").await;
            owned.insert(number, told.unwrap_or(0.0) as u64);
        }
        owned
    }

    /// Waits until every running node owns its share of the shards, no more and no less.
    ///
    /// # Panics
    /// They do not within `patience`.
    pub async fn await_balanced(&self, patience: Duration) {
        let nodes = self.running().len() as u64;
        let share = SHARDS / nodes..=SHARDS.div_ceil(nodes);
        until("all have their share of the shards", patience, async || {
            let owned = self.owned().await;
            let fair = owned.values().all(|count| share.contains(count));
            (fair && owned.values().sum::<u64>() == SHARDS).then_some(())
        })
        .await;
    }

    /// Waits until every shard has an owner among the running nodes.
    ///
    /// # Panics
    /// Some have none within `patience`.
    pub async fn await_owned(&self, patience: Duration) {
        until("every shard has an owner", patience, async || {
            let owned: u64 = self.owned().await.values().sum();
            (owned == SHARDS).then_some(())
        })
        .await;
    }

    /// The node at which an instance is at work.
    ///
    /// # Panics
    /// Nowhere, for long.
    pub async fn owner(&self, instance: u64) -> u8 {
        let path = format!("/metrics/instances?instance={instance}");
        let named = format!("\"{instance}\"");
        until("an instance has an owner", seconds(30), async || {
            for number in self.running() {
                if self.node(number).ask(&path).await.text().contains(&named) {
                    return Some(number);
                }
            }
            None
        })
        .await
    }

    /// Waits until an instance hands something over that is stamped after `at`; answers how long
    /// after.
    ///
    /// # Panics
    /// It does not within `patience`.
    pub async fn await_sends(&self, instance: u64, at: i64, patience: Duration) -> Duration {
        until("the instance sends again", patience, async || {
            let frames = self.whatsapp.frames();
            let first = frames
                .iter()
                .filter(|frame| frame.instance == instance && frame.handed_over_at > at)
                .map(|frame| frame.handed_over_at)
                .min()?;
            Some(Duration::from_micros(first.abs_diff(at)))
        })
        .await
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
