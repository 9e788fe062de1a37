//! API keys: made, listed, rotated, revoked.

use std::collections::BTreeSet;

use axum::extract::{Request, State};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_actors::directory::records::{DEFAULT_RATE_LIMIT, MAX_RATE_LIMIT};
use zajil_actors::directory::{AddressRange, ApiKey, KeyText, NewKey, Permission};
use zajil_model::id::{InstanceId, KeyId};
use zajil_model::time::Timestamp;

use crate::auth::{AnyKey, Caller, May, Who};
use crate::body::MAX_BODY;
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::json::Value;
use crate::request::{Post, Segment};
use crate::schema::{self, Data};
use crate::stamp::{Stamp, stamp};
use crate::state::ApiState;
use crate::validate::{Complaint, Form, Report, field};

/// Scalars of a name.
const MAX_NAME: usize = 255;

/// Addresses or instances that a key may name.
const MAX_ALLOWED: usize = 1_000;

/// Seconds for which the former text of a key stays good when nobody says otherwise.
const DEFAULT_OVERLAP_S: i64 = 86_400;

/// The longest such overlap: 30 days.
const MAX_OVERLAP_S: i64 = 30 * 86_400;

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShownKey {
    id: u64,
    name: String,
    /// Its text; shown once, when it is made or rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The first characters of its text.
    prefix: String,
    /// The last characters of its text.
    last4: String,
    permissions: Vec<&'static str>,
    /// Requests an hour.
    rate_limit: u64,
    allowed_ips: Vec<String>,
    allowed_instances: Vec<u64>,
    #[schema(value_type = Option<String>)]
    expires_at: Option<Stamp>,
    #[schema(value_type = Option<String>)]
    revoked_at: Option<Stamp>,
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Stamp>,
    #[schema(value_type = String)]
    created_at: Stamp,
}

impl ShownKey {
    fn new(key: &ApiKey, text: Option<&KeyText>) -> Self {
        Self {
            id: key.id.get(),
            name: key.name.clone(),
            key: text.map(|text| text.reveal().to_owned()),
            prefix: key.prefix.clone(),
            last4: key.last4.clone(),
            permissions: key
                .permissions
                .iter()
                .copied()
                .map(Permission::label)
                .collect(),
            rate_limit: key.rate_limit,
            allowed_ips: key.allowed_ips.iter().map(ToString::to_string).collect(),
            allowed_instances: key.allowed_instances.iter().map(|id| id.get()).collect(),
            expires_at: stamp(key.expires_at),
            revoked_at: stamp(key.revoked_at),
            last_used_at: stamp(key.last_used_at),
            created_at: Stamp(key.created_at),
        }
    }
}

/// Lists the keys of the account, revoked ones too.
#[utoipa::path(
    get, path = "/api-keys", operation_id = "list_api_keys", tag = "API keys",
    responses((status = 200, body = Data<Vec<ShownKey>>, description = "All keys."))
)]
pub(crate) async fn list_api_keys(State(api): State<ApiState>, may: May<AnyKey>) -> Answer {
    let keys = api.engine.directory().keys(may.account).await?;
    let shown: Vec<ShownKey> = keys.iter().map(|key| ShownKey::new(key, None)).collect();
    envelope::data(shown).answer()
}

/// Makes a key. Its text is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/api-keys", operation_id = "create_api_key", tag = "API keys",
    request_body = schema::NewApiKey,
    responses((status = 201, body = Data<ShownKey>, description = "The key, with its text."))
)]
pub(crate) async fn create_api_key(
    State(api): State<ApiState>,
    may: May<AnyKey>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BODY).await?;
    let now = api.now();
    let (draft, mut report) = post.read(|form| read(form, now))?;
    let allowed_instances = find_instances(&api, &may, &draft.instances, &mut report).await?;
    let warnings = report.accepted()?;
    let user = match &may.who {
        Who::User(signed_in, _) => Some(signed_in.user.id),
        Who::Key(..) | Who::Operator => None,
    };
    let new = NewKey {
        user,
        name: draft.name.ok_or(ApiError::Internal)?,
        permissions: draft.permissions,
        rate_limit: draft.rate_limit,
        expires_at: draft.expires_at,
        allowed_ips: draft.allowed_ips,
        allowed_instances,
    };
    let (key, text) = api.engine.directory().create_key(may.account, new).await?;
    may.audit(&api, "key.created", key.id, Some(key.name.clone()))
        .await;
    envelope::data(ShownKey::new(&key, Some(&text)))
        .status(StatusCode::CREATED)
        .message("API key created successfully. It is shown only once.")
        .warnings(warnings)
        .answer()
}

/// A key as it was read.
struct Draft {
    name: Option<String>,
    permissions: BTreeSet<Permission>,
    rate_limit: u64,
    expires_at: Option<Timestamp>,
    allowed_ips: Vec<AddressRange>,
    instances: Vec<String>,
}

