//! Shows what happened to the messages of an account, change by change.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{May, ReadMessages};
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::page;
use crate::request::Called;
use crate::schema::Data;
use crate::stamp::Stamp;
use crate::state::ApiState;
use crate::validate::{self, field};

/// Changes in one answer.
const MAX_CHANGES: i64 = 1_000;

/// Changes in one answer when nobody says otherwise.
const DEFAULT_CHANGES: i64 = 100;

/// A change of what clients are told of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Change {
    message_id: u64,
    status: &'static str,
    #[schema(value_type = String)]
    at: Stamp,
}

/// Changes in order per message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Changes {
    changes: Vec<Change>,
    /// Goes on from here as `after`, now or later.
    next_cursor: Option<String>,
}

/// Shows every change of status, in order per message and at least once.
#[utoipa::path(
    get, path = "/changes", operation_id = "list_changes", tag = "Messages",
    params(
        ("after" = Option<String>, Query, description = "The next_cursor of an earlier answer"),
        ("limit" = Option<u64>, Query, description = "How many at most, up to 1000"),
    ),
    responses((status = 200, body = Data<Changes>, description = "Changes after the cursor."))
)]
pub(crate) async fn list_changes(
    State(api): State<ApiState>,
    may: May<ReadMessages>,
    called: Called,
) -> Answer {
    if may.is_restricted() {
        // The feed is the account's: it would show messages of other instances.
        return Err(ApiError::MissingPermission(
            "read_messages for all instances",
        ));
    }
    let (after, limit) = validate::query(called.uri(), |form| {
        let limit = form.optional("limit", field::whole(1, MAX_CHANGES));
        (
            form.optional("after", page::feed_cursor),
            limit.unwrap_or(DEFAULT_CHANGES),
        )
    })?;
    let limit = usize::try_from(limit).unwrap_or(1);
    let found = api
        .engine
        .store()
        .changes(may.account, after, limit)
        .await?;
    let change = |(_, change): &(zajil_storage::Cursor, zajil_storage::StatusChange)| Change {
        message_id: change.id.get(),
        status: change.status.label(),
        at: Stamp(change.at),
    };
    envelope::data(Changes {
        changes: found.changes.iter().map(change).collect(),
        next_cursor: found.next.or(after).map(page::feed_cursor_text),
    })
    .answer()
}
