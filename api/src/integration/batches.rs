//! Campaigns: made, uploaded to, started, paused and cancelled as one.

use axum::extract::{Request, State};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_actors::batch::{BatchRecord, BatchView, Changed, Duplicates};
use zajil_model::batch::Command;
use zajil_model::id::BatchId;

use super::stats::{Counts, InstanceStats, counts};
use super::suppressions::status;
use crate::auth::{Caller, May, SendMessage};
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::page::{self, Found, PageQuery};
use crate::request::{Called, Post, Segment};
use crate::schema::{Data, InstanceName, Paged};
use crate::stamp::{Stamp, stamp};
use crate::state::ApiState;
use crate::validate;

pub(crate) mod create;

/// A campaign in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedBatch {
    id: u64,
    name: String,
    /// `draft`, `running`, `paused`, `finished` or `cancelled`.
    state: &'static str,
    /// Whether no more rows come.
    sealed: bool,
    instances: Vec<InstanceName>,
    ttl: u32,
    /// `skip` or `keep`.
    duplicates: &'static str,
    /// What becomes of a message whose outcome cannot be known: `unknown` or `resend`.
    on_ambiguous: &'static str,
    #[schema(value_type = Option<String>)]
    start_at: Option<Stamp>,
    #[schema(value_type = Option<String>)]
    deadline: Option<Stamp>,
    #[schema(value_type = String)]
    created_at: Stamp,
    #[schema(value_type = Option<String>)]
    started_at: Option<Stamp>,
    #[schema(value_type = Option<String>)]
    ended_at: Option<Stamp>,
}

impl ListedBatch {
    fn new(record: &BatchRecord) -> Self {
        let name = |sender: &zajil_actors::batch::record::Sender| InstanceName {
            id: sender.instance.get(),
            name: sender.name.clone(),
        };
        Self {
            id: record.id.get(),
            name: record.name.clone(),
            state: record.life.state.label(),
            sealed: record.life.sealed,
            instances: record.senders.iter().map(name).collect(),
            ttl: record.ttl_seconds,
            duplicates: match record.duplicates {
                Duplicates::Skip => "skip",
                Duplicates::Keep => "keep",
            },
            on_ambiguous: super::draft::on_ambiguous_word(record.on_ambiguous),
            start_at: stamp(record.start_at),
            deadline: stamp(record.deadline),
            created_at: Stamp(record.life.created_at),
            started_at: stamp(record.life.started_at),
            ended_at: stamp(record.life.ended_at),
        }
    }
}

/// A campaign with how far it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeBatch {
    #[serde(flatten)]
    batch: ListedBatch,
    /// Rows that were dealt with: the number of the next row.
    rows_received: u64,
    taken: u64,
    duplicate_rows: u64,
    suppressed: u64,
    refused: u64,
    /// Its messages by status.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    by_status: Counts,
    /// The same for each instance that has any.
    per_instance: Vec<InstanceStats>,
    /// Messages a second that left lately.
    rate_now: f64,
    #[schema(value_type = Option<String>)]
    eta: Option<Stamp>,
    /// With 202: the instances that have not confirmed yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

impl WholeBatch {
    fn new(view: &BatchView, missing: Vec<String>) -> Self {
        let name_of = |id| {
            let sender = view
                .record
                .senders
                .iter()
                .find(|sender| sender.instance == id);
            let name = sender.map(|sender| sender.name.clone()).unwrap_or_default();
            InstanceName { id: id.get(), name }
        };
        Self {
            batch: ListedBatch::new(&view.record),
            rows_received: view.progress.rows_received,
            taken: view.progress.taken,
            duplicate_rows: view.progress.duplicates,
            suppressed: view.progress.suppressed,
            refused: view.progress.refused,
            by_status: counts(&view.counts),
            per_instance: view
                .by_instance
                .iter()
                .map(|(id, counts)| InstanceStats::new(name_of(*id), counts))
                .collect(),
            rate_now: view.rate,
            eta: stamp(view.eta),
            missing,
        }
    }
}

/// The id in a path, if it names a campaign that the caller may use.
pub(crate) async fn find(api: &ApiState, caller: &Caller, id: &str) -> Result<BatchId, ApiError> {
    let id = id.parse().map_err(|_| ApiError::NotFound)?;
    let record = api.engine.batches().record(caller.account, id).await?;
    if may_use(caller, &record) {
        Ok(id)
    } else {
        Err(ApiError::NotFound)
    }
}

fn may_use(caller: &Caller, record: &BatchRecord) -> bool {
    record
        .senders
        .iter()
        .all(|sender| caller.may_use(sender.instance))
}

