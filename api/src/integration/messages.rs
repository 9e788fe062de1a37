//! Reads messages: lists, one, its status; and withdraws one.

use axum::extract::{Request, State};
use zajil_model::id::{BatchId, InstanceId};
use zajil_model::lifecycle::Status;
use zajil_model::phone::Phone;
use zajil_model::time::Day;
use zajil_storage::{ListFilter, ListRequest, TotalsFilter};

use super::record::{self, ListedMessage, MessageStatus, Names, WholeMessage};
use crate::auth::{Caller, May, ReadMessages, SendMessage, SendOrRead};
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::json::Value;
use crate::page::{self, Found, PageCursor, PageQuery};
use crate::request::{Called, Post, Segment};
use crate::schema::{Data, Paged};
use crate::state::ApiState;
use crate::validate::{self, Complaint, Form, field};

/// How far back a search by `recipient` or `client_ref` looks when nobody says otherwise.
const SEARCH_DAYS: i32 = 7;

/// How far back such a search may look: it reads what it passes over.
const MAX_SEARCH_DAYS: i32 = 31;

/// Matches that such a search counts.
const MAX_COUNTED: usize = 10_000;

/// Which messages a client asks for.
#[derive(Debug)]
struct Filter {
    instance: Option<String>,
    status: Option<Status>,
    batch: Option<BatchId>,
    from: Option<Day>,
    to: Option<Day>,
    recipient: Option<Phone>,
    client_ref: Option<String>,
}

/// Lists messages, newest first.
#[utoipa::path(
    get, path = "", operation_id = "list_messages", tag = "Messages",
    params(
        ("page" = Option<u64>, Query, description = "The number of the page"),
        ("per_page" = Option<u64>, Query, description = "Entries of a page, at most 200"),
        ("cursor" = Option<String>, Query, description = "The next_cursor of an earlier page"),
        ("status" = Option<String>, Query, description = "Only of this status"),
        ("instance" = Option<String>, Query, description = "Only of this instance: id or name"),
        ("batch_id" = Option<u64>, Query, description = "Only of this batch or bulk"),
        ("from" = Option<String>, Query, description = "Created on this UTC day or later"),
        ("to" = Option<String>, Query, description = "Created before this UTC day"),
        ("recipient" = Option<String>, Query, description = "Only to this number"),
        ("client_ref" = Option<String>, Query, description = "Only with this client_ref"),
    ),
    responses((status = 200, body = Data<Paged<ListedMessage>>, description = "A page of messages."))
)]
pub(crate) async fn list_messages(
    State(api): State<ApiState>,
    may: May<ReadMessages>,
    called: Called,
) -> Answer {
    let (query, filter) = validate::query(called.uri(), |form| {
        (PageQuery::read(form), read_filter(form))
    })?;
    let instances = record::instances_of(&api, &may).await?;
    let names = Names::of(&instances);
    let mut ids: Vec<InstanceId> = instances.iter().map(|instance| instance.id).collect();
    if let Some(named) = &filter.instance {
        ids = vec![named_instance(&api, &may, named).await?];
    }
    let found = if filter.recipient.is_some() || filter.client_ref.is_some() {
        search(&api, filter, ids, query).await?
    } else {
        list(&api, &may, filter, ids, query).await?
    };
    let items = found
        .items
        .iter()
        .map(|record| ListedMessage::new(record, &names))
        .collect();
    let Found {
        total,
        capped,
        next,
        ..
    } = found;
    page::answer(
        &called,
        query,
        Found {
            items,
            total,
            capped,
            next,
        },
    )
}

fn read_filter(form: &mut Form<'_, '_>) -> Filter {
    Filter {
        instance: form.optional("instance", field::instance),
        status: form.optional("status", status),
        batch: form.optional("batch_id", field::id),
        from: form.optional("from", field::day),
        to: form.optional("to", field::day),
        recipient: form.optional("recipient", recipient),
        client_ref: form.optional("client_ref", field::text(1, 128)),
    }
}

/// Reads the word of a status.
pub(crate) fn status(value: Value<'_>) -> Result<Status, Complaint> {
    let word = field::any_text(value)?;
    Status::parse(&word).ok_or_else(|| {
        let words: Vec<&str> = Status::ALL.iter().map(|status| status.label()).collect();
        format!("must be one of: {}.", words.join(", ")).into()
    })
}

/// Reads a number from a query, in which an unescaped `+` means a space.
fn recipient(value: Value<'_>) -> Result<Phone, Complaint> {
    let text = field::any_text(value)?;
    match text.strip_prefix(' ') {
        Some(digits) => field::read_phone(&format!("+{digits}")),
        None => field::read_phone(&text),
    }
}

/// The instance that a filter names; a fault if it is none of the caller's.
pub(crate) async fn named_instance(
    api: &ApiState,
    caller: &Caller,
    named: &str,
) -> Result<InstanceId, ApiError> {
    let found = api
        .engine
        .directory()
        .instance(caller.account, named)
        .await?;
    let found = found.filter(|instance| caller.may_use(instance.id));
    found.map(|instance| instance.id).ok_or_else(|| {
        ApiError::field(
            "instance",
            "is not the id or name of one of your instances.",
        )
    })
}

type Records = Found<zajil_storage::MessageRecord>;

