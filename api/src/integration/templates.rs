//! Texts with variables.

use axum::extract::{Request, State};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_actors::directory;
use zajil_model::id::TemplateId;
use zajil_model::message::limits;

use crate::auth::{ManageTemplates, May};
use crate::body::MAX_BODY;
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::page::{self, Found, PageQuery};
use crate::request::{Called, Post, Segment};
use crate::schema::{self, Data, Paged};
use crate::stamp::Stamp;
use crate::state::ApiState;
use crate::validate::{self, field};

/// Scalars of a name.
const MAX_NAME: usize = 255;

/// A text with variables.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Template {
    id: u64,
    name: String,
    /// `text`.
    message_type: &'static str,
    content: String,
    /// The names of its variables.
    variables: Vec<String>,
    #[schema(value_type = String)]
    created_at: Stamp,
}

impl From<&directory::Template> for Template {
    fn from(template: &directory::Template) -> Self {
        let parsed = zajil_model::template::Template::parse(&template.content);
        Self {
            id: template.id.get(),
            name: template.name.clone(),
            message_type: "text",
            content: template.content.clone(),
            variables: parsed.variables().map(str::to_owned).collect(),
            created_at: Stamp(template.created_at),
        }
    }
}

/// Makes a template.
#[utoipa::path(
    post, path = "", operation_id = "create_template", tag = "Templates",
    request_body = schema::NewTemplate,
    responses((status = 201, body = Data<Template>, description = "The template."))
)]
pub(crate) async fn create_template(
    State(api): State<ApiState>,
    may: May<ManageTemplates>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BODY).await?;
    let (new, report) = post.read(|form| {
        if form
            .optional("message_type", field::any_text)
            .is_some_and(|kind| kind != "text")
        {
            form.fault("message_type", "must be text.");
        }
        let name = form.required("name", field::text(1, MAX_NAME));
        let content = form.required("content", field::any_text);
        if let Some(content) = &content
            && let Err(sentence) = limits::check_text(content)
        {
            form.sentence("content", sentence);
        }
        name.zip(content)
    })?;
    let warnings = report.accepted()?;
    let (name, content) = new.ok_or(ApiError::Internal)?;
    post.once(&api, &may, async {
        let template = api
            .engine
            .directory()
            .create_template(may.account, &name, &content)
            .await?;
        envelope::data(Template::from(&*template))
            .status(StatusCode::CREATED)
            .message("Template created successfully")
            .warnings(warnings)
            .answer()
    })
    .await
}

/// Lists templates, newest first.
#[utoipa::path(
    get, path = "", operation_id = "list_templates", tag = "Templates",
    params(
        ("page" = Option<u64>, Query, description = "The number of the page"),
        ("per_page" = Option<u64>, Query, description = "Entries of a page, at most 200"),
        ("cursor" = Option<String>, Query, description = "The next_cursor of an earlier page"),
    ),
    responses((status = 200, body = Data<Paged<Template>>, description = "A page of templates."))
)]
pub(crate) async fn list_templates(
    State(api): State<ApiState>,
    may: May<ManageTemplates>,
    called: Called,
) -> Answer {
    let query = validate::query(called.uri(), PageQuery::read)?;
    let page = api
        .engine
        .directory()
        .templates(may.account, query.request())
        .await?;
    let next = query.cursor_after(page.items.len(), page.total);
    let items: Vec<Template> = page.items.iter().map(Template::from).collect();
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

/// Shows a template.
#[utoipa::path(
    get, path = "/{id}", operation_id = "get_template", tag = "Templates",
    params(("id" = u64, Path, description = "The id of the template")),
    responses((status = 200, body = Data<Template>, description = "The template."))
)]
pub(crate) async fn get_template(
    State(api): State<ApiState>,
    may: May<ManageTemplates>,
    Segment(id): Segment,
) -> Answer {
    let id: TemplateId = id.parse().map_err(|_| ApiError::NotFound)?;
    let template = api.engine.directory().template(may.account, id).await?;
    envelope::data(Template::from(&*template.ok_or(ApiError::NotFound)?)).answer()
}
