//! What all sends have in common: reading their members, finding what they name, accepting them.

use std::sync::Arc;

use http::StatusCode;
use zajil_actors::idempotency::Ticket;
use zajil_actors::send::{AcceptError, Reserved, Submission};
use zajil_model::id::{ContactId, RequestId, TemplateId};
use zajil_model::instance::Instance;
use zajil_model::lifecycle::Status;
use zajil_model::message::{DEFAULT_TTL_SECONDS, Lane, Message, OnAmbiguous, Payload, limits};
use zajil_model::phone::Phone;
use zajil_model::template::Template;
use zajil_model::time::Timestamp;

use crate::auth::Caller;
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::request::{given_back, kept};
use crate::state::ApiState;
use crate::validate::{Form, Report, field};

/// The lanes that a client may choose.
pub(crate) const PRIORITIES: &[(&str, Lane)] = &[("high", Lane::High), ("normal", Lane::Normal)];

/// What may be asked for when an outcome cannot be known.
pub(crate) const ON_AMBIGUOUS: &[(&str, OnAmbiguous)] = &[
    ("unknown", OnAmbiguous::Unknown),
    ("resend", OnAmbiguous::Resend),
];

/// For how many owners in a row ids are reserved, when the instance moves on before they are used.
const OWNERS: usize = 3;

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A number.
    Phone(Phone),
    /// A contact of the account.
    Contact(ContactId),
}

/// What a text message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Words {
    /// This.
    Content(String),
    /// A template of the account, filled in.
    Template(TemplateId, Vec<(String, String)>),
}

/// When and how a message goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Not before this.
    pub(crate) send_at: Option<Timestamp>,
    /// Seconds from due until it expires.
    pub(crate) ttl: Option<u32>,
    /// What to do when its outcome cannot be known.
    pub(crate) on_ambiguous: Option<OnAmbiguous>,
}

/// Reads `recipient` or `contact_id`: exactly one of them.
pub(crate) fn target(form: &mut Form<'_, '_>) -> Option<Target> {
    let (by_phone, by_contact) = (form.has("recipient"), form.has("contact_id"));
    if !by_phone && !by_contact {
        form.fault("recipient", "is required when contact id is not present.");
    }
    if by_phone && by_contact {
        form.fault("contact_id", "must not be present beside recipient.");
    }
    let phone = form.optional("recipient", field::phone);
    let contact = form.optional("contact_id", field::id);
    phone.map(Target::Phone).or(contact.map(Target::Contact))
}

/// Reads `content` or `template_id` with `template_variables`: at most one of the two; `None` when
/// neither is there, or what is there has a fault.
pub(crate) fn words(form: &mut Form<'_, '_>) -> Option<Words> {
    let both = form.has("content") && form.has("template_id");
    if both {
        form.fault("template_id", "must not be present beside content.");
    }
    let template = form.optional("template_id", field::id::<TemplateId>);
    let variables = form
        .optional("template_variables", field::pairs)
        .unwrap_or_default();
    let content = form
        .optional("content", field::any_text)
        .and_then(|content| {
            let checked = limits::check_text(&content);
            checked
                .map_err(|sentence| form.sentence("content", sentence))
                .ok()
                .map(|()| content)
        });
    let by_template = template.map(|id| Words::Template(id, variables));
    content.map(Words::Content).or(by_template)
}

/// Whether a form says what a text message is to say, with or without faults.
pub(crate) fn has_words(form: &Form<'_, '_>) -> bool {
    form.has("content") || form.has("template_id")
}

/// Reads `send_at`, `ttl` and `on_ambiguous`.
pub(crate) fn timing(form: &mut Form<'_, '_>, now: Timestamp) -> Timing {
    let send_at = form.optional("send_at", field::time);
    if let Some(time) = send_at
        && let Err(sentence) = limits::check_send_at(time, now)
    {
        form.sentence("send_at", sentence);
    }
    let ttl = form
        .optional("ttl", field::whole(i64::MIN, i64::MAX))
        .and_then(|seconds| {
            limits::check_ttl(seconds)
                .map_err(|sentence| form.sentence("ttl", sentence))
                .ok()
        });
    Timing {
        send_at,
        ttl,
        on_ambiguous: on_ambiguous(form),
    }
}

/// Reads `on_ambiguous`.
pub(crate) fn on_ambiguous(form: &mut Form<'_, '_>) -> Option<OnAmbiguous> {
    form.optional("on_ambiguous", field::choice(ON_AMBIGUOUS))
}

/// What becomes of a message whose outcome cannot be known: as it says, or as its account says.
pub(crate) async fn settled_on_ambiguous(
    api: &ApiState,
    caller: &Caller,
    own: Option<OnAmbiguous>,
) -> Result<Option<OnAmbiguous>, ApiError> {
    if own.is_some() {
        return Ok(own);
    }
    let directory = api.engine.directory();
    Ok(Some(directory.on_ambiguous(caller.account).await?))
}

/// The word for it.
pub(crate) fn on_ambiguous_word(on_ambiguous: OnAmbiguous) -> &'static str {
    match on_ambiguous {
        OnAmbiguous::Unknown => "unknown",
        OnAmbiguous::Resend => "resend",
    }
}

/// Reads `client_ref`.
pub(crate) fn client_ref(form: &mut Form<'_, '_>) -> Option<Box<str>> {
    let text = form.optional("client_ref", field::any_text)?;
    match limits::check_client_ref(&text) {
        Ok(()) => Some(text.into_boxed_str()),
        Err(sentence) => {
            form.sentence("client_ref", sentence);
            None
        }
    }
}

