//! Makes a campaign: reads what is to be sent, and finds the numbers that send it.

use std::sync::Arc;

use axum::extract::{Request, State};
use http::StatusCode;
use zajil_actors::batch::{BatchText, Duplicates, NewBatch};
use zajil_model::batch::MAX_INSTANCES;
use zajil_model::id::TemplateId;
use zajil_model::instance::Instance;
use zajil_model::message::{OnAmbiguous, limits};
use zajil_model::time::Timestamp;

use super::WholeBatch;
use crate::auth::{Caller, May, SendMessage};
use crate::body::MAX_BODY;
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::integration::draft;
use crate::request::Post;
use crate::schema::{self, Data};
use crate::state::ApiState;
use crate::validate::{Form, Report, field};

/// Scalars of a name.
const MAX_NAME: usize = 255;

const DUPLICATES: &[(&str, Duplicates)] = &[("skip", Duplicates::Skip), ("keep", Duplicates::Keep)];

/// Makes a campaign, as a draft.
#[utoipa::path(
    post, path = "", operation_id = "create_batch", tag = "Batches",
    request_body = schema::NewBatch,
    responses((status = 201, body = Data<WholeBatch>, description = "The draft."))
)]
pub(crate) async fn create_batch(
    State(api): State<ApiState>,
    may: May<SendMessage>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BODY).await?;
    let now = api.now();
    let (draft, report) = post.read(|form| read(form, now))?;
    post.once(&api, &may, async {
        let mut report = report;
        let senders = find_senders(&api, &may, &draft.instances, &mut report).await?;
        let text = find_text(&api, &may, draft.text, draft.variables, &mut report).await?;
        let warnings = report.accepted()?;
        let (Some(name), Some(text)) = (draft.name, text) else {
            return Err(ApiError::Internal);
        };
        let on_ambiguous = draft::settled_on_ambiguous(&api, &may, draft.on_ambiguous).await?;
        let new = NewBatch {
            name,
            instances: senders,
            text,
            ttl_seconds: draft.ttl,
            start_at: draft.start_at,
            deadline: draft.deadline,
            duplicates: draft.duplicates,
            on_ambiguous: on_ambiguous.unwrap_or_default(),
        };
        let view = api.engine.batches().create(may.account, new).await?;
        may.audit(&api, "batch.created", view.record.id, None).await;
        envelope::data(WholeBatch::new(&view, Vec::new()))
            .status(StatusCode::CREATED)
            .message("Batch created successfully")
            .warnings(warnings)
            .answer()
    })
    .await
}

/// A campaign as it was read.
#[derive(Debug)]
struct Draft {
    name: Option<String>,
    instances: Vec<String>,
    text: Option<Text>,
    variables: Vec<(String, String)>,
    ttl: Option<u32>,
    start_at: Option<Timestamp>,
    deadline: Option<Timestamp>,
    duplicates: Duplicates,
    on_ambiguous: Option<OnAmbiguous>,
}

/// What its rows say.
#[derive(Debug)]
enum Text {
    Content(String),
    Template(TemplateId),
}

fn read(form: &mut Form<'_, '_>, now: Timestamp) -> Draft {
    let ttl = form
        .optional("ttl", field::whole(i64::MIN, i64::MAX))
        .and_then(|seconds| {
            limits::check_ttl(seconds)
                .map_err(|sentence| form.sentence("ttl", sentence))
                .ok()
        });
    let start_at = form.optional("start_at", field::time);
    if start_at.is_some_and(|at| limits::check_send_at(at, now).is_err()) {
        form.fault("start_at", "must not be more than 30 days ahead.");
    }
    let draft = Draft {
        name: form.required("name", field::text(1, MAX_NAME)),
        instances: read_instances(form),
        text: read_text(form),
        variables: form
            .optional("template_variables", field::pairs)
            .unwrap_or_default(),
        ttl,
        start_at,
        deadline: form.optional("deadline", field::time),
        duplicates: form
            .optional("duplicates", field::choice(DUPLICATES))
            .unwrap_or_default(),
        on_ambiguous: draft::on_ambiguous(form),
    };
    form.refuse_not_yet();
    draft
}

fn read_instances(form: &mut Form<'_, '_>) -> Vec<String> {
    let (one, several) = (form.has("instance"), form.has("instances"));
    if one == several {
        let fault = if one {
            "must not be present beside instance."
        } else {
            "is required."
        };
        form.fault("instances", fault);
    }
    let one = form.optional("instance", field::instance);
    let several = form.items("instances", |value, place, report| {
        field::instance(value)
            .map_err(|fault| report.borrow_mut().fault(place, fault))
            .ok()
    });
    if let Some(several) = &several
        && !(1..=MAX_INSTANCES).contains(&several.len())
    {
        form.fault(
            "instances",
            format!("must have 1 to {MAX_INSTANCES} items."),
        );
    }
    let several = several
        .unwrap_or_default()
        .into_iter()
        .take(MAX_INSTANCES)
        .flatten();
    one.into_iter().chain(several).collect()
}

fn read_text(form: &mut Form<'_, '_>) -> Option<Text> {
    let (content, template) = (form.has("content"), form.has("template_id"));
    if content == template {
        let fault = if content {
            "must not be present beside template id."
        } else {
            "is required when template id is not present."
        };
        form.fault("content", fault);
    }
    let template = form.optional("template_id", field::id).map(Text::Template);
    let content = form
        .optional("content", field::any_text)
        .and_then(|content| {
            let checked = limits::check_text(&content);
            checked
                .map_err(|sentence| form.sentence("content", sentence))
                .ok()
                .map(|()| content)
        });
    content.map(Text::Content).or(template)
}

async fn find_senders(
    api: &ApiState,
    caller: &Caller,
    named: &[String],
    report: &mut Report,
) -> Result<Vec<Arc<Instance>>, ApiError> {
    let mut senders: Vec<Arc<Instance>> = Vec::with_capacity(named.len());
    for (index, name) in named.iter().enumerate() {
        let found = api
            .engine
            .directory()
            .instance(caller.account, name)
            .await?;
        match found.filter(|instance| caller.may_use(instance.id)) {
            None => report.fault(
                format_args!("instances.{index}"),
                "is not the id or name of one of your instances.",
            ),
            Some(found) if senders.iter().any(|sender| sender.id == found.id) => {
                report.fault(format_args!("instances.{index}"), "has a duplicate value.");
            }
            Some(found) => senders.push(found),
        }
    }
    Ok(senders)
}

async fn find_text(
    api: &ApiState,
    caller: &Caller,
    text: Option<Text>,
    variables: Vec<(String, String)>,
    report: &mut Report,
) -> Result<Option<BatchText>, ApiError> {
    match text {
        None => Ok(None),
        Some(Text::Content(content)) => Ok(Some(BatchText {
            content,
            template: None,
            variables,
        })),
        Some(Text::Template(id)) => {
            let template = api.engine.directory().template(caller.account, id).await?;
            if template.is_none() {
                report.fault("template_id", "is not the id of one of your templates.");
            }
            Ok(template.map(|template| BatchText {
                content: template.content.clone(),
                template: Some(id),
                variables,
            }))
        }
    }
}
