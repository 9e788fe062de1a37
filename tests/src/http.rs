//! A plain HTTP client that tells apart what never left and what may have arrived.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// How long an answer may take. The engine gives up on a request of its own accord long before.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a request carries.
#[derive(Clone, Debug)]
pub struct Sending {
    /// Headers beside the content type.
    pub headers: Vec<(String, String)>,
    /// The content type and the bytes, if there is a body.
    pub body: Option<(&'static str, Bytes)>,
    /// How long its answer may take.
    pub patience: Duration,
}

impl Sending {
    /// No body.
    pub const fn nothing() -> Self {
        Self {
            headers: Vec::new(),
            body: None,
            patience: PATIENCE,
        }
    }

    /// A JSON document.
    pub fn json(document: &Value) -> Self {
        Self::bytes("application/json", document.to_string())
    }

    /// Bytes of any type.
    pub fn bytes(content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self {
            body: Some((content_type, bytes.into())),
            ..Self::nothing()
        }
    }

    /// Something large, whose answer may take this long.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection came about: certainly nothing was done.
    #[error("the request never left: {0}")]
    NeverLeft(String),
    /// The connection broke, or no answer came in time: anything may have been done.
    #[error("the answer was lost: {0}")]
    Lost(String),
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Whether the status is 2xx.
    pub const fn is_good(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The `data` of the body.
    pub fn data(&self) -> Value {
        self.json()["data"].take()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `error_code` of the body.
    pub fn error_code(&self) -> String {
        self.json()["error_code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header as a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.header(name)?.parse().ok()
    }

    /// This answer, if its status is the expected one.
    ///
    /// # Panics
    /// It is another.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// Sends requests; clones share their connections.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// A client with no connections yet.
    pub fn new() -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// There is no answer; [`Failure`] says whether the request can have arrived.
    ///
    /// # Panics
    /// The URL or a header is not well-formed.
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        sending: Sending,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in &sending.headers {
            request = request.header(name, value);
        }
        let body = match sending.body {
            None => Bytes::new(),
            Some((content_type, bytes)) => {
                request = request.header(CONTENT_TYPE, content_type);
                bytes
            }
        };
        let request = request
            .body(Full::new(body))
            .expect("the URL and headers are well-formed");
        let patience = sending.patience;
        match tokio::time::timeout(patience, self.exchange(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(Failure::Lost(format!("no answer in {patience:?}"))),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let response = self.client.request(request).await.map_err(|error| {
            let told = format!("{error}: {:?}", std::error::Error::source(&error));
            if error.is_connect() {
                Failure::NeverLeft(told)
            } else {
                Failure::Lost(told)
            }
        })?;
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| Failure::Lost(error.to_string()))?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}
