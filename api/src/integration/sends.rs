//! Sends one message: a text, a poll, a list or a reaction.

use axum::extract::{Request, State};
use http::StatusCode;
use serde::Serialize;
use zajil_actors::send::Reserved;
use zajil_model::message::{Lane, Payload, limits};
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use super::draft::{self, Consignment, Target, Timing, Words};
use crate::auth::{Caller, May, SendMessage};
use crate::body::MAX_BODY;
use crate::envelope::{Answer, written};
use crate::error::ApiError;
use crate::request::{Post, Turn};
use crate::schema;
use crate::stamp::Stamp;
use crate::state::ApiState;
use crate::validate::{Form, Report, field};

mod kinds;

/// Where the other kinds of messages go.
const OTHER_KINDS: &str = "must be text. Other kinds have routes of their own: \
     /messages/send-poll, /messages/send-list, /messages/send-reaction.";

/// One message as it was read.
#[derive(Debug)]
struct Draft {
    instance: Option<String>,
    target: Option<Target>,
    body: Body,
    lane: Lane,
    timing: Timing,
    client_ref: Option<Box<str>>,
}

/// What it carries.
#[derive(Debug)]
enum Body {
    Text(Option<Words>),
    Other(Payload),
}

/// Accepts a text. Once this answers 201, the message is on stable storage.
#[utoipa::path(
    post, path = "/send", operation_id = "send_message", tag = "Messages",
    request_body = schema::SendMessage,
    responses((status = 201, body = schema::Data<schema::Sent>, description = "The message is on stable storage."))
)]
pub(crate) async fn send_message(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BODY).await?;
    let now = api.now();
    let read = post.read(|form| {
        let kind = form.optional("message_type", field::any_text);
        if kind.is_some_and(|kind| kind != "text") {
            form.fault("message_type", OTHER_KINDS);
        }
        if !draft::has_words(form) {
            form.fault("content", "is required when template id is not present.");
        }
        let words = draft::words(form);
        read_rest(form, Body::Text(words), now)
    })?;
    send(&api, &may, &post, read, |sent| {
        written(
            Some("Message queued for sending"),
            &Queued {
                message_id: sent.id,
                status: sent.status,
                recipient: sent.recipient.to_string(),
                message_type: "text",
                instance: schema::InstanceName {
                    id: sent.instance.0,
                    name: sent.instance.1,
                },
                queued_at: Stamp(sent.reserved.created_at),
            },
            sent.warnings,
        )
    })
    .await
}

#[derive(Serialize)]
struct Queued<'s> {
    message_id: u64,
    status: &'s str,
    recipient: String,
    message_type: &'s str,
    instance: schema::InstanceName,
    queued_at: Stamp,
}

/// Accepts a poll.
#[utoipa::path(
    post, path = "/send-poll", operation_id = "send_poll", tag = "Messages",
    request_body = schema::SendPoll,
    responses((status = 201, body = schema::Data<schema::SentPoll>, description = "The poll is on stable storage."))
)]
pub(crate) async fn send_poll(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BODY).await?;
    let now = api.now();
    let read = post.read(|form| {
        let poll = kinds::poll(form);
        read_rest(form, Body::Other(Payload::Poll(Box::new(poll))), now)
    })?;
    let (draft, _) = &read;
    let poll = match &draft.body {
        Body::Other(Payload::Poll(poll)) => Some(schema::PollShown {
            question: poll.question.clone(),
            options: poll.options.clone(),
            selectable_count: poll.selectable_count,
        }),
        _ => None,
    };
    send(&api, &may, &post, read, |sent| {
        let body = Other {
            poll: poll.clone(),
            ..Other::with_recipient(&sent)
        };
        written(
            Some("Poll message queued successfully"),
            &body,
            sent.warnings,
        )
    })
    .await
}

/// Accepts a list.
#[utoipa::path(
    post, path = "/send-list", operation_id = "send_list", tag = "Messages",
    request_body = schema::SendList,
    responses((status = 201, body = schema::Data<schema::SentShort>, description = "The list is on stable storage."))
)]
pub(crate) async fn send_list(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BODY).await?;
    let now = api.now();
    let read = post.read(|form| {
        let list = kinds::list(form);
        read_rest(form, Body::Other(Payload::List(Box::new(list))), now)
    })?;
    send(&api, &may, &post, read, |sent| {
        let body = Other::with_recipient(&sent);
        written(
            Some("List message queued successfully"),
            &body,
            sent.warnings,
        )
    })
    .await
}

