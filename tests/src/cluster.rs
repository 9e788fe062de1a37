//! A node as a process of its own: started, killed, stopped, started again on the same data.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::RwLock;
use serde::Deserialize;

use crate::clock::wall_micros;
use crate::http::{Answer, Http, Sending};
use crate::network::Host;
use crate::operator::Operator;
use crate::program::{Program, Running};
use crate::stand_in::StandIn;
use crate::wait::{seconds, until};

/// How long a node may take to be ready: far above what it takes, for busy machines.
const READY_WITHIN: Duration = seconds(60);

/// Where a running node listens, as its data folder tells it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Presence {
    /// Its process.
    pub pid: u32,
    /// The Integration and the Dashboard API.
    pub api: SocketAddr,
    /// Health, metrics and operator commands.
    pub operations: SocketAddr,
}

impl Presence {
    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join("node.json")).ok()?).ok()
    }
}

/// Where a node listens now; `None` while it does not run. Clones see it change.
#[derive(Clone, Debug, Default)]
pub struct Whereabouts(Arc<RwLock<Option<Presence>>>);

impl Whereabouts {
    /// The Integration and the Dashboard API.
    pub fn api(&self) -> Option<SocketAddr> {
        self.0.read().map(|presence| presence.api)
    }

    /// Health, metrics and operator commands.
    pub fn operations(&self) -> Option<SocketAddr> {
        self.0.read().map(|presence| presence.operations)
    }

    fn set(&self, presence: Option<Presence>) {
        *self.0.write() = presence;
    }
}

/// How a node is started.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// `--set` of these.
    pub settings: Vec<(String, String)>,
    /// What is run as the program.
    pub program: Program,
    /// What runs instead of it.
    pub stand_in: Option<StandIn>,
    /// The machine of a network that it runs on, if it is not this one.
    pub host: Option<Host>,
}

impl Setup {
    /// The defaults, but on free ports.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a setting.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// With this as the program.
    #[must_use]
    pub fn run_as(self, program: Program) -> Self {
        Self { program, ..self }
    }

    /// On a machine of a network.
    #[must_use]
    pub fn on(self, host: Host) -> Self {
        let host = Some(host);
        Self { host, ..self }
    }

    fn address(&self) -> IpAddr {
        let host = self.host.as_ref();
        host.map_or(Ipv4Addr::LOCALHOST, |host| host.address).into()
    }

    /// With something else than the program itself.
    #[must_use]
    pub fn acted_by(self, stand_in: StandIn) -> Self {
        Self {
            stand_in: Some(stand_in),
            ..self
        }
    }
}

/// A node, running or not, on a data folder of its own.
#[derive(Debug)]
pub struct Engine {
    folder: PathBuf,
    setup: Setup,
    running: Option<Running>,
    at: Whereabouts,
    http: Http,
}

impl Engine {
    /// Starts a node whose data is in `folder`, and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready in time.
    pub async fn start(folder: &Path, setup: Setup) -> Result<Self> {
        let mut engine = Self {
            folder: folder.to_owned(),
            setup,
            running: None,
            at: Whereabouts::default(),
            http: Http::new(),
        };
        engine.start_again().await?;
        Ok(engine)
    }