fn read(form: &mut Form<'_, '_>, now: Timestamp) -> Draft {
    let expires_at = form.optional("expires_at", field::time);
    if expires_at.is_some_and(|at| at <= now) {
        form.fault("expires_at", "must be in the future.");
    }
    let highest = i64::try_from(MAX_RATE_LIMIT).unwrap_or(i64::MAX);
    let rate_limit = form.optional("rate_limit", field::whole(1, highest));
    if !form.has("permissions") {
        form.fault("permissions", "is required.");
    }
    let permissions = read_each(form, "permissions", permission);
    Draft {
        name: form.required("name", field::text(1, MAX_NAME)),
        permissions: permissions.into_iter().collect(),
        rate_limit: rate_limit.map_or(DEFAULT_RATE_LIMIT, i64::unsigned_abs),
        expires_at,
        allowed_ips: read_each(form, "allowed_ips", address),
        instances: read_each(form, "allowed_instances", field::instance),
    }
}

fn read_each<T>(
    form: &mut Form<'_, '_>,
    name: &str,
    parse: impl Fn(Value<'_>) -> Result<T, Complaint>,
) -> Vec<T> {
    let items = form.items(name, |value, place, report| {
        parse(value)
            .map_err(|complaint| report.borrow_mut().fault(place, complaint))
            .ok()
    });
    let items = items.unwrap_or_default();
    if items.len() > MAX_ALLOWED {
        form.fault(
            name,
            format!("must not have more than {MAX_ALLOWED} items."),
        );
    }
    items.into_iter().flatten().collect()
}

fn permission(value: Value<'_>) -> Result<Permission, Complaint> {
    let word = field::any_text(value)?;
    Permission::parse(&word).ok_or_else(|| {
        let words: Vec<&str> = Permission::ALL.into_iter().map(Permission::label).collect();
        format!("must be one of: {}.", words.join(", ")).into()
    })
}

fn address(value: Value<'_>) -> Result<AddressRange, Complaint> {
    let text = field::any_text(value)?;
    text.parse()
        .map_err(|_| "must be an IP address or a network like 10.0.0.0/8.".into())
}

async fn find_instances(
    api: &ApiState,
    caller: &Caller,
    named: &[String],
    report: &mut Report,
) -> Result<BTreeSet<InstanceId>, ApiError> {
    let mut found = BTreeSet::new();
    for (index, name) in named.iter().take(MAX_ALLOWED).enumerate() {
        match api
            .engine
            .directory()
            .instance(caller.account, name)
            .await?
        {
            Some(instance) => {
                found.insert(instance.id);
            }
            None => report.fault(
                format_args!("allowed_instances.{index}"),
                "is not the id or name of one of your instances.",
            ),
        }
    }
    Ok(found)
}

/// Revokes a key: at once on this node, within 5 s everywhere.
#[utoipa::path(
    delete, path = "/api-keys/{id}", operation_id = "revoke_api_key", tag = "API keys",
    params(("id" = u64, Path, description = "The id of the key")),
    responses((status = 200, body = Data<ShownKey>, description = "It is revoked."))
)]
pub(crate) async fn revoke_api_key(
    State(api): State<ApiState>,
    may: May<AnyKey>,
    Segment(id): Segment,
) -> Answer {
    let id: KeyId = id.parse().map_err(|_| ApiError::NotFound)?;
    let key = api.engine.directory().revoke_key(may.account, id).await?;
    may.audit(&api, "key.revoked", id, None).await;
    envelope::data(ShownKey::new(&key, None))
        .message("API key revoked")
        .answer()
}

/// Gives a key a new text; the former one stays good for a while. Id and window are kept.
#[utoipa::path(
    post, path = "/api-keys/{id}/rotate", operation_id = "rotate_api_key", tag = "API keys",
    params(("id" = u64, Path, description = "The id of the key")),
    request_body = schema::Rotation,
    responses((status = 200, body = Data<ShownKey>, description = "The key, with its new text."))
)]
pub(crate) async fn rotate_api_key(
    State(api): State<ApiState>,
    may: May<AnyKey>,
    Segment(id): Segment,
    request: Request,
) -> Answer {
    let id: KeyId = id.parse().map_err(|_| ApiError::NotFound)?;
    let post = Post::bare(&api, request).await?;
    let (overlap, warnings) = if post.body.is_empty() {
        (None, Vec::new())
    } else {
        let (overlap, report) =
            post.read(|form| form.optional("overlap_s", field::whole(0, MAX_OVERLAP_S)))?;
        (overlap, report.accepted()?)
    };
    let overlap = u32::try_from(overlap.unwrap_or(DEFAULT_OVERLAP_S)).unwrap_or_default();
    let (key, text) = api
        .engine
        .directory()
        .rotate_key(may.account, id, overlap)
        .await?;
    may.audit(
        &api,
        "key.rotated",
        id,
        Some(format!("overlap {overlap} s")),
    )
    .await;
    envelope::data(ShownKey::new(&key, Some(&text)))
        .message("API key rotated. The new text is shown only once.")
        .warnings(warnings)
        .answer()
}
