//! Sends up to 100 messages in one request, each judged by itself.

use std::cell::RefCell;

use axum::extract::{Request, State};
use http::StatusCode;
use zajil_actors::directory::SuppressionSet;
use zajil_model::id::TemplateId;
use zajil_model::message::limits::MAX_BULK;
use zajil_model::message::{Lane, Message, Payload};
use zajil_model::phone::Phone;
use zajil_model::template::Template;
use zajil_model::time::Timestamp;

use super::draft::{self, Consignment, Target, Timing, Words};
use crate::auth::{Caller, May, SendMessage};
use crate::body::MAX_BULK as MAX_BULK_BYTES;
use crate::envelope::Answer;
use crate::error::ApiError;
use crate::json::Value;
use crate::request::{Post, Turn};
use crate::schema;
use crate::state::ApiState;
use crate::validate::{Form, Place, Report, field};

mod answer;

use answer::{answer, split};

/// What is done with the good messages of a bulk that has bad ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnInvalid {
    /// They are queued.
    Skip,
    /// They are refused with the bad ones.
    Reject,
}

const ON_INVALID: &[(&str, OnInvalid)] =
    &[("skip", OnInvalid::Skip), ("reject", OnInvalid::Reject)];

/// What holds for all messages of a bulk.
#[derive(Debug)]
struct Bulk {
    instance: Option<String>,
    lane: Lane,
    on_invalid: OnInvalid,
    words: Option<Words>,
    timing: Timing,
    items: Vec<Item>,
}

/// One message of a bulk as it was read.
#[derive(Debug)]
struct Item {
    /// What the client wrote, if that is no number.
    written: Option<String>,
    target: Option<Target>,
    own: Own,
    timing: Timing,
    client_ref: Option<Box<str>>,
    report: Report,
}

/// What a message of a bulk says by itself.
#[derive(Debug)]
enum Own {
    /// This.
    Words(Option<Words>),
    /// What all say, with values of its own.
    Shared(Vec<(String, String)>),
}

/// Accepts up to 100 messages. Good ones are queued, bad ones refused in `results`; with
/// `on_invalid: "reject"` all of them or none. Once this answers, the queued ones are on stable
/// storage.
#[utoipa::path(
    post, path = "/send-bulk", operation_id = "send_bulk", tag = "Messages",
    request_body = schema::SendBulk,
    responses((status = 200, body = schema::Data<schema::BulkSent>, description = "The good messages are on stable storage."))
)]
pub(crate) async fn send_bulk(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BULK_BYTES).await?;
    let now = api.now();
    let ticket = match post.turn(&api, &may).await? {
        Turn::Again(response) => return Ok(response),
        Turn::Fresh(ticket) => ticket,
    };
    let (bulk, mut report) = post.read(|form| read(form, now))?;
    let mut timing = bulk.timing;
    timing.on_ambiguous = draft::settled_on_ambiguous(&api, &may, timing.on_ambiguous).await?;
    let instance = draft::find_instance(&api, &may, bulk.instance.as_deref(), &mut report).await?;
    let shared = Shared::find(&api, &may, bulk.words, &mut report).await?;
    let optouts = api.engine.directory().suppressions(may.account).await?;
    let mut judged = Vec::with_capacity(bulk.items.len());
    for item in bulk.items {
        judged.push(judge(&api, &may, item, &shared, timing, &optouts).await?);
    }
    let none_good = judged.iter().all(|one| one.message.is_none());
    let some_bad = judged.iter().any(|one| one.message.is_none());
    let refuse = none_good || (some_bad && bulk.on_invalid == OnInvalid::Reject);
    absorb(&mut report, &mut judged, refuse);
    let warnings = report.accepted()?;
    let instance = instance.ok_or(ApiError::Internal)?;
    let (messages, lines) = split(judged);
    let bytes = post.body.len();
    let consignment = Consignment {
        instance,
        lane: bulk.lane,
        messages,
        bulk: true,
        bytes,
    };
    draft::accept(&api, ticket, consignment, StatusCode::OK, |reserved| {
        answer(reserved, &lines, warnings.clone())
    })
    .await
}

fn read(form: &mut Form<'_, '_>, now: Timestamp) -> Bulk {
    let bulk = Bulk {
        instance: form.required("instance", field::instance),
        lane: form
            .optional("priority", field::choice(draft::PRIORITIES))
            .unwrap_or(Lane::Normal),
        on_invalid: form
            .optional("on_invalid", field::choice(ON_INVALID))
            .unwrap_or(OnInvalid::Skip),
        timing: draft::timing(form, now),
        words: draft::words(form),
        items: items(form, now),
    };
    form.refuse_not_yet();
    bulk
}

fn items(form: &mut Form<'_, '_>, now: Timestamp) -> Vec<Item> {
    let Some(values) = form.required("messages", field::list) else {
        return Vec::new();
    };
    if values.is_empty() {
        form.fault("messages", "must have at least 1 item.");
    }
    if values.len() > MAX_BULK {
        form.fault(
            "messages",
            format!("must not have more than {MAX_BULK} items."),
        );
    }
    values
        .into_iter()
        .take(MAX_BULK)
        .map(|value| item(value, now))
        .collect()
}

