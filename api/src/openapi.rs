//! The OpenAPI document: collected from the handlers, finished with what holds for all of them.

use utoipa::OpenApi as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, OpenApi, PathItem, Ref, ResponseBuilder};

use crate::schema;

/// The name of the scheme of API keys.
const KEY: &str = "api_key";

/// The name of the scheme of sessions.
const SESSION: &str = "session";

/// Refusals that every gated route knows.
const REFUSALS: [(&str, &str); 8] = [
    ("400", "`malformed`: not JSON, or a bad header."),
    (
        "401",
        "`invalid_key`: missing, unknown, revoked or expired.",
    ),
    (
        "403",
        "`missing_permission`, `ip_not_allowed` or `recipient_suppressed`.",
    ),
    ("404", "`not_found`: nothing of that id for this account."),
    (
        "409",
        "`idempotency_in_flight`, `instance_unavailable`, `row_gap` or `wrong_state`.",
    ),
    (
        "422",
        "`validation` or `idempotency_mismatch`; `errors` names every field at once.",
    ),
    ("429", "`rate_limited`; `Retry-After` says how long."),
    (
        "503",
        "`unavailable`: nothing was accepted; or `outcome_unknown`.",
    ),
];

/// Refusals that every route with a body knows besides.
const BODY_REFUSALS: [(&str, &str); 3] = [
    ("408", "`request_timeout`: the body did not arrive in time."),
    ("413", "`too_large`: more bytes than a body may have."),
    (
        "415",
        "`unsupported_media_type`: the message names the right one.",
    ),
];

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Zajil",
        description = "WhatsApp delivery. Accepted is kept: a 2xx on a send means that it is on \
                       stable storage.",
    ),
    components(schemas(schema::Failure)),
    tags(
        (name = "General"), (name = "Messages"), (name = "Instances"), (name = "Contacts"),
        (name = "Suppressions"), (name = "Templates"), (name = "Batches"), (name = "Session"),
        (name = "API keys"), (name = "Audit"),
    )
)]
struct Document;

/// The document before any route is in it.
pub(crate) fn empty() -> OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    let key = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
    components.add_security_scheme(KEY, SecurityScheme::ApiKey(key));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme(SESSION, SecurityScheme::Http(bearer));
    document
}

/// Which of the two APIs routes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// With an API key; names of operations are as they are.
    Integration,
    /// With a session; names of operations that both have begin with `dashboard_`.
    Dashboard,
}

/// Gives the operations of one API their security and their refusals.
pub(crate) fn finish(document: &mut OpenApi, side: Side, prefix_names: bool) {
    let scheme = if side == Side::Integration {
        KEY
    } else {
        SESSION
    };
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        if prefix_names && let Some(name) = &mut operation.operation_id {
            name.insert_str(0, "dashboard_");
        }
        if operation.security.is_none() {
            operation.security = Some(vec![SecurityRequirement::new(scheme, Vec::<String>::new())]);
        }
        let of_body = operation.request_body.iter().flat_map(|_| BODY_REFUSALS);
        for (status, description) in REFUSALS.into_iter().chain(of_body) {
            let body = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Failure")))
                .build();
            let response = ResponseBuilder::new()
                .description(description)
                .content("application/json", body)
                .build();
            operation
                .responses
                .responses
                .entry(status.to_owned())
                .or_insert(response.into());
        }
    }
}

/// The operations of a path.
pub(crate) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}
