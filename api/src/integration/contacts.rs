//! The address book.

use axum::extract::{Request, State};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_actors::directory::{self, ContactFilter};
use zajil_model::id::ContactId;

use crate::auth::{ManageContacts, May};
use crate::body::MAX_BODY;
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::page::{self, Found, PageQuery};
use crate::request::{Called, Post, Segment};
use crate::schema::{self, Data, Paged};
use crate::stamp::Stamp;
use crate::state::ApiState;
use crate::validate::{self, Form, field};

/// Scalars of a name or label.
const MAX_WORDS: usize = 255;

/// An address-book entry.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Contact {
    id: u64,
    phone_number: String,
    name: Option<String>,
    label: Option<String>,
    group_id: Option<i64>,
    #[schema(value_type = String)]
    created_at: Stamp,
}

impl From<directory::Contact> for Contact {
    fn from(contact: directory::Contact) -> Self {
        Self {
            id: contact.id.get(),
            phone_number: contact.phone.to_string(),
            name: contact.name,
            label: contact.label,
            group_id: contact.group_id,
            created_at: Stamp(contact.created_at),
        }
    }
}

/// Lists contacts, newest first.
#[utoipa::path(
    get, path = "", operation_id = "list_contacts", tag = "Contacts",
    params(
        ("page" = Option<u64>, Query, description = "The number of the page"),
        ("per_page" = Option<u64>, Query, description = "Entries of a page, at most 200"),
        ("cursor" = Option<String>, Query, description = "The next_cursor of an earlier page"),
        ("search" = Option<String>, Query, description = "Only with this text in name, phone or label"),
        ("group_id" = Option<i64>, Query, description = "Only with this tag"),
    ),
    responses((status = 200, body = Data<Paged<Contact>>, description = "A page of contacts."))
)]
pub(crate) async fn list_contacts(
    State(api): State<ApiState>,
    may: May<ManageContacts>,
    called: Called,
) -> Answer {
    let (query, filter) = validate::query(called.uri(), |form| {
        let search = form.optional("search", field::text(1, MAX_WORDS));
        let group_id = form.optional("group_id", field::whole(i64::MIN, i64::MAX));
        (PageQuery::read(form), ContactFilter { search, group_id })
    })?;
    let page = api
        .engine
        .directory()
        .contacts(may.account, &filter, query.request())
        .await?;
    let next = query.cursor_after(page.items.len(), page.total);
    let items: Vec<Contact> = page.items.into_iter().map(Contact::from).collect();
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

/// Adds a contact; a phone that is there already is 422.
#[utoipa::path(
    post, path = "", operation_id = "create_contact", tag = "Contacts",
    request_body = schema::NewContact,
    responses((status = 201, body = Data<Contact>, description = "The contact."))
)]
pub(crate) async fn create_contact(
    State(api): State<ApiState>,
    may: May<ManageContacts>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BODY).await?;
    let (new, report) = post.read(read_new)?;
    let warnings = report.accepted()?;
    let new = new.ok_or(ApiError::Internal)?;
    post.once(&api, &may, async {
        let contact = api
            .engine
            .directory()
            .create_contact(may.account, new)
            .await?;
        envelope::data(Contact::from(contact))
            .status(StatusCode::CREATED)
            .message("Contact created successfully")
            .warnings(warnings)
            .answer()
    })
    .await
}

fn read_new(form: &mut Form<'_, '_>) -> Option<directory::NewContact> {
    let phone = form.required("phone_number", field::phone);
    let name = form.optional("name", field::text(0, MAX_WORDS));
    let label = form.optional("label", field::text(0, MAX_WORDS));
    let group_id = form.optional("group_id", field::whole(i64::MIN, i64::MAX));
    phone.map(|phone| directory::NewContact {
        phone,
        name,
        label,
        group_id,
    })
}

/// Shows a contact.
#[utoipa::path(
    get, path = "/{id}", operation_id = "get_contact", tag = "Contacts",
    params(("id" = u64, Path, description = "The id of the contact")),
    responses((status = 200, body = Data<Contact>, description = "The contact."))
)]
pub(crate) async fn get_contact(
    State(api): State<ApiState>,
    may: May<ManageContacts>,
    Segment(id): Segment,
) -> Answer {
    let id: ContactId = id.parse().map_err(|_| ApiError::NotFound)?;
    let contact = api.engine.directory().contact(may.account, id).await?;
    envelope::data(Contact::from(contact.ok_or(ApiError::NotFound)?)).answer()
}

/// Changes a contact as PATCH does: clients of the guide send what they change and no more.
#[utoipa::path(
    put, path = "/{id}", operation_id = "replace_contact", tag = "Contacts",
    params(("id" = u64, Path, description = "The id of the contact")),
    request_body = schema::ContactChange,
    responses((status = 200, body = Data<Contact>, description = "The contact."))
)]
pub(crate) async fn replace_contact(
    State(api): State<ApiState>,
    may: May<ManageContacts>,
    Segment(id): Segment,
    request: Request,
) -> Answer {
    change(&api, &may, &id, request).await
}

/// Changes the members of a contact that are named; `null` empties one.
#[utoipa::path(
    patch, path = "/{id}", operation_id = "update_contact", tag = "Contacts",
    params(("id" = u64, Path, description = "The id of the contact")),
    request_body = schema::ContactChange,
    responses((status = 200, body = Data<Contact>, description = "The contact."))
)]
pub(crate) async fn update_contact(
    State(api): State<ApiState>,
    may: May<ManageContacts>,
    Segment(id): Segment,
    request: Request,
) -> Answer {
    change(&api, &may, &id, request).await
}

async fn change(api: &ApiState, may: &May<ManageContacts>, id: &str, request: Request) -> Answer {
    let id: ContactId = id.parse().map_err(|_| ApiError::NotFound)?;
    let post = Post::json(api, request, MAX_BODY).await?;
    let (change, report) = post.read(read_change)?;
    let warnings = report.accepted()?;
    let contact = api
        .engine
        .directory()
        .update_contact(may.account, id, change)
        .await?;
    envelope::data(Contact::from(contact))
        .message("Contact updated successfully")
        .warnings(warnings)
        .answer()
}

fn read_change(form: &mut Form<'_, '_>) -> directory::ContactChange {
    directory::ContactChange {
        phone: form.optional("phone_number", field::phone),
        name: form.change("name", field::text(0, MAX_WORDS)),
        label: form.change("label", field::text(0, MAX_WORDS)),
        group_id: form.change("group_id", field::whole(i64::MIN, i64::MAX)),
    }
}

/// Deletes a contact.
#[utoipa::path(
    delete, path = "/{id}", operation_id = "delete_contact", tag = "Contacts",
    params(("id" = u64, Path, description = "The id of the contact")),
    responses((status = 200, body = schema::Done, description = "It is gone."))
)]
pub(crate) async fn delete_contact(
    State(api): State<ApiState>,
    may: May<ManageContacts>,
    Segment(id): Segment,
) -> Answer {
    let id: ContactId = id.parse().map_err(|_| ApiError::NotFound)?;
    api.engine
        .directory()
        .delete_contact(may.account, id)
        .await?;
    envelope::done("Contact deleted successfully").answer()
}
