//! What every request passes, and every answer, before and after the router.
//!
//! It bounds how many requests are carried out at once and for how long, names each by its
//! `X-Request-Id`, lets nobody in whom the route does not know, turns a panic into an answer, and
//! counts. It stands before one flat router, not around each route: a layer would be cloned and
//! boxed again with every request.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue, Method};
use tower::Service;

use crate::auth::{self, Door, Gate};
use crate::error::{ApiError, Rejection};
use crate::limit::{self, Place};
use crate::metrics::RouteMetrics;
use crate::state::ApiState;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of the longest `X-Request-Id` that is taken from a client.
const MAX_REQUEST_ID: usize = 64;

/// What the paths of uploads end with: they may take as long as their bytes keep coming.
const UPLOAD: &str = "/recipients";

/// What the paths have in common by which messages are accepted.
const ACCEPTS: &str = "/messages/send";

/// Paths of the operator that take as long as there is data.
const LONG: [&str; 3] = ["/backup", "/restore/release", "/drain"];

/// A router behind its front; clones are the same one.
#[derive(Clone, Debug)]
pub struct Front {
    state: ApiState,
    map: Arc<Map>,
    router: Router,
}

/// What the front knows of a route.
#[derive(Debug)]
struct Route {
    gate: Gate,
    /// How long an answer may take; `None` is without an end.
    patience: Option<Duration>,
    /// Whether it accepts messages, which the engine may have no room for.
    accepts: bool,
    metrics: RouteMetrics,
}

/// The routes, by the path of a request.
#[derive(Debug)]
pub(crate) struct Map {
    routes: matchit::Router<Route>,
    /// What no route matches.
    other: Route,
}

impl Map {
    /// The routes of these paths, each with its gate.
    pub(crate) fn new<'p>(
        state: &ApiState,
        paths: impl IntoIterator<Item = (&'p str, Gate)>,
    ) -> Self {
        let mut routes = matchit::Router::new();
        for (path, gate) in paths {
            let endless = path.ends_with(UPLOAD) || LONG.contains(&path);
            let route = Route {
                gate,
                patience: (!endless).then_some(state.config.request_timeout),
                accepts: path.contains(ACCEPTS),
                metrics: RouteMetrics::new(path),
            };
            routes
                .insert(path, route)
                .expect("the router takes the same paths");
        }
        let other = Route {
            gate: Gate::Open,
            patience: Some(state.config.request_timeout),
            accepts: false,
            metrics: RouteMetrics::other(),
        };
        Self { routes, other }
    }

    fn route(&self, path: &str) -> &Route {
        self.routes
            .at(path)
            .map_or(&self.other, |found| found.value)
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let front = self.clone();
        Box::pin(async move { Ok(front.answer(request).await) })
    }
}

impl Front {
    /// Puts a front before a router, whose routes are those of the map.
    pub(crate) const fn new(state: ApiState, map: Arc<Map>, router: Router) -> Self {
        Self { state, map, router }
    }

