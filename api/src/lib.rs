//! The HTTP edge: the Integration API, the Dashboard API, and the operations address.
//!
//! ```text
//! server ─► front (id, bounds, time, counts) ─► auth (who, quota) ─► handler
//!                                                                      │ body ─► json ─► validate
//!                                                                      ▼
//!                                                    engine ─► envelope (or error)
//! ```
//!
//! A handler extracts, reads, asks the engine, and answers. Everything that a client can be told
//! goes through `envelope` or `error`.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

mod auth;
mod body;
mod config;
mod dashboard;
mod envelope;
mod error;
mod front;
mod integration;
mod json;
mod limit;
mod metrics;
mod openapi;
mod operations;
mod page;
mod request;
pub mod schema;
mod server;
mod stamp;
mod state;
mod validate;

pub use config::{ApiConfig, OperatorToken, ServerLimits};
pub use front::Front;
pub use operations::OpsState;
pub use server::{ServerReport, serve};
pub use state::{ApiState, Peer};

use auth::Gate;
use dashboard::{api_keys, audit, instances as own_instances, login, pacing};
use error::ApiError;
use front::Map;
use integration::batches::create;
use integration::upload::{self, streams};
use integration::{
    batches, bulk, changes, contacts, instances, me, messages, sends, stats, suppressions,
    templates,
};
use openapi::Side;

/// One path with its methods and its part of the document.
type Route = UtoipaMethodRouter<ApiState>;

const INTEGRATION: &str = "/integration/v1";
const DASHBOARD: &str = "/api/v1/dashboard";
const DOCUMENT: &str = "/openapi.json";
const DOCS: [&str; 3] = ["/docs", "/docs/", "/docs/{*file}"];

/// Both APIs, `/openapi.json` and `/docs`, on one router behind one front.
pub fn integration_router(state: ApiState) -> Front {
    let (router, document) = routes().split_for_parts();
    let open = DOCS.into_iter().chain([DOCUMENT]);
    let paths = document.paths.paths.keys().map(String::as_str).chain(open);
    let map = Map::new(&state, paths.map(|path| (path, gate(path))));
    // Only a map whose keys are no texts can fail, and the document has none.
    let json = bytes::Bytes::from(document.to_json().unwrap_or_default());
    let router = router
        .route(
            DOCUMENT,
            axum::routing::get(move || serve_document(json.clone())),
        )
        .merge(SwaggerUi::new("/docs").config(utoipa_swagger_ui::Config::from(DOCUMENT)))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state.clone());
    Front::new(state, Arc::new(map), router)
}

/// The operations address.
pub fn operations_router(state: OpsState) -> Front {
    operations::router(state)
}

/// The OpenAPI document of both APIs, as JSON.
pub fn openapi_json() -> String {
    routes().into_openapi().to_pretty_json().unwrap_or_default()
}

/// Whom a path lets in.
fn gate(path: &str) -> Gate {
    if path.starts_with(INTEGRATION) {
        Gate::Key
    } else if path.starts_with(DASHBOARD) && !path.ends_with("/auth/login") {
        Gate::Token
    } else {
        Gate::Open
    }
}

/// Every route of both APIs.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::empty())
        .merge(integration_routes())
        .merge(dashboard_routes())
}

fn integration_routes() -> OpenApiRouter<ApiState> {
    let own = vec![routes!(me::ping), routes!(me::me)];
    let mut routes = collected(INTEGRATION, own.into_iter().chain(shared_routes()));
    openapi::finish(routes.get_openapi_mut(), Side::Integration, false);
    routes
}

