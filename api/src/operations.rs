//! What operators and their machines ask, on an address of its own: health, metrics, upkeep.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRef, FromRequestParts, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use zajil_actors::directory::Account;

use crate::auth::{Gate, bearer};
use crate::body::MAX_BODY;
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::front::{Front, Map};
use crate::integration::draft;
use crate::request::{Called, Post};
use crate::stamp::Stamp;
use crate::state::ApiState;
use crate::validate::{self, field};

mod cluster;
mod figures;
mod readiness;

use readiness::Readiness;

/// Instances of one answer of `/metrics/instances`.
const MAX_INSTANCES: i64 = 1_000;

/// Scalars of a name, an email or a password.
const MAX_WORDS: usize = 255;

/// Bytes of a file name.
const MAX_FILE_NAME: usize = 4_096;

/// What the operations handlers share; clones are the same one.
#[derive(Clone)]
pub struct OpsState {
    api: ApiState,
    metrics: PrometheusHandle,
    /// Held while metrics are rendered: twice at once costs twice and tells nothing more.
    rendering: Arc<Mutex<()>>,
    drain: CancellationToken,
}

impl std::fmt::Debug for OpsState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpsState").finish_non_exhaustive()
    }
}

impl OpsState {
    /// The state beside that of the APIs. `drain` is cancelled when an operator asks the node to
    /// stop; `node` then stops it in good order.
    pub fn new(api: ApiState, metrics: PrometheusHandle, drain: CancellationToken) -> Self {
        Self {
            api,
            metrics,
            rendering: Arc::default(),
            drain,
        }
    }

    /// Whether this node stops, or was asked to.
    fn drains(&self) -> bool {
        self.api.engine.is_draining() || self.drain.is_cancelled()
    }
}

impl FromRef<OpsState> for ApiState {
    fn from_ref(ops: &OpsState) -> Self {
        ops.api.clone()
    }
}

/// The routes of the operations address.
pub(crate) fn router(state: OpsState) -> Front {
    let routes = [
        ("/livez", get(livez)),
        ("/healthz", get(livez)),
        ("/readyz", get(readyz)),
        ("/metrics", get(render)),
        ("/metrics/instances", get(instances)),
        ("/cluster", get(cluster)),
        ("/drain", post(drain)),
        ("/accounts", post(create_account).patch(change_account)),
        ("/users", post(create_user)),
        ("/backup", post(backup)),
        ("/restore/release", post(release)),
    ];
    let paths = routes.iter().map(|(path, _)| (*path, Gate::Open));
    let (api, map) = (state.api.clone(), Map::new(&state.api, paths));
    let router = routes
        .into_iter()
        .fold(axum::Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        })
        .fallback(crate::not_found)
        .method_not_allowed_fallback(crate::method_not_allowed)
        .with_state(state);
    Front::new(api, Arc::new(map), router)
}

/// Somebody who shows the operator's token.
struct Operator;

impl FromRequestParts<OpsState> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ops: &OpsState) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers);
        let known = ops.api.config.operator.as_ref();
        if let (Some(token), Some(operator)) = (token, known)
            && operator.is(token)
        {
            return Ok(Self);
        }
        let address = ops.api.address(&parts.extensions, &parts.headers);
        Err(ops
            .api
            .bad_attempts
            .count(address, ApiError::InvalidSession))
    }
}

/// Answers, if the event loop turns.
async fn livez() -> Answer {
    envelope::done("alive").answer()
}

/// Says whether requests should come here, and what speaks against it.
async fn readyz(State(ops): State<OpsState>) -> Answer {
    let readiness = Readiness::of(&ops.api.engine, ops.drains());
    let body = json!({ "success": readiness.ready, "data": readiness });
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok(envelope::json(status, &body))
}