fn item(value: Value<'_>, now: Timestamp) -> Item {
    let report = RefCell::new(Report::default());
    let is_object = matches!(value, Value::Object(_));
    let mut form = Form::new(value, Place::Root, &report);
    if !is_object {
        let own = Own::Words(None);
        let (target, timing, client_ref) = (None, Timing::default(), None);
        return Item {
            written: None,
            target,
            own,
            timing,
            client_ref,
            report: report.into_inner(),
        };
    }
    let written = form.text_unless("recipient", |text| Phone::parse(text).is_ok());
    let target = draft::target(&mut form);
    let own = if draft::has_words(&form) {
        Own::Words(draft::words(&mut form))
    } else {
        let variables = form.optional("template_variables", field::pairs);
        Own::Shared(variables.unwrap_or_default())
    };
    if form.take("priority").is_some() {
        form.fault(
            "priority",
            "must stand beside messages: a bulk has one priority.",
        );
    }
    let timing = draft::timing(&mut form, now);
    let client_ref = draft::client_ref(&mut form);
    form.refuse_not_yet();
    form.done();
    Item {
        written,
        target,
        own,
        timing,
        client_ref,
        report: report.into_inner(),
    }
}

/// What all messages of a bulk say, unless they bring words of their own.
#[derive(Debug)]
enum Shared {
    None,
    Content(String),
    Template(Template, Vec<(String, String)>),
    /// It has a fault, which is noted once and not for each message.
    Faulty,
}

impl Shared {
    async fn find(
        api: &ApiState,
        caller: &Caller,
        words: Option<Words>,
        report: &mut Report,
    ) -> Result<Self, ApiError> {
        let faulty = ["content", "template_id", "template_variables"];
        match words {
            None if faulty.iter().any(|name| report.has(name)) => Ok(Self::Faulty),
            None => Ok(Self::None),
            Some(Words::Content(content)) => Ok(Self::Content(content)),
            Some(Words::Template(id, variables)) => {
                match find_template(api, caller, id, report).await? {
                    Some(template) => Ok(Self::Template(template, variables)),
                    None => Ok(Self::Faulty),
                }
            }
        }
    }

    /// The content of a message with values of its own.
    fn content(&self, own: Vec<(String, String)>, report: &mut Report) -> Option<Box<str>> {
        match self {
            Self::Content(content) => Some(content.as_str().into()),
            Self::Template(template, shared) => {
                // The first value of a name holds.
                let variables: Vec<_> = own.into_iter().chain(shared.iter().cloned()).collect();
                draft::fill_in(template, &variables, report)
            }
            Self::Faulty => None,
            Self::None => {
                report.fault("content", "is required when the bulk has no content.");
                None
            }
        }
    }
}

async fn find_template(
    api: &ApiState,
    caller: &Caller,
    id: TemplateId,
    report: &mut Report,
) -> Result<Option<Template>, ApiError> {
    let template = api.engine.directory().template(caller.account, id).await?;
    if template.is_none() {
        report.fault("template_id", "is not the id of one of your templates.");
    }
    Ok(template.map(|template| Template::parse(&template.content)))
}

/// A message of a bulk after it was judged.
#[derive(Debug)]
struct Judged {
    written: Option<String>,
    recipient: Option<Phone>,
    message: Option<Message>,
    report: Report,
}

async fn judge(
    api: &ApiState,
    caller: &Caller,
    item: Item,
    shared: &Shared,
    timing: Timing,
    optouts: &SuppressionSet,
) -> Result<Judged, ApiError> {
    let Item {
        written,
        target,
        own,
        timing: own_timing,
        client_ref,
        mut report,
    } = item;
    let recipient = draft::find_phone(api, caller, target, &mut report).await?;
    let content = match own {
        Own::Words(words) => draft::find_content(api, caller, words, &mut report).await?,
        Own::Shared(variables) => shared.content(variables, &mut report),
    };
    if recipient.is_some_and(|phone| optouts.contains(phone)) {
        report.fault("recipient", "has opted out.");
    }
    let timing = Timing {
        send_at: own_timing.send_at.or(timing.send_at),
        ttl: own_timing.ttl.or(timing.ttl),
        on_ambiguous: own_timing.on_ambiguous.or(timing.on_ambiguous),
    };
    let message = match (recipient, content) {
        (Some(recipient), Some(content)) if report.is_clean() => Some(draft::message(
            recipient,
            Payload::Text(content),
            timing,
            client_ref,
        )),
        _ => None,
    };
    Ok(Judged {
        written,
        recipient,
        message,
        report,
    })
}

/// Takes what was found in the messages into the report of the bulk: the faults only if they are
/// why the bulk is refused.
fn absorb(report: &mut Report, judged: &mut [Judged], refuse: bool) {
    let messages = Place::Member(&Place::Root, "messages");
    for (index, one) in judged.iter_mut().enumerate() {
        let place = Place::Item(&messages, index);
        if refuse || !report.is_clean() {
            report.absorb(place, std::mem::take(&mut one.report));
        } else {
            let ignored = one.report.take_ignored();
            report.absorb_ignored(place, ignored);
        }
    }
}