/// Finds the instance that a body names; a fault if it is none of the caller's.
pub(crate) async fn find_instance(
    api: &ApiState,
    caller: &Caller,
    named: Option<&str>,
    report: &mut Report,
) -> Result<Option<Arc<Instance>>, ApiError> {
    let Some(named) = named else { return Ok(None) };
    let found = api
        .engine
        .directory()
        .instance(caller.account, named)
        .await?;
    let found = found.filter(|instance| caller.may_use(instance.id));
    if found.is_none() {
        report.fault(
            "instance",
            "is not the id or name of one of your instances.",
        );
    }
    Ok(found)
}

/// Finds the number of a target; a fault if it names an unknown contact.
pub(crate) async fn find_phone(
    api: &ApiState,
    caller: &Caller,
    target: Option<Target>,
    report: &mut Report,
) -> Result<Option<Phone>, ApiError> {
    match target {
        None => Ok(None),
        Some(Target::Phone(phone)) => Ok(Some(phone)),
        Some(Target::Contact(id)) => {
            let contact = api.engine.directory().contact(caller.account, id).await?;
            if contact.is_none() {
                report.fault("contact_id", "is not the id of one of your contacts.");
            }
            Ok(contact.map(|contact| contact.phone))
        }
    }
}

/// Finds what a text message says; a fault if its template is unknown or lacks a variable.
pub(crate) async fn find_content(
    api: &ApiState,
    caller: &Caller,
    words: Option<Words>,
    report: &mut Report,
) -> Result<Option<Box<str>>, ApiError> {
    let (id, variables) = match words {
        None => return Ok(None),
        Some(Words::Content(content)) => return Ok(Some(content.into_boxed_str())),
        Some(Words::Template(id, variables)) => (id, variables),
    };
    let Some(template) = api.engine.directory().template(caller.account, id).await? else {
        report.fault("template_id", "is not the id of one of your templates.");
        return Ok(None);
    };
    Ok(fill_in(
        &Template::parse(&template.content),
        &variables,
        report,
    ))
}

/// Fills a template in; a fault if a variable is missing or nothing sendable comes of it.
pub(crate) fn fill_in(
    template: &Template,
    variables: &[(String, String)],
    report: &mut Report,
) -> Option<Box<str>> {
    let value = |name: &str| {
        variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    match template.render(value) {
        Ok(content) => Some(content.into_boxed_str()),
        Err(error) => {
            report.fault(
                "template_variables",
                format!("cannot fill the template in: {error}."),
            );
            None
        }
    }
}

/// The message of its parts.
pub(crate) fn message(
    recipient: Phone,
    payload: Payload,
    timing: Timing,
    client_ref: Option<Box<str>>,
) -> Message {
    Message {
        recipient,
        payload,
        send_at: timing.send_at,
        ttl_seconds: timing.ttl.unwrap_or(DEFAULT_TTL_SECONDS),
        client_ref,
        on_ambiguous: timing.on_ambiguous.unwrap_or_default(),
    }
}

/// The status that a message begins with.
pub(crate) fn first_status(send_at: Option<Timestamp>, created_at: Timestamp) -> &'static str {
    let scheduled = limits::is_scheduled(send_at, created_at);
    if scheduled {
        Status::Scheduled.label()
    } else {
        Status::Pending.label()
    }
}

/// What is to be accepted.
#[derive(Debug)]
pub(crate) struct Consignment {
    /// The number that sends it.
    pub(crate) instance: Arc<Instance>,
    /// Its lane.
    pub(crate) lane: Lane,
    /// The messages.
    pub(crate) messages: Vec<Message>,
    /// Whether it came as a bulk, which has a `batch_id`.
    pub(crate) bulk: bool,
    /// Bytes of the request.
    pub(crate) bytes: usize,
}

/// Accepts messages: once this answers `status`, they are on stable storage. With an
/// `Idempotency-Key` the answer is written down before, so that a repetition finds it even after a
/// crash.
pub(crate) async fn accept(
    api: &ApiState,
    ticket: Option<Ticket>,
    consignment: Consignment,
    status: StatusCode,
    answer: impl Fn(&Reserved) -> Vec<u8>,
) -> Answer {
    let Consignment {
        instance,
        lane,
        messages,
        bulk,
        bytes,
    } = consignment;
    let count = u32::try_from(messages.len()).map_err(|_| ApiError::Internal)?;
    let request = RequestId(rand::random());
    let submission = Submission {
        instance,
        lane,
        messages,
        request,
        bytes,
    };
    let Some(mut ticket) = ticket else {
        let accepted = api.engine.send(submission, bulk).await?;
        return Ok(envelope::raw_json(status, answer(&accepted)));
    };
    let mut refused = AcceptError::Sealed;
    for _ in 0..OWNERS {
        let reserved = api
            .engine
            .reserve(&submission.instance, count, bulk)
            .await?;
        let body = answer(&reserved);
        ticket.promise(&reserved, status.as_u16(), &body).await?;
        match api.engine.accept(reserved, submission.clone()).await {
            Ok(_) => {
                kept(ticket, status, &body).await;
                return Ok(envelope::raw_json(status, body));
            }
            // The next owner gives other ids.
            Err(AcceptError::Sealed) => {}
            Err(error) => {
                refused = error;
                break;
            }
        }
    }
    // What may have been accepted keeps its key: the log will tell.
    if refused.is_certain() {
        given_back(ticket).await;
    }
    Err(refused.into())
}
