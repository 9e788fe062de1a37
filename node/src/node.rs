//! One running node: a store, an engine over it, and two listeners.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_actors::engine::{Engine, Ports};
use zajil_actors::owners::Sharing;
use zajil_actors::send::DrainReport;
use zajil_api::OperatorToken;
use zajil_model::time::{Clock, Mono};
use zajil_storage::Store;
use zajil_storage::embedded::EmbeddedConfig;
use zajil_transport::simulator::SimulatorFactory;

use crate::clock::SystemClock;
use crate::config::{Config, FirstRun};
use crate::files::{self, Presence};
use crate::first_run::Welcome;
use crate::together::{Before, Together};
use crate::wiring::{self, Addresses, Bound, Listeners};
use crate::{secret, telemetry, upkeep};

/// Exit code when the store failed for good (a sync that the disk did not confirm): what was
/// written last may be lost, and only a new start reads what is there.
pub const EXIT_STORE_FAILED: i32 = 74;

/// How long background tasks may take to notice that the node stops: they only have to look up.
const TASKS_END: Duration = Duration::from_secs(5);

/// How long closing the store may take: what it writes last takes a second or two, and a database
/// that is away must not keep the process. What is accepted is in the log by then.
const STORE_CLOSES: Duration = Duration::from_secs(10);

/// How long each step of a stop has in any case.
const LEAST_STEP: Duration = Duration::from_secs(1);

/// What a node shares with the process that it runs in.
#[derive(Clone)]
pub struct Process {
    /// Renders the metrics of the process.
    pub metrics: PrometheusHandle,
    /// Called when the store failed for good. It must not return to work as usual.
    pub on_store_failed: Arc<dyn Fn(&str) + Send + Sync>,
    /// Adjusts how the store is opened: crash tests put small segments and failpoints there.
    pub adjust_store: AdjustStore,
}

/// A change to the usual way of opening a store.
pub type AdjustStore = Arc<dyn Fn(EmbeddedConfig) -> EmbeddedConfig + Send + Sync>;

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

impl Process {
    /// A process that is this node's alone: it ends when the store fails.
    pub fn of_this_program(metrics: PrometheusHandle) -> Self {
        let on_store_failed = |reason: &str| {
            tracing::error!(
                reason,
                "the store failed; ending, so that a new start reads it again"
            );
            std::process::exit(EXIT_STORE_FAILED)
        };
        Self {
            metrics,
            on_store_failed: Arc::new(on_store_failed),
            adjust_store: Arc::new(std::convert::identity),
        }
    }

    /// A process that others share: a failed store is logged and the process goes on.
    pub fn shared() -> Self {
        let on_store_failed = |reason: &str| tracing::error!(reason, "the store failed");
        Self {
            metrics: telemetry::detached_metrics(),
            on_store_failed: Arc::new(on_store_failed),
            adjust_store: Arc::new(std::convert::identity),
        }
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    engine: Engine,
    listeners: Listeners,
    at: Addresses,
    welcome: Option<Welcome>,
    token: String,
    config: Config,
    /// Its part in a cluster, if it is of one.
    together: Option<Together>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Node {
    /// Starts a node in a process that it shares with others.
    ///
    /// # Errors
    /// See [`Node::start_in`].
    pub async fn start(config: Config) -> Result<Self> {
        Self::start_in(config, Process::shared()).await
    }

    /// Starts a node; once this answers, it takes requests.
    ///
    /// # Errors
    /// The data folder is in use or damaged, or an address cannot be listened on.
    pub async fn start_in(config: Config, process: Process) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let tasks = TaskTracker::new();
        let stopping = CancellationToken::new();
        // Listening first: a taken address is told before a store is opened or replayed.
        let bound = Bound::bind(&config).await?;
        let before = match &config.shared {
            Some(shared) => Some(Before::prepare(shared, &config.data_dir, &*clock).await?),
            None => None,
        };
        let store = wiring::open_store(&config, &clock, &process).await?;
        let token = operator_token(&config)?;
        let sharing = before.as_ref().map_or_else(Sharing::alone, Before::sharing);
        let engine = start_engine(&store, &clock, &tasks, sharing).await?;
        let at = bound.addresses();
        let together = match before {
            Some(before) => {
                let shell = (&process, &tasks, &stopping);
                Some(before.join(&engine, &store, &clock, at.api, shell).await?)
            }
            None => None,
        };
        let welcome = first_run(&config, &engine, at.api).await?;
        let presence = Presence {
            pid: std::process::id(),
            api: at.api,
            operations: at.operations,
        };
        let listeners = bound.serve(
            &config,
            &engine,
            OperatorToken::new(&token),
            &process,
            &tasks,
        );
        presence
            .tell(&config.data_dir)
            .context("cannot write to the data folder")?;
        upkeep::start(&config, &store, &clock, &process, &tasks, &stopping);
        tracing::info!(api = %at.api, operations = %at.operations, "node started");
        Ok(Self {
            engine,
            listeners,
            at,
            welcome,
            token,
            config,
            together,
            tasks,
            stopping,
        })
    }

    /// Where the two APIs listen.
    pub const fn api(&self) -> SocketAddr {
        self.at.api
    }

    /// Where health, metrics and operator commands listen.
    pub const fn operations(&self) -> SocketAddr {
        self.at.operations
    }

    /// The operator token in force.
    pub fn operator_token(&self) -> &str {
        &self.token
    }

    /// What the first start on an empty store made: answered once.
    pub fn take_welcome(&mut self) -> Option<Welcome> {
        self.welcome.take()
    }

    /// Waits until an operator asks this node to stop (`POST /drain`).
    pub async fn drain_asked(&self) {
        self.listeners.drain_asked().await;
    }

    /// The engine inside.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Stops in good order: not ready, no more intake, what is in flight finished, store closed.
    ///
    /// # Errors
    /// The store could not be closed; nothing accepted is lost by that.
    pub async fn stop(self) -> Result<DrainReport> {
        let clock = Arc::clone(self.engine.clock());
        let mut time = StopTime {
            began: clock.mono(),
            clock,
            all: self.config.drain_timeout,
            cut: false,
        };
        let report = match &self.together {
            Some(together) => {
                // Other nodes take over first; until then, and until its clients know, this one
                // goes on answering.
                time.cut = together.leave(time.left()).await > 0;
                self.listeners.stop().await;
                let report = self.engine.drain(time.at_most(time.left())).await;
                together.end().await;
                report
            }
            None => {
                let report = self.engine.drain(time.left()).await;
                self.listeners.stop().await;
                report
            }
        };
        self.stopping.cancel();
        self.tasks.close();
        let patience = time.at_most(TASKS_END);
        if timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                tasks = self.tasks.len(),
                "background tasks did not end and are cut off"
            );
        }
        let patience = time.at_most(STORE_CLOSES);
        let closed = timeout(patience, self.engine.store().close()).await;
        Presence::forget(&self.config.data_dir);
        let within = patience.as_secs_f32();
        closed
            .with_context(|| {
                format!(
                    "the store did not close within {within:.1} s; nothing accepted is lost by that"
                )
            })?
            .context("cannot close the store")?;
        tracing::info!(stopped = report.stopped, cut = report.cut, "node stopped");
        Ok(report)
    }
}

