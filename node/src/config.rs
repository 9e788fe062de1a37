//! What a node is started with: defaults, then a TOML file, the environment, and flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zajil_api::{ApiConfig, ServerLimits};

pub mod layers;
pub mod schema;
pub mod shared;
pub mod units;

pub use layers::{Fault, Layers, Source};
pub use shared::SharedConfig;

/// The file that is read when no other is named and it exists.
pub const DEFAULT_FILE: &str = "zajil.toml";

/// Whether an empty store gets an account to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstRun {
    /// When the API is bound to loopback.
    Auto,
    /// Never.
    Never,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What the log shows and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A level, or a list of `target=level`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// All that a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Whether an empty store gets an account to begin with.
    pub first_run: FirstRun,
    /// How long a stop waits for messages in flight.
    pub drain_timeout: Duration,
    /// Where the Integration and the Dashboard API listen.
    pub api_listen: SocketAddr,
    /// What the two APIs keep to.
    pub api: ApiConfig,
    /// What bounds the connections of the listeners.
    pub connections: ServerLimits,
    /// Where health, metrics and operator commands listen.
    pub operations_listen: SocketAddr,
    /// The operator token, where it is configured.
    pub operator_token: Option<String>,
    /// How long messages and outcomes are kept.
    pub retention: Duration,
    /// How many bytes have to be free for accepts, where it is configured.
    pub min_free: Option<u64>,
    /// The store that several nodes share, and the others; `None` is a node alone.
    pub shared: Option<SharedConfig>,
    /// What the log shows and how.
    pub log: LogConfig,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} fault(s):{}", .0.len(), listed(.0))]
pub struct Faults(pub Vec<Fault>);

fn listed(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

impl Config {
    /// The settings that `layers` hold.
    ///
    /// # Errors
    /// All that is wrong with them, at once.
    pub fn from_layers(layers: &mut Layers) -> Result<Self, Faults> {
        check_together(layers);
        if !layers.faults().is_empty() {
            return Err(Faults(layers.faults().to_vec()));
        }
        let text = |key| layers.text(key);
        let token = text("operations.token");
        Ok(Self {
            data_dir: PathBuf::from(text("node.data_dir")),
            first_run: match text("node.first_run") {
                "never" => FirstRun::Never,
                _ => FirstRun::Auto,
            },
            drain_timeout: time(layers, "node.drain_timeout"),
            api_listen: address(layers, "api.listen"),
            api: api(layers),
            connections: ServerLimits {
                max_connections: count(layers, "api.max_connections"),
                ..ServerLimits::default()
            },
            operations_listen: address(layers, "operations.listen"),
            operator_token: (!token.is_empty()).then(|| token.to_owned()),
            retention: time(layers, "storage.retention"),
            min_free: units::parse_size(text("storage.min_free")),
            shared: SharedConfig::from_layers(layers),
            log: LogConfig {
                level: text("log.level").to_owned(),
                format: match text("log.format") {
                    "json" => LogFormat::Json,
                    "text" => LogFormat::Text,
                    _ => LogFormat::Auto,
                },
            },
        })
    }

    /// The defaults with another folder and free ports on loopback: what tests start nodes with.
    pub fn in_folder(data_dir: &Path) -> Self {
        let mut layers = Layers::defaults();
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Self::from_layers(&mut layers).expect("the defaults are right");
        Self {
            data_dir: data_dir.to_owned(),
            api_listen: free,
            operations_listen: free,
            ..config
        }
    }
}

/// Checks what one setting alone cannot tell.
fn check_together(layers: &mut Layers) {
    let api = layers.text("api.listen");
    let same = api == layers.text("operations.listen");
    if same && !api.ends_with(":0") {
        layers.refuse(
            "operations.listen",
            "another address than api.listen".to_owned(),
        );
    }
    shared::check(layers);
}

fn api(layers: &Layers) -> ApiConfig {
    let url = layers.text("api.public_url").trim_end_matches('/');
    let held = units::parse_size(layers.text("api.max_body_bytes")).expect("the value was checked");
    ApiConfig {
        operator: None,
        request_timeout: time(layers, "api.request_timeout"),
        max_in_flight: count(layers, "api.max_in_flight"),
        max_body_bytes: usize::try_from(held).unwrap_or(usize::MAX),
        trusted_proxies: schema::networks(layers.text("api.trusted_proxies"))
            .expect("the value was checked"),
        public_url: (!url.is_empty()).then(|| url.to_owned()),
    }
}

fn count(layers: &Layers, key: &'static str) -> usize {
    layers.text(key).parse().expect("the value was checked")
}

fn time(layers: &Layers, key: &'static str) -> Duration {
    units::parse_duration(layers.text(key)).expect("the value was checked")
}

fn address(layers: &Layers, key: &'static str) -> SocketAddr {
    schema::address(layers.text(key)).expect("the value was checked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_node_on_loopback() {
        let config = Config::from_layers(&mut Layers::defaults()).unwrap();

        assert!(config.api_listen.ip().is_loopback());
        assert!(config.operations_listen.ip().is_loopback());
        assert_eq!(config.retention, Duration::from_secs(90 * 86_400));
        assert_eq!(config.operator_token, None);
        assert_eq!(config.min_free, None);
    }

    #[test]
    fn both_listeners_on_one_address_are_refused() {
        let mut layers = Layers::defaults();
        let flag = Source::Flag("--operations-listen");
        layers.set("operations.listen", "127.0.0.1:8080".to_owned(), flag);

        let faults = Config::from_layers(&mut layers).unwrap_err();

        assert!(
            faults
                .to_string()
                .contains("another address than api.listen"),
            "{faults}"
        );
    }
}
