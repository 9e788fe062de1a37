//! What every handler can ask: the engine, the settings, the bounds.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::sync::Arc;

use http::Extensions;
use http::HeaderMap;
use zajil_actors::engine::Engine;
use zajil_model::time::Timestamp;

use crate::config::ApiConfig;
use crate::limit::{BadAttempts, BodyBudget, InFlight, KeptBack};
use crate::metrics::HttpMetrics;

/// What the handlers of both APIs share; clones are the same one.
#[derive(Clone, Debug)]
pub struct ApiState(Arc<Shared>);

/// The parts of [`ApiState`].
#[derive(Debug)]
pub struct Shared {
    pub(crate) engine: Engine,
    pub(crate) config: ApiConfig,
    pub(crate) metrics: HttpMetrics,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) bodies: BodyBudget,
    pub(crate) bad_attempts: BadAttempts,
    pub(crate) refusals: KeptBack,
}

impl ApiState {
    /// The state over an engine. The metrics recorder has to be installed before.
    pub fn new(engine: Engine, config: ApiConfig) -> Self {
        Self(Arc::new(Shared {
            engine,
            metrics: HttpMetrics::new(),
            in_flight: InFlight::new(config.max_in_flight),
            bodies: BodyBudget::new(config.max_body_bytes),
            bad_attempts: BadAttempts::new(),
            refusals: KeptBack::default(),
            config,
        }))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.engine.clock().now()
    }

    /// The caller's address: the peer's, or the one that a trusted proxy names.
    pub(crate) fn address(&self, extensions: &Extensions, headers: &HeaderMap) -> IpAddr {
        let peer = extensions
            .get::<Peer>()
            .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.0);
        let trusted = |address: IpAddr| {
            self.config
                .trusted_proxies
                .iter()
                .any(|range| range.holds(address))
        };
        if !trusted(peer) {
            return peer;
        }
        // Each proxy adds the address it saw at the end: the last one that is no proxy of ours is
        // the caller; what stands before it is the caller's own claim.
        let mut named = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|address| address.trim().parse::<IpAddr>().ok());
        named.rfind(|address| !trusted(*address)).unwrap_or(peer)
    }
}

impl Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The address at the other end of the connection, as the server puts it beside each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);
