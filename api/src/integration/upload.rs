//! Uploads the rows of a campaign, and streams what became of them.
//!
//! A body of up to 64 MiB is never held: bytes become rows, rows become blocks of 1,000, and a
//! block is durable before the next is read.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_actors::batch::{NewRow, RefusedRow, RowErrors, Upload, UploadProgress};

use super::batches;
use crate::auth::{May, SendMessage};
use crate::body::{self, MAX_UPLOAD, Pieces, UPLOAD_RATE};
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::request::{Called, Segment};
use crate::schema::Data;
use crate::state::ApiState;
use crate::validate::{self, field};

pub(crate) mod rows;
pub(crate) mod streams;

use rows::{Format, Splitter};

/// Rows that are durable together.
const BLOCK_ROWS: usize = 1_000;

/// A row of an upload: a number and what it says, or what is wrong with it.
pub(crate) type ReadRow = Result<NewRow, RowErrors>;

/// How far an upload is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Uploaded {
    /// Rows that were dealt with: the number of the next row.
    rows_received: u64,
    /// Rows that became messages.
    taken: u64,
    /// Rows whose recipient was there already.
    duplicates: u64,
    /// Rows whose recipient opted out.
    suppressed: u64,
    /// Rows that could not be taken.
    refused: u64,
    /// The first rows, at most 100, that this upload refused.
    first_refusals: Vec<Refusal>,
}

/// A row that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// Its number, from 0.
    row: u64,
    /// What is wrong with it.
    errors: std::collections::BTreeMap<String, Vec<String>>,
}

impl From<RefusedRow> for Refusal {
    fn from(refused: RefusedRow) -> Self {
        Self {
            row: refused.row,
            errors: refused.errors.into_iter().collect(),
        }
    }
}

impl From<UploadProgress> for Uploaded {
    fn from(upload: UploadProgress) -> Self {
        let UploadProgress {
            progress,
            first_refusals,
        } = upload;
        Self {
            rows_received: progress.rows_received,
            taken: progress.taken,
            duplicates: progress.duplicates,
            suppressed: progress.suppressed,
            refused: progress.refused,
            first_refusals: first_refusals.into_iter().map(Refusal::from).collect(),
        }
    }
}

/// Adds rows to a campaign; each 1,000 are durable together. Rows below `rows_received` are passed
/// over, so repeating a cut upload is safe.
#[utoipa::path(
    post, path = "/{id}/recipients", operation_id = "upload_recipients", tag = "Batches",
    params(
        ("id" = u64, Path, description = "The id of the batch"),
        ("from_row" = Option<u64>, Query, description = "The number of the first row in the body, from 0")
    ),
    request_body(content(
        (String = "application/x-ndjson", example = "{\"recipient\": \"+966501234567\", \"variables\": {\"name\": \"Sara\"}}"),
        (String = "text/csv", example = "recipient,name\n+966501234567,Sara")
    ), description = "Rows as JSON objects, one a line, or as CSV with a header row"),
    responses((status = 200, body = Data<Uploaded>, description = "The rows are on stable storage."))
)]
pub(crate) async fn upload_recipients(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
    called: Called,
    request: Request,
) -> Answer {
    let from_row = validate::query(called.uri(), |form| {
        form.optional("from_row", field::whole(0, i64::MAX))
            .unwrap_or_default()
            .unsigned_abs()
    })?;
    let id = batches::find(&api, &may, &id).await?;
    let (parts, body) = request.into_parts();
    let format = match body::media_type(&parts.headers) {
        Some(kind) if kind.eq_ignore_ascii_case("application/x-ndjson") => Format::NdJson,
        Some(kind) if kind.eq_ignore_ascii_case("text/csv") => Format::Csv,
        _ => {
            return Err(ApiError::UnsupportedMediaType(
                "application/x-ndjson or text/csv",
            ));
        }
    };
    let pieces = Pieces::new(&parts.headers, body, MAX_UPLOAD, UPLOAD_RATE)?;
    let upload = api
        .engine
        .batches()
        .upload(may.account, id, from_row)
        .await?;
    let uploaded = Box::pin(take_in(&api, upload, pieces, Splitter::new(format))).await?;
    envelope::data(Uploaded::from(uploaded))
        .message("Recipients uploaded")
        .answer()
}

/// Reads a body to its end and adds its rows, block by block.
async fn take_in(
    api: &ApiState,
    mut upload: Upload,
    mut pieces: Pieces,
    mut splitter: Splitter,
) -> Result<UploadProgress, ApiError> {
    let mut block: Vec<ReadRow> = Vec::new();
    while let Some(piece) = pieces.next().await? {
        let mut rest: &[u8] = &piece;
        while !rest.is_empty() {
            rest = splitter.feed(rest, &mut block, BLOCK_ROWS)?;
            if block.len() >= BLOCK_ROWS {
                pieces.excuse(add(api, &mut upload, &mut block).await?);
            }
        }
    }
    splitter.end(&mut block)?;
    if !block.is_empty() {
        add(api, &mut upload, &mut block).await?;
    }
    Ok(upload.progress())
}

/// Adds a block; answers how long that took.
async fn add(
    api: &ApiState,
    upload: &mut Upload,
    block: &mut Vec<ReadRow>,
) -> Result<Duration, ApiError> {
    let began = api.engine.clock().mono();
    api.metrics.rows(block.len() as u64);
    upload.append_rows(std::mem::take(block)).await?;
    Ok(api.engine.clock().mono().since(began))
}

/// A body that is written while it is read.
pub(crate) fn streamed(
    content_type: &'static str,
    file_name: Option<&str>,
    stream: impl futures_util::Stream<Item = Result<Bytes, ApiFault>> + Send + 'static,
) -> Response {
    let body = Body::from_stream(stream);
    match file_name {
        Some(name) => envelope::download(content_type, name, body),
        None => envelope::raw_json(http::StatusCode::OK, body),
    }
}

/// Why a stream broke off: its client sees a cut body, never a short one that looks whole.
#[derive(Debug, thiserror::Error)]
#[error("the stream broke off: {0}")]
pub(crate) struct ApiFault(pub(crate) String);
