//! A request as handlers take it: where it was called, its body, its `Idempotency-Key`.

use std::future::Future;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRef, FromRequestParts, Path, Request};
use axum::response::{IntoResponse, Response};
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use zajil_actors::idempotency::{Begin, IdempotencyError, Scope, Ticket};

use crate::auth::Caller;
use crate::body::{self, Received};
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::state::ApiState;
use crate::validate::{Form, Report};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Characters of the longest `Idempotency-Key`.
const MAX_IDEMPOTENCY_KEY: usize = 255;

/// Where a route was called, as the client wrote it.
#[derive(Debug, Clone)]
pub(crate) struct Called {
    origin: Option<String>,
    uri: Uri,
}

impl Called {
    /// A URI below an origin such as `https://api.example.com`.
    pub(crate) fn new(origin: Option<String>, uri: &Uri) -> Self {
        Self {
            origin,
            uri: uri.clone(),
        }
    }

    /// The URI.
    pub(crate) const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The URL without its query.
    pub(crate) fn base(&self) -> String {
        format!(
            "{}{}",
            self.origin.as_deref().unwrap_or_default(),
            self.uri.path()
        )
    }

    /// The same URL for another page: other members of the query stay, the cursor goes.
    pub(crate) fn url_with_page(&self, page: u64) -> String {
        let mut url = self.base();
        url.push('?');
        for pair in self.uri.query().unwrap_or_default().split('&') {
            let name = pair.split('=').next().unwrap_or_default();
            if !name.is_empty() && name != "page" && name != "cursor" {
                url.push_str(pair);
                url.push('&');
            }
        }
        url.push_str("page=");
        url.push_str(&page.to_string());
        url
    }
}

impl<S> FromRequestParts<S> for Called
where
    S: Sync,
    ApiState: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let api = ApiState::from_ref(state);
        let origin = api.config.public_url.clone().or_else(|| {
            let host = parts.headers.get(HOST)?.to_str().ok()?;
            let forwarded = parts
                .headers
                .get("x-forwarded-proto")
                .and_then(|it| it.to_str().ok());
            let scheme = if forwarded == Some("https") {
                "https"
            } else {
                "http"
            };
            Some(format!("{scheme}://{host}"))
        });
        Ok(Self::new(origin, &parts.uri))
    }
}

/// The one segment of a path that names something. What cannot be read names nothing.
#[derive(Debug)]
pub(crate) struct Segment(pub(crate) String);

impl FromRequestParts<ApiState> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        path.map(|Path(text)| Self(text))
            .map_err(|_| ApiError::NotFound)
    }
}

/// A request that changes something: its body, and what makes it repeatable.
#[derive(Debug)]
pub(crate) struct Post {
    method: http::Method,
    path: String,
    key: Option<String>,
    /// The body.
    pub(crate) body: Received,
}

/// What a request with an `Idempotency-Key` meets.
pub(crate) enum Turn {
    /// It is to be carried out; the ticket is there if it had a key.
    Fresh(Option<Ticket>),
    /// It was carried out before: this was the answer.
    Again(Response),
}

impl Post {
    /// Reads a request with a JSON body of at most `limit` bytes.
    pub(crate) async fn json(
        api: &ApiState,
        request: Request,
        limit: usize,
    ) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let key = idempotency_key(&parts.headers)?;
        let body = body::json(&parts.headers, body, limit, &api.bodies).await?;
        Ok(Self::from_parts(&parts, key, body))
    }

    /// Reads a request whose body says nothing.
    pub(crate) async fn bare(api: &ApiState, request: Request) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let key = idempotency_key(&parts.headers)?;
        let body = body::whole(&parts.headers, body, body::MAX_BODY, &api.bodies).await?;
        Ok(Self::from_parts(&parts, key, body))
    }

    fn from_parts(parts: &Parts, key: Option<String>, body: Received) -> Self {
        let path = if key.is_some() {
            parts.uri.path().to_owned()
        } else {
            String::new()
        };
        Self {
            method: parts.method.clone(),
            path,
            key,
            body,
        }
    }

    /// Reads the body as an object.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&mut Form<'_, '_>) -> T,
    ) -> Result<(T, Report), ApiError> {
        crate::validate::body(&self.body, read)
    }

    /// Whether it is this request's turn, or it was carried out before.
    pub(crate) async fn turn(&self, api: &ApiState, caller: &Caller) -> Result<Turn, ApiError> {
        let Some(key) = &self.key else {
            return Ok(Turn::Fresh(None));
        };
        let scope = Scope {
            account: caller.account,
            method: self.method.as_str(),
            path: &self.path,
            key,
        };
        match api.engine.idempotency().begin(scope, &self.body).await? {
            Begin::Fresh(ticket) => Ok(Turn::Fresh(Some(ticket))),
            Begin::Replay { status, body } => Ok(Turn::Again(replay(status, body))),
            Begin::InFlight => Err(ApiError::IdempotencyInFlight),
            Begin::Mismatch => Err(ApiError::IdempotencyMismatch),
        }
    }

    /// Carries something out once, however often it is asked with the same key.
    pub(crate) async fn once(
        &self,
        api: &ApiState,
        caller: &Caller,
        work: impl Future<Output = Answer>,
    ) -> Answer {
        let ticket = match self.turn(api, caller).await? {
            Turn::Again(response) => return Ok(response),
            Turn::Fresh(None) => return work.await,
            Turn::Fresh(Some(ticket)) => ticket,
        };
        let response = match work.await {
            Ok(response) => response,
            Err(error) => {
                // What may have been done keeps its key until the engine knows.
                if !matches!(error, ApiError::OutcomeUnknown) {
                    given_back(ticket).await;
                }
                return Err(error);
            }
        };
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX)
            .await
            .map_err(|_| ApiError::Internal)?;
        kept(ticket, parts.status, &bytes).await;
        Ok(Response::from_parts(parts, Body::from(bytes)))
    }
}

/// Gives a key back whose request did nothing.
pub(crate) async fn given_back(ticket: Ticket) {
    if let Err(error) = ticket.abandon().await {
        tracing::warn!(%error, "cannot give an idempotency key back");
    }
}

/// Keeps the answer of a request that was carried out. It stays carried out when this fails, so
/// its client gets the answer all the same.
pub(crate) async fn kept(ticket: Ticket, status: StatusCode, body: &[u8]) {
    if let Err(error) = ticket.finish(status.as_u16(), body).await {
        tracing::warn!(%error, "cannot keep the answer of an idempotency key");
    }
}

fn replay(status: u16, body: Vec<u8>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = envelope::raw_json(status, body);
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    response.into_response()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let is_good = (1..=MAX_IDEMPOTENCY_KEY).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_graphic());
    match value.to_str() {
        Ok(text) if is_good => Ok(Some(text.to_owned())),
        _ => Err(ApiError::Malformed(
            "The Idempotency-Key must be 1 to 255 visible ASCII characters.".to_owned(),
        )),
    }
}

impl From<IdempotencyError> for ApiError {
    fn from(error: IdempotencyError) -> Self {
        match error {
            IdempotencyError::Overloaded => {
                Self::unavailable("too many requests with idempotency keys are in flight")
            }
            IdempotencyError::Lost => Self::IdempotencyInFlight,
            IdempotencyError::Store(error) => {
                Self::unavailable(format!("the idempotency key cannot be kept ({error})"))
            }
            IdempotencyError::Owner(error) => Self::unavailable(format!(
                "what became of the first request is not known yet ({error})"
            )),
        }
    }
}