/// Accepts a reaction to an earlier message; an empty one removes it.
#[utoipa::path(
    post, path = "/send-reaction", operation_id = "send_reaction", tag = "Messages",
    request_body = schema::SendReaction,
    responses((status = 201, body = schema::Data<schema::SentReaction>, description = "The reaction is on stable storage."))
)]
pub(crate) async fn send_reaction(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BODY).await?;
    let read = post.read(|form| {
        let reaction = kinds::reaction(form);
        let recipient = limits::recipient_of_jid(&reaction.key.remote_jid).ok();
        let on_ambiguous = draft::on_ambiguous(form);
        let draft = Draft {
            instance: form.required("instance", field::instance),
            target: recipient.map(Target::Phone),
            body: Body::Other(Payload::Reaction(Box::new(reaction))),
            lane: Lane::Normal,
            timing: Timing {
                on_ambiguous,
                ..Timing::default()
            },
            client_ref: draft::client_ref(form),
        };
        form.refuse_not_yet();
        draft
    })?;
    let (draft, _) = &read;
    let reaction = match &draft.body {
        Body::Other(payload) => Some(payload.headline().to_owned()),
        Body::Text(_) => None,
    };
    send(&api, &may, &post, read, |sent| {
        let body = Other {
            reaction: reaction.clone(),
            ..Other::new(sent.id, sent.status)
        };
        written(Some("Reaction queued successfully"), &body, sent.warnings)
    })
    .await
}

/// What the other kinds answer; each shows what it has.
#[derive(Serialize)]
struct Other<'s> {
    message_id: u64,
    status: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    poll: Option<schema::PollShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reaction: Option<String>,
}

impl<'s> Other<'s> {
    const fn new(message_id: u64, status: &'s str) -> Self {
        Self {
            message_id,
            status,
            recipient: None,
            poll: None,
            reaction: None,
        }
    }

    fn with_recipient(sent: &Sent<'_>) -> Self {
        let recipient = Some(sent.recipient.to_string());
        Self {
            recipient,
            ..Self::new(sent.id, sent.status)
        }
    }
}

/// A message that has its id and is about to be accepted.
struct Sent<'s> {
    id: u64,
    status: &'static str,
    reserved: &'s Reserved,
    recipient: Phone,
    instance: (u64, String),
    warnings: Vec<String>,
}

/// Reads what every message but a reaction has.
fn read_rest(form: &mut Form<'_, '_>, body: Body, now: Timestamp) -> Draft {
    let draft = Draft {
        instance: form.required("instance", field::instance),
        target: draft::target(form),
        body,
        lane: form
            .optional("priority", field::choice(draft::PRIORITIES))
            .unwrap_or(Lane::Normal),
        timing: draft::timing(form, now),
        client_ref: draft::client_ref(form),
    };
    form.refuse_not_yet();
    draft
}

/// Finds what a draft names, and accepts it.
async fn send(
    api: &ApiState,
    caller: &Caller,
    post: &Post,
    (draft, mut report): (Draft, Report),
    answer: impl Fn(Sent<'_>) -> Vec<u8>,
) -> Answer {
    let ticket = match post.turn(api, caller).await? {
        Turn::Again(response) => return Ok(response),
        Turn::Fresh(ticket) => ticket,
    };
    let report_mut = &mut report;
    let instance = draft::find_instance(api, caller, draft.instance.as_deref(), report_mut).await?;
    let recipient = draft::find_phone(api, caller, draft.target, report_mut).await?;
    let payload = match draft.body {
        Body::Other(payload) => Some(payload),
        Body::Text(words) => draft::find_content(api, caller, words, report_mut)
            .await?
            .map(Payload::Text),
    };
    let warnings = report.accepted()?;
    let (Some(instance), Some(recipient), Some(payload)) = (instance, recipient, payload) else {
        // Each of them was found, or its fault was noted.
        return Err(ApiError::Internal);
    };
    if api
        .engine
        .directory()
        .suppressions(caller.account)
        .await?
        .contains(recipient)
    {
        return Err(ApiError::RecipientSuppressed);
    }
    let name = (instance.id.get(), instance.name.clone());
    let send_at = draft.timing.send_at;
    let mut timing = draft.timing;
    timing.on_ambiguous = draft::settled_on_ambiguous(api, caller, timing.on_ambiguous).await?;
    let message = draft::message(recipient, payload, timing, draft.client_ref);
    let consignment = Consignment {
        instance,
        lane: draft.lane,
        messages: vec![message],
        bulk: false,
        bytes: post.body.len(),
    };
    draft::accept(api, ticket, consignment, StatusCode::CREATED, |reserved| {
        answer(Sent {
            id: reserved.first.get(),
            status: draft::first_status(send_at, reserved.created_at),
            reserved,
            recipient,
            instance: name.clone(),
            warnings: warnings.clone(),
        })
    })
    .await
}
