//! Who is calling: an API key, a signed-in user, or the operator; and what they may do.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use tower::Service;
use zajil_actors::directory::{ApiKey, AuditLine, AuthError, Permission, SignedIn};
use zajil_actors::key_bucket::{Quota, Unavailable};
use zajil_model::id::{AccountId, InstanceId};

use crate::error::ApiError;
use crate::limit;
use crate::state::ApiState;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The header by which the operator names an account, by its id or name.
const ACCOUNT: HeaderName = HeaderName::from_static("x-account");

/// Who is calling, for one account.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The account that they act for.
    pub(crate) account: AccountId,
    /// How they showed who they are.
    pub(crate) who: Who,
    /// Where they call from.
    pub(crate) address: IpAddr,
}

/// How a caller showed who they are.
#[derive(Debug)]
pub(crate) enum Who {
    /// By an API key; the quota is what its bucket answered.
    Key(Arc<ApiKey>, Quota),
    /// By the token of a session.
    User(SignedIn, String),
    /// By the operator's token.
    Operator,
}

impl Caller {
    /// Whether they may do one of these; an empty list is for everybody.
    fn may(&self, any_of: &[Permission]) -> bool {
        match &self.who {
            Who::Key(key, _) => any_of.is_empty() || any_of.iter().any(|one| key.may(*one)),
            Who::User(..) | Who::Operator => true,
        }
    }

    /// Whether they may use an instance.
    pub(crate) fn may_use(&self, instance: InstanceId) -> bool {
        match &self.who {
            Who::Key(key, _) => key.may_use(instance),
            Who::User(..) | Who::Operator => true,
        }
    }

    /// Whether they are kept to some instances of the account.
    pub(crate) fn is_restricted(&self) -> bool {
        matches!(&self.who, Who::Key(key, _) if !key.allowed_instances.is_empty())
    }

    /// Where a suppression comes from that they make.
    pub(crate) const fn source(&self) -> &'static str {
        match self.who {
            Who::Key(..) => "api",
            Who::User(..) => "dashboard",
            Who::Operator => "operator",
        }
    }

    fn actor(&self) -> String {
        match &self.who {
            Who::Key(key, _) => format!("key:{}", key.id),
            Who::User(signed_in, _) => format!("user:{}", signed_in.user.id),
            Who::Operator => "operator".to_owned(),
        }
    }

    /// Writes down what they did. What was done stays done when this fails, so it is only logged.
    pub(crate) async fn audit(
        &self,
        api: &ApiState,
        action: &str,
        subject: impl ToString,
        detail: Option<String>,
    ) {
        let line = AuditLine {
            at: api.now(),
            actor: self.actor(),
            action: action.to_owned(),
            subject: subject.to_string(),
            address: Some(self.address),
            detail,
        };
        if let Err(error) = api.engine.directory().audit(self.account, line).await {
            tracing::error!(%error, action, "cannot write an audit line");
        }
    }
}

/// What a route is allowed to.
pub(crate) trait Grant: Send + Sync + 'static {
    /// One of these is needed; empty is any key.
    const ANY_OF: &'static [Permission];
}

/// Any key.
#[derive(Debug)]
pub(crate) struct AnyKey;
/// Sending.
#[derive(Debug)]
pub(crate) struct SendMessage;
/// Reading.
#[derive(Debug)]
pub(crate) struct ReadMessages;
/// The status of one message: whoever may send may ask.
#[derive(Debug)]
pub(crate) struct SendOrRead;
/// Instances.
#[derive(Debug)]
pub(crate) struct ManageInstances;
/// Contacts and suppressions.
#[derive(Debug)]
pub(crate) struct ManageContacts;
/// Templates.
#[derive(Debug)]
pub(crate) struct ManageTemplates;

impl Grant for AnyKey {
    const ANY_OF: &'static [Permission] = &[];
}
impl Grant for SendMessage {
    const ANY_OF: &'static [Permission] = &[Permission::SendMessage];
}
impl Grant for ReadMessages {
    const ANY_OF: &'static [Permission] = &[Permission::ReadMessages];
}
impl Grant for SendOrRead {
    const ANY_OF: &'static [Permission] = &[Permission::SendMessage, Permission::ReadMessages];
}
impl Grant for ManageInstances {
    const ANY_OF: &'static [Permission] = &[Permission::ManageInstances];
}
impl Grant for ManageContacts {
    const ANY_OF: &'static [Permission] = &[Permission::ManageContacts];
}
impl Grant for ManageTemplates {
    const ANY_OF: &'static [Permission] = &[Permission::ManageTemplates];
}

/// A caller who may use the route.
#[derive(Debug)]
pub(crate) struct May<G>(pub(crate) Arc<Caller>, PhantomData<G>);

impl<G> std::ops::Deref for May<G> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

impl<G: Grant> FromRequestParts<ApiState> for May<G> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        let caller = parts
            .extensions
            .get::<Arc<Caller>>()
            .ok_or(ApiError::InvalidKey)?;
        if caller.may(G::ANY_OF) {
            return Ok(Self(Arc::clone(caller), PhantomData));
        }
        let needed = G::ANY_OF
            .first()
            .map_or("", |permission| permission.label());
        Err(ApiError::MissingPermission(needed))
    }
}

/// Whom a route lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Everybody.
    Open,
    /// Who shows an API key.
    Key,
    /// Who shows the token of a session, or the operator's.
    Token,
}