    async fn answer(self, request: Request) -> Response {
        let Self { state, map, router } = &self;
        let began = state.engine.clock().mono();
        let route = map.route(request.uri().path());
        let id = request_id(&request);
        let method = request.method().clone();
        let response = match self.room_for(route) {
            Ok(_place) => {
                let _counted = Counted::new(state);
                let door = Door {
                    gate: route.gate,
                    accepts: route.accepts,
                };
                let inner = auth::pass(state, door, request, router.clone());
                carry_out(inner, &method, route.patience).await
            }
            Err(refusal) => {
                limit::discard(request.into_body()).await;
                refusal.into_response()
            }
        };
        if is_of_overload(&response) {
            state
                .refusals
                .keep_back(state.engine.clock().as_ref())
                .await;
        }
        if let Some(code) = refused_as(&response) {
            state.metrics.refused(code);
        }
        let took = state.engine.clock().mono().since(began);
        route.metrics.answered(&method, response.status(), took);
        let mut response = named(response, id);
        if state.engine.is_leaving() {
            // Whoever keeps a connection would send its next request into its end.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

impl Front {
    /// A place for a request, before anything is spent on it.
    fn room_for(&self, route: &Route) -> Result<Place, ApiError> {
        if route.accepts {
            self.state.engine.may_accept(None)?;
            if !self
                .state
                .refusals
                .lets_in(self.state.engine.clock().mono())
            {
                return Err(ApiError::unavailable("too many requests are waiting"));
            }
        }
        let place = self.state.in_flight.enter();
        place.ok_or_else(|| ApiError::unavailable("too many requests are being carried out"))
    }
}

/// Whether a request was refused because there are too many.
fn is_of_overload(response: &Response) -> bool {
    matches!(refused_as(response), Some("unavailable" | "rate_limited"))
}

/// Counts a request, and its end also when its client left.
struct Counted<'s>(&'s ApiState);

impl<'s> Counted<'s> {
    fn new(state: &'s ApiState) -> Self {
        state.metrics.began();
        Self(state)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.metrics.ended();
    }
}

/// Waits for the answer, within the time that a request has; `None` is without an end.
async fn carry_out(
    inner: impl Future<Output = Response>,
    method: &Method,
    patience: Option<Duration>,
) -> Response {
    let caught = AssertUnwindSafe(inner).catch_unwind();
    let ended = match patience {
        None => caught.await,
        Some(patience) => match tokio::time::timeout(patience, caught).await {
            Ok(ended) => ended,
            Err(_) if *method == Method::GET => {
                return ApiError::unavailable("it took too long").into_response();
            }
            Err(_) => return ApiError::OutcomeUnknown.into_response(),
        },
    };
    match ended {
        // A read that failed has not done anything, whatever the store says of its outcome.
        Ok(response)
            if *method == Method::GET && refused_as(&response) == Some("outcome_unknown") =>
        {
            ApiError::unavailable("the store failed").into_response()
        }
        Ok(response) => response,
        Err(panic) => {
            let reason = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            tracing::error!(reason, "a handler panicked");
            ApiError::Internal.into_response()
        }
    }
}

fn refused_as(response: &Response) -> Option<&'static str> {
    response
        .extensions()
        .get::<Rejection>()
        .map(|Rejection(code)| *code)
}

fn named(mut response: Response, id: HeaderValue) -> Response {
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The client's own name for the request if it is safe to repeat, else a new one.
fn request_id(request: &Request) -> HeaderValue {
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    if let Some(id) = request.headers().get(REQUEST_ID)
        && (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.as_bytes().iter().all(safe)
    {
        return id.clone();
    }
    let made = format!("{:016x}", rand::random::<u64>());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(made))
        .unwrap_or(HeaderValue::from_static("unnamed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    async fn code(
        inner: impl Future<Output = Response>,
        method: Method,
    ) -> (u16, Option<&'static str>) {
        let response = carry_out(inner, &method, SECOND).await;
        (response.status().as_u16(), refused_as(&response))
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_not_passed_on() {
        let panics = async { panic!("a fault of ours") };

        assert_eq!(code(panics, Method::POST).await, (500, Some("internal")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_may_have_been_done_unless_it_only_reads() {
        let never = std::future::pending;

        assert_eq!(
            code(never(), Method::POST).await,
            (503, Some("outcome_unknown"))
        );
        assert_eq!(code(never(), Method::GET).await, (503, Some("unavailable")));
    }

    #[tokio::test]
    async fn a_read_that_failed_has_done_nothing() {
        let failed = || async { ApiError::OutcomeUnknown.into_response() };

        assert_eq!(
            code(failed(), Method::GET).await,
            (503, Some("unavailable"))
        );
        assert_eq!(
            code(failed(), Method::POST).await,
            (503, Some("outcome_unknown"))
        );
    }
}
