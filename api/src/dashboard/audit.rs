//! Who did what.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_actors::directory;

use crate::auth::{AnyKey, May};
use crate::envelope::{self, Answer};
use crate::request::Called;
use crate::schema::Data;
use crate::stamp::Stamp;
use crate::state::ApiState;
use crate::validate::{self, field};

/// Lines of one answer.
const MAX_LINES: i64 = 200;

/// Lines of one answer when nobody says otherwise.
const DEFAULT_LINES: i64 = 50;

/// Bytes of the longest cursor.
const MAX_CURSOR: usize = 200;

/// What somebody did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditLine {
    #[schema(value_type = String)]
    at: Stamp,
    /// `user:ID`, `key:ID`, `operator` or `system`.
    actor: String,
    /// What, like `key.created`.
    action: String,
    /// To what: an id or a name.
    subject: String,
    address: Option<String>,
    detail: Option<String>,
}

impl From<directory::AuditLine> for AuditLine {
    fn from(line: directory::AuditLine) -> Self {
        Self {
            at: Stamp(line.at),
            actor: line.actor,
            action: line.action,
            subject: line.subject,
            address: line.address.map(|address| address.to_string()),
            detail: line.detail,
        }
    }
}

/// Lines of the audit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditLines {
    lines: Vec<AuditLine>,
    /// Goes on from here as `cursor`.
    next_cursor: Option<String>,
}

/// Shows who did what, newest first.
#[utoipa::path(
    get, path = "/audit", operation_id = "list_audit", tag = "Audit",
    params(
        ("cursor" = Option<String>, Query, description = "The next_cursor of an earlier answer"),
        ("per_page" = Option<u64>, Query, description = "How many at most, up to 200"),
    ),
    responses((status = 200, body = Data<AuditLines>, description = "Lines of the audit."))
)]
pub(crate) async fn list_audit(
    State(api): State<ApiState>,
    may: May<AnyKey>,
    called: Called,
) -> Answer {
    let (cursor, limit) = validate::query(called.uri(), |form| {
        let limit = form.optional("per_page", field::whole(1, MAX_LINES));
        (
            form.optional("cursor", field::text(1, MAX_CURSOR)),
            limit.unwrap_or(DEFAULT_LINES),
        )
    })?;
    let limit = usize::try_from(limit).unwrap_or(1);
    let directory = api.engine.directory();
    let (lines, next_cursor) = directory
        .audit_lines(may.account, cursor.as_deref(), limit)
        .await?;
    let lines = lines.into_iter().map(AuditLine::from).collect();
    envelope::data(AuditLines { lines, next_cursor }).answer()
}
