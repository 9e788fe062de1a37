//! The settings of the HTTP edge, with what they are when nobody says otherwise.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};
use zajil_actors::directory::AddressRange;

/// Settings of the two APIs.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// The operator's token, which passes on the Dashboard API; `None` lets nobody in by it.
    pub operator: Option<OperatorToken>,
    /// A request that is not answered after this is given up. It has to exceed the time that the
    /// largest body may take and the time that an accept may take.
    pub request_timeout: Duration,
    /// Requests that are carried out at once; one more is answered 503. Each may hold a body.
    pub max_in_flight: usize,
    /// Bytes of large bodies held at once; one more is answered 503.
    pub max_body_bytes: usize,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// The address that clients know, like `https://api.example.com`, for the links of pages;
    /// `None` takes it from the `Host` of the request.
    pub public_url: Option<String>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            operator: None,
            request_timeout: Duration::from_secs(60),
            max_in_flight: 4_096,
            max_body_bytes: 256 << 20,
            trusted_proxies: Vec::new(),
            public_url: None,
        }
    }
}

/// What bounds the connections of a listener.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Connections at once; one more is told 503 and closed. A connection takes about 20 KiB.
    pub max_connections: usize,
    /// A request's head has to arrive within this, from its first byte; the first one of a
    /// connection from its opening.
    pub header_timeout: Duration,
    /// A connection on which no other request begins for this long is closed. Longer than the
    /// pools of clients rest between two uses, so that they seldom meet a closed one.
    pub idle_timeout: Duration,
    /// A client that takes nothing of its answer for this long is cut off.
    pub write_timeout: Duration,
    /// Requests that are under way when the server stops have this long to end.
    pub shutdown_deadline: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            shutdown_deadline: Duration::from_secs(20),
        }
    }
}

/// The operator's token. Only its hash is kept; comparing hashes tells nothing by its time.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorToken([u8; 32]);

impl OperatorToken {
    /// The token of that text.
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Whether a caller's text is this token.
    pub(crate) fn is(&self, text: &str) -> bool {
        Self::new(text) == *self
    }
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorToken(…)")
    }
}