/// Lists campaigns, newest first.
#[utoipa::path(
    get, path = "", operation_id = "list_batches", tag = "Batches",
    params(
        ("page" = Option<u64>, Query, description = "The number of the page"),
        ("per_page" = Option<u64>, Query, description = "Entries of a page, at most 200"),
        ("cursor" = Option<String>, Query, description = "The next_cursor of an earlier page"),
    ),
    responses((status = 200, body = Data<Paged<ListedBatch>>, description = "A page of campaigns."))
)]
pub(crate) async fn list_batches(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    called: Called,
) -> Answer {
    let query = validate::query(called.uri(), PageQuery::read)?;
    let page = api
        .engine
        .batches()
        .list(may.account, query.request())
        .await?;
    let next = query.cursor_after(page.items.len(), page.total);
    let theirs = page.items.iter().filter(|record| may_use(&may, record));
    let items: Vec<ListedBatch> = theirs.map(ListedBatch::new).collect();
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

/// Shows how a campaign is.
#[utoipa::path(
    get, path = "/{id}", operation_id = "get_batch", tag = "Batches",
    params(("id" = u64, Path, description = "The id of the batch")),
    responses((status = 200, body = Data<WholeBatch>, description = "The batch."))
)]
pub(crate) async fn get_batch(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
) -> Answer {
    let id = find(&api, &may, &id).await?;
    let view = api.engine.batches().view(may.account, id).await?;
    envelope::data(WholeBatch::new(&view, Vec::new())).answer()
}

/// Lets a campaign run; before or after the end of its upload.
#[utoipa::path(
    post, path = "/{id}/start", operation_id = "start_batch", tag = "Batches",
    params(("id" = u64, Path, description = "The id of the batch")),
    responses(
        (status = 200, body = Data<WholeBatch>, description = "It runs."),
        (status = 202, body = Data<WholeBatch>, description = "It will; not all have confirmed.")
    )
)]
pub(crate) async fn start_batch(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
    request: Request,
) -> Answer {
    change(&api, &may, &id, request, Command::Start).await
}

/// Says that no more rows come; only a sealed campaign finishes.
#[utoipa::path(
    post, path = "/{id}/seal", operation_id = "seal_batch", tag = "Batches",
    params(("id" = u64, Path, description = "The id of the batch")),
    responses(
        (status = 200, body = Data<WholeBatch>, description = "It is sealed."),
        (status = 202, body = Data<WholeBatch>, description = "It will be; not all have confirmed.")
    )
)]
pub(crate) async fn seal_batch(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
    request: Request,
) -> Answer {
    change(&api, &may, &id, request, Command::Seal).await
}

/// Stops a campaign until it is resumed. Once this answers 200, nothing new of it is handed over.
#[utoipa::path(
    post, path = "/{id}/pause", operation_id = "pause_batch", tag = "Batches",
    params(("id" = u64, Path, description = "The id of the batch")),
    responses(
        (status = 200, body = Data<WholeBatch>, description = "It stands still."),
        (status = 202, body = Data<WholeBatch>, description = "It will; not all have confirmed.")
    )
)]
pub(crate) async fn pause_batch(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
    request: Request,
) -> Answer {
    change(&api, &may, &id, request, Command::Pause).await
}

/// Lets a campaign run again.
#[utoipa::path(
    post, path = "/{id}/resume", operation_id = "resume_batch", tag = "Batches",
    params(("id" = u64, Path, description = "The id of the batch")),
    responses(
        (status = 200, body = Data<WholeBatch>, description = "It runs."),
        (status = 202, body = Data<WholeBatch>, description = "It will; not all have confirmed.")
    )
)]
pub(crate) async fn resume_batch(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
    request: Request,
) -> Answer {
    change(&api, &may, &id, request, Command::Resume).await
}

/// Stops a campaign for good. Once this answers 200, nothing new of it is handed over.
#[utoipa::path(
    post, path = "/{id}/cancel", operation_id = "cancel_batch", tag = "Batches",
    params(("id" = u64, Path, description = "The id of the batch")),
    responses(
        (status = 200, body = Data<WholeBatch>, description = "It is cancelled."),
        (status = 202, body = Data<WholeBatch>, description = "It will be; not all have confirmed.")
    )
)]
pub(crate) async fn cancel_batch(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
    request: Request,
) -> Answer {
    change(&api, &may, &id, request, Command::Cancel).await
}

async fn change(
    api: &ApiState,
    caller: &Caller,
    id: &str,
    request: Request,
    command: Command,
) -> Answer {
    let post = Post::bare(api, request).await?;
    post.once(api, caller, async {
        let id = find(api, caller, id).await?;
        let Changed { view, barrier } = api
            .engine
            .batches()
            .change(caller.account, id, command)
            .await?;
        caller
            .audit(api, &format!("batch.{}", command.participle()), id, None)
            .await;
        let code = status(&barrier, StatusCode::OK);
        envelope::data(WholeBatch::new(&view, barrier.missing))
            .status(code)
            .message(&format!("Batch {}", command.participle()))
            .warnings(lateness(&view))
            .answer()
    })
    .await
}

/// The warning of a campaign that is not done by its deadline.
fn lateness(view: &BatchView) -> Vec<String> {
    match (view.eta, view.record.deadline) {
        (Some(eta), Some(deadline)) if eta > deadline => {
            vec![format!(
                "late: done at {} at the pace of its instances",
                Stamp(eta)
            )]
        }
        _ => Vec::new(),
    }
}