fn dashboard_routes() -> OpenApiRouter<ApiState> {
    let mut shared = collected(DASHBOARD, shared_routes());
    openapi::finish(shared.get_openapi_mut(), Side::Dashboard, true);
    let own = vec![
        routes!(login::login),
        routes!(login::logout),
        routes!(login::signed_in),
        routes!(api_keys::list_api_keys, api_keys::create_api_key),
        routes!(api_keys::revoke_api_key),
        routes!(api_keys::rotate_api_key),
        routes!(own_instances::create_instance),
        routes!(
            own_instances::update_instance,
            own_instances::delete_instance
        ),
        routes!(own_instances::connect_instance),
        routes!(own_instances::disconnect_instance),
        routes!(own_instances::logout_instance),
        routes!(pacing::get_pacing, pacing::set_pacing),
        routes!(audit::list_audit),
    ];
    let mut routes = collected(DASHBOARD, own).merge(shared);
    openapi::finish(routes.get_openapi_mut(), Side::Dashboard, false);
    routes
}

/// What both APIs offer.
fn shared_routes() -> Vec<Route> {
    let messages = vec![
        routes!(sends::send_message),
        routes!(bulk::send_bulk),
        routes!(sends::send_poll),
        routes!(sends::send_list),
        routes!(sends::send_reaction),
        routes!(messages::list_messages),
        routes!(changes::list_changes),
        routes!(messages::get_message),
        routes!(messages::get_message_status),
        routes!(messages::cancel_message),
    ];
    let instances = vec![
        routes!(instances::list_instances),
        routes!(instances::get_instance),
        routes!(instances::get_instance_status),
        routes!(instances::pause_instance),
        routes!(instances::resume_instance),
        routes!(instances::purge_instance),
    ];
    let contacts = vec![
        routes!(contacts::list_contacts, contacts::create_contact),
        routes!(contacts::get_contact, contacts::replace_contact),
        routes!(contacts::update_contact, contacts::delete_contact),
    ];
    let suppressions = vec![
        routes!(
            suppressions::list_suppressions,
            suppressions::create_suppression
        ),
        routes!(suppressions::delete_suppression),
    ];
    let templates = vec![
        routes!(templates::list_templates, templates::create_template),
        routes!(templates::get_template),
    ];
    let groups = [
        ("/messages", messages),
        ("/instances", instances),
        ("/contacts", contacts),
        ("/suppressions", suppressions),
        ("/templates", templates),
        ("/batches", batch_routes()),
        ("", vec![routes!(stats::get_stats)]),
    ];
    let groups = groups.into_iter();
    groups
        .flat_map(|(prefix, routes)| routes.into_iter().map(move |route| below(prefix, route)))
        .collect()
}

fn batch_routes() -> Vec<Route> {
    vec![
        routes!(batches::list_batches, create::create_batch),
        routes!(batches::get_batch),
        routes!(upload::upload_recipients),
        routes!(batches::start_batch),
        routes!(batches::seal_batch),
        routes!(batches::pause_batch),
        routes!(batches::resume_batch),
        routes!(batches::cancel_batch),
        routes!(streams::list_batch_messages),
        routes!(streams::get_batch_report),
        routes!(streams::get_batch_refusals),
    ]
}

/// One router of routes below a prefix.
fn collected(prefix: &str, routes: impl IntoIterator<Item = Route>) -> OpenApiRouter<ApiState> {
    let routes = routes.into_iter().map(|route| below(prefix, route));
    routes.fold(OpenApiRouter::new(), OpenApiRouter::routes)
}

/// A route below a prefix. Its path is whole: nested routers cost every request a copy of each of
/// their layers.
fn below(prefix: &str, (schemas, mut paths, methods): Route) -> Route {
    let parts = std::mem::take(&mut paths.paths).into_iter();
    paths.paths = parts
        .map(|(path, item)| (format!("{prefix}{path}"), item))
        .collect();
    (schemas, paths, methods)
}

async fn serve_document(json: bytes::Bytes) -> Response {
    envelope::raw_json(StatusCode::OK, json)
}

/// No route matches.
async fn not_found() -> ApiError {
    ApiError::NotFound
}

/// The route has no such method.
async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}
