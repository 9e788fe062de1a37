//! The outermost layer: every request passes here, and every answer.
//!
//! It bounds how many requests are carried out at once and for how long, names each by its
//! `X-Request-Id`, turns a panic into an answer, and counts.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method};
use tower::{Layer, Service};

use crate::error::{ApiError, Rejection};
use crate::state::ApiState;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of the longest `X-Request-Id` that is taken from a client.
const MAX_REQUEST_ID: usize = 64;

/// What the paths of uploads end with: they may take as long as their bytes keep coming.
const UPLOAD: &str = "/recipients";

/// Puts [`Front`] before a service.
#[derive(Clone, Debug)]
pub(crate) struct FrontLayer(pub(crate) ApiState);

impl<S> Layer<S> for FrontLayer {
    type Service = Front<S>;

    fn layer(&self, inner: S) -> Front<S> {
        Front {
            inner,
            state: self.0.clone(),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Front<S> {
    inner: S,
    state: ApiState,
}

impl<S> Service<Request> for Front<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let state = self.state.clone();
        let began = state.engine.clock().mono();
        let matched = request
            .extensions()
            .get::<MatchedPath>()
            .map(MatchedPath::as_str);
        let route = state.metrics.route(matched);
        let endless = matched.is_some_and(|path| path.ends_with(UPLOAD));
        let id = request_id(&request);
        let method = request.method().clone();
        let Some(place) = state.in_flight.enter() else {
            let refusal = ApiError::unavailable("too many requests are being carried out");
            return Box::pin(async move {
                let response = named(refusal.into_response(), id);
                state.metrics.refused("unavailable");
                let took = state.engine.clock().mono().since(began);
                route.answered(&method, response.status(), took);
                Ok(response)
            });
        };
        state.metrics.began();
        let inner = self.inner.call(request);
        Box::pin(async move {
            let _counted = Counted(&state);
            let patience = (!endless).then_some(state.config.request_timeout);
            let response = carry_out(inner, &method, patience).await;
            drop(place);
            if let Some(code) = refused_as(&response) {
                state.metrics.refused(code);
            }
            let took = state.engine.clock().mono().since(began);
            route.answered(&method, response.status(), took);
            Ok(named(response, id))
        })
    }
}

/// Counts the end of a request, also of one whose client left.
struct Counted<'s>(&'s ApiState);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.metrics.ended();
    }
}

/// Waits for the answer, within the time that a request has; `None` is without an end.
async fn carry_out(
    inner: impl Future<Output = Result<Response, Infallible>>,
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
        Ok(Ok(response))
            if *method == Method::GET && refused_as(&response) == Some("outcome_unknown") =>
        {
            ApiError::unavailable("the store failed").into_response()
        }
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
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
    HeaderValue::try_from(made).unwrap_or(HeaderValue::from_static("unnamed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    async fn code(
        inner: impl Future<Output = Result<Response, Infallible>>,
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
        let failed = || async { Ok(ApiError::OutcomeUnknown.into_response()) };

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