    /// Starts it again on the same data, and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready in time.
    pub async fn start_again(&mut self) -> Result<()> {
        let data = self.folder.to_string_lossy();
        let anywhere = SocketAddr::new(self.setup.address(), 0).to_string();
        let mut arguments: Vec<String> = [
            "serve",
            "--listen",
            &anywhere,
            "--operations-listen",
            &anywhere,
            "--data-dir",
            &data,
        ]
        .map(str::to_owned)
        .to_vec();
        for (key, value) in &self.setup.settings {
            arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (program, home) = (self.setup.program, self.home());
        let command = match (&self.setup.stand_in, &self.setup.host) {
            (None, None) => program.command(&arguments, home),
            (None, Some(host)) => program.command_on(host, &arguments, home),
            (Some(stand_in), _) => stand_in.command(&arguments, home)?,
        };
        self.running = Some(Running::start(command, &self.log_file())?);
        self.await_ready().await
    }

    /// From its next start on, something else runs than the program itself.
    pub fn act_by(&mut self, stand_in: StandIn) {
        self.setup.stand_in = Some(stand_in);
    }

    /// Waits until its process ended by itself; answers how, and when that was seen, in
    /// microseconds of the wall clock.
    ///
    /// # Panics
    /// It does not run, or did not end within `patience`.
    pub async fn await_end(&mut self, patience: Duration) -> (ExitStatus, i64) {
        let mut running = self.running.take().expect("the node was started");
        let ended = until("the node ends", patience, async || running.ended()).await;
        self.at.set(None);
        (ended, wall_micros())
    }

    /// The folder that holds the data folder.
    fn home(&self) -> &Path {
        self.folder.parent().unwrap_or(Path::new("/"))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    async fn await_ready(&mut self) -> Result<()> {
        let running = self.running.as_mut().context("the node was not started")?;
        let (pid, folder, http) = (running.pid(), &self.folder, &self.http);
        let ready = async || {
            let presence = Presence::read(folder).filter(|presence| presence.pid == pid)?;
            let url = format!("http://{}/readyz", presence.operations);
            let answer = http
                .call(http::Method::GET, &url, Sending::nothing())
                .await
                .ok()?;
            (answer.status == 200).then_some(presence)
        };
        let looked = until("the node is ready", READY_WITHIN, async || {
            match running.ended() {
                Some(status) => Some(Err(status)),
                None => ready().await.map(Ok),
            }
        });
        match looked.await {
            Ok(presence) => {
                self.at.set(Some(presence));
                Ok(())
            }
            Err(status) => bail!("the node ended with {status}: {}", self.log()),
        }
    }

    /// Ends it at once, as `kill -9` does; answers when, in
    /// microseconds of the wall clock.
    ///
    /// # Panics
    /// It does not run.
    pub async fn kill(&mut self) -> i64 {
        let at = wall_micros();
        let mut running = self.running.take().expect("the node runs");
        running
            .kill()
            .await
            .expect("a process of ours can be killed");
        self.at.set(None);
        at
    }

    /// Freezes it until it is thawed. Customers see it gone, as behind a balancer that asks whether
    /// it is well; answers when, in microseconds of the wall clock.
    ///
    /// # Errors
    /// The signal cannot be sent.
    ///
    /// # Panics
    /// It does not run.
    pub async fn freeze(&mut self) -> Result<i64> {
        let process = self.running.as_ref().expect("the node runs");
        process.stand_still().await?;
        self.at.set(None);
        Ok(wall_micros())
    }

    /// Lets it go on after a freeze.
    ///
    /// # Errors
    /// The signal cannot be sent.
    ///
    /// # Panics
    /// It does not run.
    pub async fn thaw(&mut self) -> Result<()> {
        let process = self.running.as_ref().expect("the node runs");
        process.go_on().await?;
        self.at.set(Presence::read(&self.folder));
        Ok(())
    }

    /// Asks it to stop, and waits until it did.
    ///
    /// # Errors
    /// It did not within `patience`.
    ///
    /// # Panics
    /// It does not run.
    pub async fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        let mut running = self.running.take().expect("the node runs");
        running.ask_to_stop().await?;
        let ended = tokio::time::timeout(patience, running.wait()).await;
        self.at.set(None);
        Ok(ended.with_context(|| format!("the node still ran after {patience:?}"))??)
    }

    /// Where it listens.
    pub const fn at(&self) -> &Whereabouts {
        &self.at
    }

    /// Its data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its process, while it runs.
    pub const fn process(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// Whether its process ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.running.as_mut().and_then(Running::ended)
    }

    /// Everything that it printed since the first start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// What the first start told: it is there before the store knows of it.
    ///
    /// # Panics
    /// Nothing was told.
    pub fn first_run(&self) -> String {
        let told = std::fs::read_to_string(self.folder.join("first-run.txt"));
        told.expect("the first start told something")
    }

    /// The operator of this node.
    ///
    /// # Panics
    /// The data folder holds no operator token.
    pub fn operator(&self) -> Operator {
        let token = std::fs::read_to_string(self.folder.join("operator.token"));
        Operator::new(
            self.at.clone(),
            token.expect("a started node made a token").trim(),
        )
    }

    /// What its operations address answers to a GET.
    ///
    /// # Panics
    /// It does not run, or does not answer.
    pub async fn ask(&self, path: &str) -> Answer {
        let address = self.at.operations().expect("the node runs");
        let url = format!("http://{address}{path}");
        let answered = self
            .http
            .call(http::Method::GET, &url, Sending::nothing())
            .await;
        answered.expect("a running node answers")
    }

    /// A sample of a metric, summed over its labels; `None` when it is not there.
    ///
    /// # Panics
    /// The node does not answer.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.ask("/metrics").await.text();
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let values: Vec<f64> = samples
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}
