//! How the parts of a node are put together, one function for each crate.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_actors::engine::Engine;
use zajil_api::{ApiConfig, ApiState, OperatorToken, OpsState, ServerReport};
use zajil_model::time::Clock;
use zajil_storage::Store;
use zajil_storage::cql::Credentials;
use zajil_storage::embedded::{EmbeddedConfig, EmbeddedStore};
use zajil_storage::{CqlConfig, CqlStore};

use crate::config::{Config, SharedConfig};
use crate::files;
use crate::node::Process;

/// Opens the store: the shared one where there is one, else the embedded one in the data folder.
///
/// # Errors
/// See [`open_embedded`]; or the database cannot be reached, or is not what it should be.
pub async fn open_store(
    config: &Config,
    clock: &Arc<dyn Clock>,
    process: &Process,
) -> Result<Arc<dyn Store>> {
    let Some(shared) = &config.shared else {
        return open_embedded(config, clock, process).await;
    };
    let cql = database(config, shared, clock);
    let opened = tokio::task::spawn_blocking(move || CqlStore::open(cql)).await;
    Ok(Arc::new(
        opened
            .context("opening the store panicked")?
            .context("cannot open the store")?,
    ))
}

/// The store that several nodes share, as the settings say.
pub fn database(config: &Config, shared: &SharedConfig, clock: &Arc<dyn Clock>) -> CqlConfig {
    let (points, keyspace) = (shared.contact_points.clone(), shared.keyspace.clone());
    let credentials = shared.login.clone();
    CqlConfig {
        replication: shared.replication,
        datacenter: shared.datacenter.clone(),
        credentials: credentials.map(|(user, password)| Credentials { user, password }),
        retention: config.retention,
        ..CqlConfig::new(points, keyspace, Arc::clone(clock))
    }
}

/// Opens the embedded store in the data folder.
///
/// # Errors
/// The folder cannot be made, is in use by another node, or holds what cannot be read.
async fn open_embedded(
    config: &Config,
    clock: &Arc<dyn Clock>,
    process: &Process,
) -> Result<Arc<dyn Store>> {
    let folder = &config.data_dir;
    let made = files::make_data_dir(folder);
    made.with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    let on_fatal = Arc::clone(&process.on_store_failed);
    let config = EmbeddedConfig {
        min_free: config.min_free,
        ..EmbeddedConfig::new(&config.data_dir, Arc::clone(clock), on_fatal)
    };
    let config = (process.adjust_store)(config);
    // Reading the log again may take seconds of disk and processor.
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(config)).await;
    Ok(Arc::new(
        opened
            .context("opening the store panicked")?
            .context("cannot open the store")?,
    ))
}

/// Addresses that are ours, and not served yet.
#[derive(Debug)]
pub struct Bound {
    api: TcpListener,
    operations: TcpListener,
    addresses: Addresses,
}

/// Where the listeners really are, port 0 made out.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The two APIs.
    pub api: SocketAddr,
    /// Health, metrics and operator commands.
    pub operations: SocketAddr,
}

impl Bound {
    /// Takes both addresses.
    ///
    /// # Errors
    /// One is in use, or not of this machine.
    pub async fn bind(config: &Config) -> Result<Self> {
        let api = bind(config.api_listen, "api.listen").await?;
        let operations = bind(config.operations_listen, "operations.listen").await?;
        let addresses = Addresses {
            api: api.local_addr()?,
            operations: operations.local_addr()?,
        };
        Ok(Self {
            api,
            operations,
            addresses,
        })
    }

    /// Where they really are.
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves both.
    pub fn serve(
        self,
        config: &Config,
        engine: &Engine,
        token: OperatorToken,
        process: &Process,
        tasks: &TaskTracker,
    ) -> Listeners {
        let stop = CancellationToken::new();
        let api = ApiConfig {
            operator: Some(token),
            ..config.api.clone()
        };
        let state = ApiState::new(engine.clone(), api);
        let drain_asked = CancellationToken::new();
        let operations = OpsState::new(state.clone(), process.metrics.clone(), drain_asked.clone());
        let serve = |listener, router| {
            let limits = config.connections.clone();
            let stopped = stop.clone().cancelled_owned();
            tasks.spawn(zajil_api::serve(listener, router, limits, stopped))
        };
        let servers = vec![
            serve(self.api, zajil_api::integration_router(state)),
            serve(self.operations, zajil_api::operations_router(operations)),
        ];
        Listeners {
            servers,
            stop,
            drain_asked,
        }
    }
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address} ({key}); is a node running already?"))
}

/// Both listeners at work.
#[derive(Debug)]
pub struct Listeners {
    servers: Vec<JoinHandle<ServerReport>>,
    stop: CancellationToken,
    drain_asked: CancellationToken,
}

impl Listeners {
    /// Waits until an operator asks for a drain.
    pub async fn drain_asked(&self) {
        self.drain_asked.cancelled().await;
    }

    /// Takes no more connections, and waits for the requests under way.
    pub async fn stop(self) {
        self.stop.cancel();
        for server in self.servers {
            match server.await {
                Ok(ServerReport { cut: 0 }) => {}
                Ok(ServerReport { cut }) => tracing::warn!(cut, "requests were cut off"),
                Err(error) => tracing::error!(%error, "a listener failed"),
            }
        }
    }
}
