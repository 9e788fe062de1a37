//! What became of a campaign, as streams: as long as they are, they take the memory of one step.

use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;
use futures_util::stream;
use zajil_model::id::{AccountId, BatchId, MessageId};
use zajil_model::lifecycle::Status;
use zajil_storage::MessageRecord;

use super::{ApiFault, streamed};
use crate::auth::{Caller, May, SendMessage};
use crate::envelope::Answer;
use crate::error::ApiError;
use crate::integration::batches;
use crate::integration::messages;
use crate::integration::record::{ListedMessage, Names};
use crate::page::message_cursor;
use crate::request::{Called, Segment};
use crate::stamp::Stamp;
use crate::state::ApiState;
use crate::validate;

/// Entries read in one step.
const STEP: usize = 500;

/// Where a stream of messages is.
struct Walk {
    api: ApiState,
    account: AccountId,
    batch: BatchId,
    status: Option<Status>,
    next: Next,
}

/// What a stream does next.
#[derive(Clone, Copy)]
enum Next {
    Begin(Option<MessageId>),
    Below(MessageId),
    End,
    Over,
}

impl Walk {
    /// The next messages, and where to go on.
    async fn step(
        &self,
        before: Option<MessageId>,
    ) -> Result<(Vec<MessageRecord>, Next), ApiFault> {
        let batches = self.api.engine.batches();
        let page = batches
            .messages(self.account, self.batch, self.status, before, STEP)
            .await
            .map_err(|error| ApiFault(error.to_string()))?;
        Ok((page.messages, page.next.map_or(Next::End, Next::Below)))
    }
}

/// Streams the messages of a campaign, newest first, in one answer.
#[utoipa::path(
    get, path = "/{id}/messages", operation_id = "list_batch_messages", tag = "Batches",
    params(
        ("id" = u64, Path, description = "The id of the batch"),
        ("status" = Option<String>, Query, description = "Only of this status"),
        ("cursor" = Option<String>, Query, description = "Goes on below this message id")
    ),
    responses((status = 200, body = crate::schema::Data<Vec<ListedMessage>>, description = "All of them."))
)]
pub(crate) async fn list_batch_messages(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
    called: Called,
) -> Answer {
    let (status, cursor) = validate::query(called.uri(), |form| {
        (
            form.optional("status", messages::status),
            form.optional("cursor", message_cursor),
        )
    })?;
    let (walk, names) = begin(&api, &may, &id, status, cursor).await?;
    let names = Arc::new(names);
    let stream = stream::try_unfold(walk, move |mut walk| {
        let names = Arc::clone(&names);
        async move {
            let (before, mut text) = match walk.next {
                Next::Begin(before) => (before, String::from("{\"success\":true,\"data\":[")),
                Next::Below(id) => (Some(id), String::new()),
                Next::End => {
                    walk.next = Next::Over;
                    return Ok(Some((Bytes::from_static(b"]}"), walk)));
                }
                Next::Over => return Ok(None),
            };
            let is_first = matches!(walk.next, Next::Begin(_));
            let (records, next) = walk.step(before).await?;
            for (index, record) in records.iter().enumerate() {
                if !is_first || index > 0 {
                    text.push(',');
                }
                let json = serde_json::to_string(&ListedMessage::new(record, &names));
                text.push_str(&json.map_err(|error| ApiFault(error.to_string()))?);
            }
            walk.next = next;
            Ok(Some((Bytes::from(text), walk)))
        }
    });
    Ok(streamed("application/json", None, stream))
}

/// Streams a campaign's messages as CSV: one row each, with what became of it.
#[utoipa::path(
    get, path = "/{id}/report.csv", operation_id = "get_batch_report", tag = "Batches",
    params(("id" = u64, Path, description = "The id of the batch")),
    responses((status = 200, content_type = "text/csv", body = String, description = "The report."))
)]
pub(crate) async fn get_batch_report(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
) -> Answer {
    let (walk, names) = begin(&api, &may, &id, None, None).await?;
    let file_name = format!("batch-{}-report.csv", walk.batch);
    let names = Arc::new(names);
    let stream = stream::try_unfold(walk, move |mut walk| {
        let names = Arc::clone(&names);
        async move {
            let (before, with_header) = match walk.next {
                Next::Begin(before) => (before, true),
                Next::Below(id) => (Some(id), false),
                Next::End | Next::Over => return Ok(None),
            };
            let (records, next) = walk.step(before).await?;
            let bytes = report(&records, &names, with_header)
                .map_err(|error| ApiFault(error.to_string()))?;
            walk.next = next;
            Ok(Some((bytes, walk)))
        }
    });
    Ok(streamed(
        "text/csv; charset=utf-8",
        Some(&file_name),
        stream,
    ))
}