/// The time that the steps of a stop have.
struct StopTime {
    clock: Arc<dyn Clock>,
    began: Mono,
    all: Duration,
    /// Not all shards could be given away: what is written of them may not count, or not be written
    /// at all.
    cut: bool,
}

impl StopTime {
    fn left(&self) -> Duration {
        self.all.saturating_sub(self.clock.mono().since(self.began))
    }

    /// How long a step may take that may take so long. When there is nothing to wait for, it has a third
    /// of what is left, so that the steps after it have some too.
    fn at_most(&self, time: Duration) -> Duration {
        if self.cut {
            time.min(self.left() / 3).max(LEAST_STEP)
        } else {
            time
        }
    }
}

async fn start_engine(
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    tasks: &TaskTracker,
    sharing: Sharing,
) -> Result<Engine> {
    let seed = rand::random();
    let simulator = SimulatorFactory::new(Arc::clone(clock), tasks.clone(), seed);
    let ports = Ports {
        store: Arc::clone(store),
        clock: Arc::clone(clock),
        transports: vec![Arc::new(simulator)],
        sharing,
        seed,
    };
    Engine::start(ports)
        .await
        .context("cannot start the engine")
}

/// The token that is configured, else the one in the data folder, else a new one.
fn operator_token(config: &Config) -> Result<String> {
    if let Some(token) = &config.operator_token {
        return Ok(token.clone());
    }
    let path = files::token_path(&config.data_dir);
    let kept = files::read_token(&config.data_dir);
    if let Some(token) = kept.with_context(|| format!("cannot read {}", path.display()))? {
        return Ok(token);
    }
    let token = secret::token();
    let written = files::write_private(&path, &token);
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(token)
}

/// An empty store gets something to begin with, where only this machine can reach it.
async fn first_run(config: &Config, engine: &Engine, api: SocketAddr) -> Result<Option<Welcome>> {
    let shared = config.shared.is_some();
    if config.first_run == FirstRun::Never || shared || !api.ip().is_loopback() {
        return Ok(None);
    }
    let directory = engine.directory();
    let failed = "cannot make the first account";
    let Some(planned) = directory.plan_first_start().await.context(failed)? else {
        return Ok(None);
    };
    let welcome = Welcome::new(planned.clone(), api);
    let path = Welcome::path(&config.data_dir);
    let kept = welcome.keep(&config.data_dir);
    kept.with_context(|| format!("cannot write {}", path.display()))?;
    if directory.make_first_start(&planned).await.context(failed)? {
        return Ok(Some(welcome));
    }
    Welcome::forget(&config.data_dir);
    Ok(None)
}