/// A page of a list whose total is kept.
async fn list(
    api: &ApiState,
    caller: &Caller,
    filter: Filter,
    instances: Vec<InstanceId>,
    query: PageQuery,
) -> Result<Records, ApiError> {
    let wanted = ListFilter {
        instances: instances.clone(),
        status: filter.status,
        batch: filter.batch,
        from: filter.from.map(Day::start),
        to: filter.to.map(Day::start),
        recipient: None,
        client_ref: None,
    };
    let total = match filter.batch {
        Some(batch) if !is_campaign(api, caller, batch).await? => {
            count(api, wanted.clone()).await?
        }
        batch => {
            let (from, to) = (filter.from, filter.to);
            let totals = api.engine.store().totals(TotalsFilter {
                instances,
                batch,
                from,
                to,
            });
            let totals = totals.await?;
            filter
                .status
                .map_or_else(|| totals.sum(), |status| totals.of(status))
        }
    };
    let request = ListRequest {
        filter: wanted,
        before: query.below(),
        skip: query.skip(),
        limit: query.per_page,
    };
    let page = api.engine.store().list(request).await?;
    let next = page.next.map(PageCursor::Below);
    Ok(Found {
        items: page.messages,
        total,
        capped: false,
        next,
    })
}

/// Whether a batch is a campaign; the reference of a bulk is none, and has no totals.
async fn is_campaign(api: &ApiState, caller: &Caller, id: BatchId) -> Result<bool, ApiError> {
    match api.engine.batches().view(caller.account, id).await {
        Ok(_) => Ok(true),
        Err(zajil_actors::batch::BatchError::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn count(api: &ApiState, filter: ListFilter) -> Result<u64, ApiError> {
    let request = ListRequest {
        filter,
        before: None,
        skip: 0,
        limit: MAX_COUNTED,
    };
    Ok(api.engine.store().list(request).await?.messages.len() as u64)
}

/// A page of a search, which reads what it passes over: it is bounded in days and in matches.
async fn search(
    api: &ApiState,
    filter: Filter,
    instances: Vec<InstanceId>,
    query: PageQuery,
) -> Result<Records, ApiError> {
    let end = filter.to.unwrap_or(Day(api.now().day().0 + 1));
    let begin = filter
        .from
        .unwrap_or(Day(end.0.saturating_sub(SEARCH_DAYS)));
    if end.0.saturating_sub(begin.0) > MAX_SEARCH_DAYS {
        let complaint = format!("must not be more than {MAX_SEARCH_DAYS} days before to.");
        return Err(ApiError::field("from", complaint));
    }
    let wanted = ListFilter {
        instances,
        status: filter.status,
        batch: filter.batch,
        from: Some(begin.start()),
        to: Some(end.start()),
        recipient: filter.recipient,
        client_ref: filter.client_ref,
    };
    let all = ListRequest {
        filter: wanted,
        before: None,
        skip: 0,
        limit: MAX_COUNTED + 1,
    };
    let mut matches = api.engine.store().list(all).await?.messages;
    let capped = matches.len() > MAX_COUNTED;
    matches.truncate(MAX_COUNTED);
    let total = matches.len() as u64;
    let before = query.below();
    let mut rest = matches
        .into_iter()
        .filter(|record| before.is_none_or(|before| record.id() < before))
        .skip(usize::try_from(query.skip()).unwrap_or(usize::MAX))
        .peekable();
    let items: Vec<_> = rest.by_ref().take(query.per_page).collect();
    let next = rest
        .peek()
        .and(items.last())
        .map(|record| PageCursor::Below(record.id()));
    Ok(Found {
        items,
        total,
        capped,
        next,
    })
}

/// Shows a message with all that is known of it.
#[utoipa::path(
    get, path = "/{id}", operation_id = "get_message", tag = "Messages",
    params(("id" = u64, Path, description = "The id of the message")),
    responses((status = 200, body = Data<WholeMessage>, description = "The message."))
)]
pub(crate) async fn get_message(
    State(api): State<ApiState>,
    may: May<ReadMessages>,
    Segment(id): Segment,
) -> Answer {
    let record = record::find(&api, &may, &id).await?;
    whole(&api, &record).await
}

async fn whole(api: &ApiState, record: &zajil_storage::MessageRecord) -> Answer {
    let waiting = if record.state.status.is_settled() {
        None
    } else {
        api.engine.waiting_for(record).await
    };
    let instance = api
        .engine
        .directory()
        .instance_by_id(record.chunk.instance)
        .await?;
    let names = Names::of(instance.as_slice());
    envelope::data(WholeMessage::new(api, record, &names, waiting)).answer()
}

/// Shows the status of a message.
#[utoipa::path(
    get, path = "/{id}/status", operation_id = "get_message_status", tag = "Messages",
    params(("id" = u64, Path, description = "The id of the message")),
    responses((status = 200, body = Data<MessageStatus>, description = "Its status."))
)]
pub(crate) async fn get_message_status(
    State(api): State<ApiState>,
    may: May<SendOrRead>,
    Segment(id): Segment,
) -> Answer {
    let record = record::find(&api, &may, &id).await?;
    envelope::data(MessageStatus::new(&api, &record)).answer()
}

/// Withdraws a message that is not being sent yet.
#[utoipa::path(
    post, path = "/{id}/cancel", operation_id = "cancel_message", tag = "Messages",
    params(("id" = u64, Path, description = "The id of the message")),
    responses((status = 200, body = Data<MessageStatus>, description = "It is cancelled."))
)]
pub(crate) async fn cancel_message(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    Segment(id): Segment,
    request: Request,
) -> Answer {
    let post = Post::bare(&api, request).await?;
    post.once(&api, &may, async {
        let id = record::find(&api, &may, &id).await?.id();
        let record = api.engine.cancel(may.account, id).await?;
        envelope::data(MessageStatus::new(&api, &record))
            .message("Message cancelled")
            .answer()
    })
    .await
}