async fn begin(
    api: &ApiState,
    caller: &Caller,
    id: &str,
    status: Option<Status>,
    before: Option<MessageId>,
) -> Result<(Walk, Names), ApiError> {
    let batch = batches::find(api, caller, id).await?;
    let record = api.engine.batches().record(caller.account, batch).await?;
    let senders = record
        .senders
        .into_iter()
        .map(|sender| (sender.instance, sender.name));
    let names = Names::from_iter(senders);
    let walk = Walk {
        api: api.clone(),
        account: caller.account,
        batch,
        status,
        next: Next::Begin(before),
    };
    Ok((walk, names))
}

const REPORT_HEADER: [&str; 10] = [
    "message_id",
    "recipient",
    "instance",
    "status",
    "client_ref",
    "created_at",
    "sent_at",
    "delivered_at",
    "read_at",
    "error",
];

fn report(
    records: &[MessageRecord],
    names: &Names,
    with_header: bool,
) -> Result<Bytes, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if with_header {
        writer.write_record(REPORT_HEADER)?;
    }
    let time = |time: Option<_>| time.map(|time| Stamp(time).to_string()).unwrap_or_default();
    for record in records {
        let (message, state) = (record.message(), &record.state);
        writer.write_record([
            record.id().to_string(),
            message.recipient.to_string(),
            names.name(record.chunk.instance).name,
            state.status.label().to_owned(),
            message.client_ref.as_deref().unwrap_or_default().to_owned(),
            Stamp(record.chunk.created_at).to_string(),
            time(state.sent_at),
            time(state.delivered_at),
            time(state.read_at),
            state
                .failure
                .map(|failure| failure.reason.label().to_owned())
                .unwrap_or_default(),
        ])?;
    }
    finished(writer)
}

fn finished(writer: csv::Writer<Vec<u8>>) -> Result<Bytes, csv::Error> {
    let bytes = writer
        .into_inner()
        .map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(bytes.into())
}

/// Streams the rows that a campaign refused as CSV, with what is wrong with each.
#[utoipa::path(
    get, path = "/{id}/refused.csv", operation_id = "get_batch_refusals", tag = "Batches",
    params(("id" = u64, Path, description = "The id of the batch")),
    responses((status = 200, content_type = "text/csv", body = String, description = "The rows."))
)]
pub(crate) async fn get_batch_refusals(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
) -> Answer {
    let batch = batches::find(&api, &may, &id).await?;
    let account = may.account;
    let file_name = format!("batch-{batch}-refused.csv");
    // The place is the last row shown; the outer `None` is the end.
    let stream = stream::try_unfold(Some(None), move |place: Option<Option<u64>>| {
        let api = api.clone();
        async move {
            let Some(after) = place else { return Ok(None) };
            let rows = api
                .engine
                .batches()
                .refused(account, batch, after, STEP)
                .await
                .map_err(|error| ApiFault(error.to_string()))?;
            let place = if rows.len() == STEP {
                rows.last().map(|row| Some(row.row))
            } else {
                None
            };
            let bytes = refusals(&rows, after.is_none());
            Ok(Some((
                bytes.map_err(|error| ApiFault(error.to_string()))?,
                place,
            )))
        }
    });
    Ok(streamed(
        "text/csv; charset=utf-8",
        Some(&file_name),
        stream,
    ))
}

fn refusals(
    rows: &[zajil_actors::batch::RefusedRow],
    with_header: bool,
) -> Result<Bytes, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if with_header {
        writer.write_record(["row", "field", "error"])?;
    }
    for row in rows {
        for (field, sentences) in &row.errors {
            writer.write_record([&row.row.to_string(), field, &sentences.join(" ")])?;
        }
    }
    finished(writer)
}
