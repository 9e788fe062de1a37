//! Recipients who opted out.

use axum::extract::{Request, State};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_actors::directory;
use zajil_actors::send::Barrier;

use crate::auth::{ManageContacts, May};
use crate::body::MAX_BODY;
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::page::{self, Found, PageQuery};
use crate::request::{Called, Post, Segment};
use crate::schema::{self, Data, Paged};
use crate::stamp::Stamp;
use crate::state::ApiState;
use crate::validate::{self, field};

/// Scalars of a reason.
const MAX_REASON: usize = 255;

/// A recipient who opted out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Suppression {
    phone_number: String,
    reason: Option<String>,
    /// Where it came from: `api`, `dashboard` …
    source: String,
    #[schema(value_type = String)]
    created_at: Stamp,
    /// With 202: the instances that have not confirmed yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

impl From<directory::Suppression> for Suppression {
    fn from(entry: directory::Suppression) -> Self {
        Self {
            phone_number: entry.phone.to_string(),
            reason: entry.reason,
            source: entry.source,
            created_at: Stamp(entry.created_at),
            missing: Vec::new(),
        }
    }
}

/// Lists opt-outs.
#[utoipa::path(
    get, path = "", operation_id = "list_suppressions", tag = "Suppressions",
    params(
        ("page" = Option<u64>, Query, description = "The number of the page"),
        ("per_page" = Option<u64>, Query, description = "Entries of a page, at most 200"),
        ("cursor" = Option<String>, Query, description = "The next_cursor of an earlier page"),
    ),
    responses((status = 200, body = Data<Paged<Suppression>>, description = "A page of opt-outs."))
)]
pub(crate) async fn list_suppressions(
    State(api): State<ApiState>,
    may: May<ManageContacts>,
    called: Called,
) -> Answer {
    let query = validate::query(called.uri(), PageQuery::read)?;
    let page = api
        .engine
        .directory()
        .list_suppressions(may.account, query.request())
        .await?;
    let next = query.cursor_after(page.items.len(), page.total);
    let items: Vec<Suppression> = page.items.into_iter().map(Suppression::from).collect();
    page::answer(
        &called,
        query,
        Found {
            items,
            total: page.total,
            capped: false,
            next,
        },
    )
}

/// Opts a recipient out. Once this answers 201, nothing new is handed over to them; 202 names the
/// instances that have not confirmed it yet.
#[utoipa::path(
    post, path = "", operation_id = "create_suppression", tag = "Suppressions",
    request_body = schema::NewSuppression,
    responses(
        (status = 201, body = Data<Suppression>, description = "It is in force."),
        (status = 202, body = Data<Suppression>, description = "It is durable; not all have confirmed.")
    )
)]
pub(crate) async fn create_suppression(
    State(api): State<ApiState>,
    may: May<ManageContacts>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BODY).await?;
    let (new, report) = post.read(|form| {
        let phone = form.required("phone_number", field::phone);
        (phone, form.optional("reason", field::text(0, MAX_REASON)))
    })?;
    let warnings = report.accepted()?;
    let (Some(phone), reason) = new else {
        return Err(ApiError::Internal);
    };
    post.once(&api, &may, async {
        let source = may.source().to_owned();
        let entry = Suppression {
            phone_number: phone.to_string(),
            reason: reason.clone(),
            source: source.clone(),
            created_at: Stamp(api.now()),
            missing: Vec::new(),
        };
        let barrier = api
            .engine
            .suppress(may.account, phone, reason, source)
            .await?;
        may.audit(&api, "suppression.created", phone.masked(), None)
            .await;
        let status = status(&barrier, StatusCode::CREATED);
        envelope::data(Suppression {
            missing: barrier.missing,
            ..entry
        })
        .status(status)
        .message("Recipient suppressed")
        .warnings(warnings)
        .answer()
    })
    .await
}

/// The status of an answer that waits for confirmations: 202 while some are missing.
pub(crate) const fn status(barrier: &Barrier, confirmed: StatusCode) -> StatusCode {
    if barrier.is_confirmed() {
        confirmed
    } else {
        StatusCode::ACCEPTED
    }
}

/// Opts a recipient in again.
#[utoipa::path(
    delete, path = "/{phone}", operation_id = "delete_suppression", tag = "Suppressions",
    params(("phone" = String, Path, description = "The number, with or without its +")),
    responses((status = 200, body = schema::Done, description = "They get messages again."))
)]
pub(crate) async fn delete_suppression(
    State(api): State<ApiState>,
    may: May<ManageContacts>,
    Segment(phone): Segment,
) -> Answer {
    let digits = phone.trim_start_matches(['+', ' ']);
    let phone = field::read_phone(&format!("+{digits}")).map_err(|_| ApiError::NotFound)?;
    if !api.engine.unsuppress(may.account, phone).await? {
        return Err(ApiError::NotFound);
    }
    may.audit(&api, "suppression.deleted", phone.masked(), None)
        .await;
    envelope::done("Suppression removed").answer()
}