fn text(content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders the metrics of the node, off the event loop and never twice at once.
async fn render(State(ops): State<OpsState>) -> Result<Response, ApiError> {
    let _alone = ops.rendering.lock().await;
    ops.api.engine.observe_gauges().await;
    let handle = ops.metrics.clone();
    let rendered = tokio::task::spawn_blocking(move || handle.render()).await;
    rendered
        .map(|body| text(EXPOSITION, body))
        .map_err(|_| ApiError::Internal)
}

/// Shows figures of single instances, which `/metrics` leaves out to stay small.
async fn instances(State(ops): State<OpsState>, called: Called) -> Result<Response, ApiError> {
    let (only, state, limit) = validate::query(called.uri(), |form| {
        let only = form.optional("instance", field::id);
        let state = form.optional("state", field::text(1, MAX_WORDS));
        (
            only,
            state,
            form.optional("limit", field::whole(1, MAX_INSTANCES)),
        )
    })?;
    let limit = usize::try_from(limit.unwrap_or(MAX_INSTANCES)).unwrap_or(1);
    let figures = ops.api.engine.figures(only, state.as_deref(), limit).await;
    Ok(text(EXPOSITION, figures::exposition(&figures)))
}

/// Shows who owns what.
async fn cluster(State(ops): State<OpsState>) -> Answer {
    let engine = &ops.api.engine;
    let shown = match engine.cluster() {
        Some(cluster) => cluster::several(&cluster.status(), engine.running(), ops.drains()),
        None => cluster::alone(engine.running(), ops.drains()),
    };
    envelope::data(shown).answer()
}

/// Asks the node to stop in good order.
async fn drain(State(ops): State<OpsState>, _operator: Operator) -> Answer {
    tracing::info!("an operator asked for a drain");
    ops.drain.cancel();
    envelope::done("Draining")
        .status(StatusCode::ACCEPTED)
        .answer()
}

/// Makes an account.
async fn create_account(
    State(ops): State<OpsState>,
    _operator: Operator,
    request: Request,
) -> Answer {
    let post = Post::json(&ops.api, request, MAX_BODY).await?;
    let ((name, on_ambiguous), report) = post.read(|form| {
        let name = form.required("name", field::text(1, MAX_WORDS));
        (name, draft::on_ambiguous(form))
    })?;
    let warnings = report.accepted()?;
    let name = name.ok_or(ApiError::Internal)?;
    let directory = ops.api.engine.directory();
    let account = directory
        .create_account_with(&name, on_ambiguous.unwrap_or_default())
        .await?;
    shown(&account)
        .status(StatusCode::CREATED)
        .message("Account created successfully")
        .warnings(warnings)
        .answer()
}

/// Changes what an account's messages are sent with unless they say otherwise.
async fn change_account(
    State(ops): State<OpsState>,
    _operator: Operator,
    request: Request,
) -> Answer {
    let post = Post::json(&ops.api, request, MAX_BODY).await?;
    let ((named, on_ambiguous), report) = post.read(|form| {
        // An account is named as an instance is: by its id or its name.
        let named = form.optional("account_id", field::instance);
        let choice = field::choice(draft::ON_AMBIGUOUS);
        (named, form.required("on_ambiguous", choice))
    })?;
    let warnings = report.accepted()?;
    let on_ambiguous = on_ambiguous.ok_or(ApiError::Internal)?;
    let named = account_of(&ops.api, named.as_deref(), "account_id").await?;
    let directory = ops.api.engine.directory();
    let account = directory.set_on_ambiguous(named.id, on_ambiguous).await?;
    shown(&account)
        .message("Account updated successfully")
        .warnings(warnings)
        .answer()
}

fn shown(account: &Account) -> envelope::Success<'static, Value> {
    envelope::data(json!({
        "id": account.id,
        "name": account.name,
        "created_at": Stamp(account.created_at),
        "on_ambiguous": draft::on_ambiguous_word(account.on_ambiguous),
    }))
}