/// How a route is entered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    /// Whom it lets in.
    pub(crate) gate: Gate,
    /// Whether it accepts messages, which the engine may have no room for.
    pub(crate) accepts: bool,
}

/// Lets a request through a door: its handler finds the [`Caller`] beside it.
pub(crate) async fn pass(
    state: &ApiState,
    door: Door,
    request: Request,
    router: Router,
) -> Response {
    match door.gate {
        Gate::Open => hand_over(request, router).await,
        Gate::Key => with_key(state, door, request, router).await,
        Gate::Token => with_token(state, request, router).await,
    }
}

async fn hand_over(request: Request, mut router: Router) -> Response {
    let Ok(response) = router.call(request).await;
    response
}

/// Counts the request in the window of its key; the answer says how much is left.
async fn with_key(state: &ApiState, door: Door, mut request: Request, router: Router) -> Response {
    let address = state.address(request.extensions(), request.headers());
    let key = match recognise(state, request.headers(), address).await {
        Ok(key) => key,
        Err(AuthError::AddressNotAllowed(key)) => {
            let refusal = ApiError::IpNotAllowed.into_response();
            // Whoever found a key must not be able to use its window up.
            return match state.engine.buckets().peek(&key).await {
                Ok(quota) => told(refusal, &quota),
                Err(_) => refusal,
            };
        }
        Err(error) => return refused(state, address, error.into()),
    };
    let quota = match state.engine.buckets().take(&key).await {
        Ok(quota) => quota,
        Err(error) => return ApiError::from(error).into_response(),
    };
    if !quota.allowed {
        let wait = quota.reset.since(state.now()).as_secs() + 1;
        return told(ApiError::RateLimited(wait).into_response(), &quota);
    }
    if door.accepts
        && let Err(error) = state.engine.may_accept(Some(key.account))
    {
        // Before its body is looked at.
        limit::discard(request.into_body()).await;
        return told(ApiError::from(error).into_response(), &quota);
    }
    let caller = Caller {
        account: key.account,
        who: Who::Key(key, quota),
        address,
    };
    request.extensions_mut().insert(Arc::new(caller));
    told(hand_over(request, router).await, &quota)
}

async fn with_token(state: &ApiState, mut request: Request, router: Router) -> Response {
    let address = state.address(request.extensions(), request.headers());
    match by_token(state, request.headers(), address).await {
        Ok(caller) => {
            request.extensions_mut().insert(Arc::new(caller));
            hand_over(request, router).await
        }
        Err(error) => refused(state, address, error),
    }
}

/// Answers somebody who is not let in; who tries too often is told to wait.
fn refused(state: &ApiState, address: IpAddr, error: ApiError) -> Response {
    match error {
        ApiError::InvalidKey | ApiError::InvalidSession => {
            state.bad_attempts.count(address, error).into_response()
        }
        error => error.into_response(),
    }
}

fn told(mut response: Response, quota: &Quota) -> Response {
    let headers = response.headers_mut();
    headers.insert(LIMIT, HeaderValue::from(quota.limit));
    headers.insert(REMAINING, HeaderValue::from(quota.remaining));
    headers.insert(RESET, HeaderValue::from(quota.reset.as_seconds()));
    response
}

async fn recognise(
    state: &ApiState,
    headers: &HeaderMap,
    address: IpAddr,
) -> Result<Arc<ApiKey>, AuthError> {
    let text = headers
        .get(API_KEY)
        .and_then(|key| key.to_str().ok())
        .ok_or(AuthError::Invalid)?;
    let directory = state.engine.directory();
    directory.authenticate(text, address, state.now()).await
}

async fn by_token(
    state: &ApiState,
    headers: &HeaderMap,
    address: IpAddr,
) -> Result<Caller, ApiError> {
    let token = bearer(headers).ok_or(ApiError::InvalidSession)?;
    if state
        .config
        .operator
        .as_ref()
        .is_some_and(|operator| operator.is(token))
    {
        let account = named_account(state, headers).await?;
        return Ok(Caller {
            account,
            who: Who::Operator,
            address,
        });
    }
    let signed_in = state
        .engine
        .directory()
        .session(token)
        .await?
        .ok_or(ApiError::InvalidSession)?;
    let account = signed_in.user.account;
    Ok(Caller {
        account,
        who: Who::User(signed_in, token.to_owned()),
        address,
    })
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// The account that the operator acts for: the one named by id or name, or the only one.
async fn named_account(state: &ApiState, headers: &HeaderMap) -> Result<AccountId, ApiError> {
    let named = headers.get(ACCOUNT).and_then(|value| value.to_str().ok());
    Ok(crate::operations::account_of(state, named, "X-Account")
        .await?
        .id)
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid => Self::InvalidKey,
            AuthError::AddressNotAllowed(_) => Self::IpNotAllowed,
            AuthError::Store(error) => Self::unavailable(format!("keys cannot be read ({error})")),
        }
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        match error {
            Unavailable::Overloaded => Self::unavailable("the window of the key is overloaded"),
            Unavailable::Moved => {
                Self::unavailable("the window of the key is moving to another node")
            }
            Unavailable::Stopping => Self::unavailable("the node is stopping"),
            Unavailable::Store(_) => Self::unavailable("the window of the key cannot be written"),
        }
    }
}