/// Makes a user of an account.
async fn create_user(State(ops): State<OpsState>, _operator: Operator, request: Request) -> Answer {
    let post = Post::json(&ops.api, request, MAX_BODY).await?;
    let ((account, email, name, password), report) = post.read(|form| {
        let email = form.required("email", field::text(1, MAX_WORDS));
        let password = form.required("password", field::text(1, MAX_WORDS));
        let name = form.optional("name", field::text(1, MAX_WORDS));
        // An account is named as an instance is: by its id or its name.
        (
            form.optional("account_id", field::instance),
            email,
            name,
            password,
        )
    })?;
    let warnings = report.accepted()?;
    let (Some(email), Some(password)) = (email, password) else {
        return Err(ApiError::Internal);
    };
    let account = account_of(&ops.api, account.as_deref(), "account_id").await?;
    let name = name.unwrap_or_else(|| email.clone());
    let user = ops
        .api
        .engine
        .directory()
        .create_user(account.id, &email, &name, &password)
        .await?;
    envelope::data(json!({
        "id": user.id,
        "account_id": user.account,
        "email": user.email,
        "name": user.name,
        "created_at": Stamp(user.created_at),
    }))
    .status(StatusCode::CREATED)
    .message("User created successfully")
    .warnings(warnings)
    .answer()
}

/// Accounts that an operator is told of who named none.
const SHOWN_ACCOUNTS: usize = 10;

/// The account of an id or name; the only one when none is named.
pub(crate) async fn account_of(
    api: &ApiState,
    named: Option<&str>,
    field: &'static str,
) -> Result<Account, ApiError> {
    let accounts = api.engine.directory().accounts().await?;
    let by_id = named.and_then(|named| named.parse().ok());
    let names = accounts.iter().map(|account| account.name.as_str());
    let names: Vec<&str> = names.take(SHOWN_ACCOUNTS).collect();
    let complaint = match (named, accounts.len()) {
        (_, 0) => "cannot be found: there is no account yet.".to_owned(),
        (Some(_), _) => format!(
            "is not the id or name of an account: there is {}.",
            names.join(", ")
        ),
        (None, count) => format!(
            "is required: there are {count} accounts, {}.",
            names.join(", ")
        ),
    };
    let found = match named {
        Some(named) => accounts
            .into_iter()
            .find(|account| Some(account.id) == by_id || account.name == named),
        None if accounts.len() == 1 => accounts.into_iter().next(),
        None => None,
    };
    found.ok_or_else(|| ApiError::field(field, complaint))
}

/// Writes a consistent copy of the store to a new file.
async fn backup(State(ops): State<OpsState>, _operator: Operator, request: Request) -> Answer {
    let post = Post::json(&ops.api, request, MAX_BODY).await?;
    let (file, report) = post.read(|form| form.required("file", field::text(1, MAX_FILE_NAME)))?;
    let warnings = report.accepted()?;
    let file = PathBuf::from(file.ok_or(ApiError::Internal)?);
    if !file.is_absolute() {
        return Err(ApiError::field("file", "must be an absolute path."));
    }
    ops.api
        .engine
        .store()
        .backup(&file)
        .await
        .map_err(|error| {
            tracing::error!(%error, "a backup failed");
            ApiError::WrongState(format!("The backup failed: {error}.").into())
        })?;
    envelope::data(json!({ "file": file }))
        .message("Backup written")
        .warnings(warnings)
        .answer()
}

/// Ends the hold after a restore.
async fn release(State(ops): State<OpsState>, _operator: Operator, request: Request) -> Answer {
    let post = Post::bare(&ops.api, request).await?;
    let (resend, warnings) = if post.body.is_empty() {
        (false, Vec::new())
    } else {
        let (resend, report) = post.read(|form| form.optional("resend", field::boolean))?;
        (resend.unwrap_or_default(), report.accepted()?)
    };
    let settled = ops.api.engine.release(resend).await?;
    envelope::data(json!({ "settled": settled, "resend": resend }))
        .message("Released")
        .warnings(warnings)
        .answer()
}
