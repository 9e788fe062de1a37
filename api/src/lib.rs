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

use axum::Router;
use axum::response::Response;
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
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
pub use operations::OpsState;
pub use server::{ServerReport, serve};
pub use state::{ApiState, Peer};

use auth::{Api, GateLayer};
use dashboard::{api_keys, audit, instances as own_instances, login, pacing};
use error::ApiError;
use front::FrontLayer;
use integration::batches::create;
use integration::upload::{self, streams};
use integration::{
    batches, bulk, contacts, instances, me, messages, sends, stats, suppressions, templates,
};
use openapi::Side;

type Routes = OpenApiRouter<ApiState>;

/// Both APIs, `/openapi.json` and `/docs`, on one router.
pub fn integration_router(state: ApiState) -> Router {
    let (router, document) = routes(&state).split_for_parts();
    // Only a map whose keys are no texts can fail, and the document has none.
    let json = bytes::Bytes::from(document.to_json().unwrap_or_default());
    let docs = utoipa_swagger_ui::Config::from("/openapi.json");
    router
        .route(
            "/openapi.json",
            axum::routing::get(move || serve_document(json.clone())),
        )
        .merge(SwaggerUi::new("/docs").config(docs))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(FrontLayer(state.clone()))
        .with_state(state)
}

/// The operations address.
pub fn operations_router(state: OpsState) -> Router {
    operations::router(state)
}

/// The OpenAPI document of both APIs, as JSON.
pub fn openapi_json(state: &ApiState) -> String {
    routes(state)
        .into_openapi()
        .to_pretty_json()
        .unwrap_or_default()
}

/// Every route of both APIs.
fn routes(state: &ApiState) -> Routes {
    OpenApiRouter::with_openapi(openapi::empty())
        .nest("/integration/v1", integration_routes(state))
        .nest("/api/v1/dashboard", dashboard_routes(state))
}

fn integration_routes(state: &ApiState) -> Routes {
    let mut routes = OpenApiRouter::new()
        .routes(routes!(me::ping))
        .routes(routes!(me::me))
        .merge(shared_routes())
        .layer(GateLayer(state.clone(), Api::Integration));
    openapi::finish(routes.get_openapi_mut(), Side::Integration, false);
    routes
}

fn dashboard_routes(state: &ApiState) -> Routes {
    let mut shared = shared_routes();
    openapi::finish(shared.get_openapi_mut(), Side::Dashboard, true);
    let gated = OpenApiRouter::new()
        .routes(routes!(login::logout))
        .routes(routes!(login::signed_in))
        .routes(routes!(api_keys::list_api_keys, api_keys::create_api_key))
        .routes(routes!(api_keys::revoke_api_key))
        .routes(routes!(api_keys::rotate_api_key))
        .routes(routes!(own_instances::create_instance))
        .routes(routes!(
            own_instances::update_instance,
            own_instances::delete_instance
        ))
        .routes(routes!(own_instances::connect_instance))
        .routes(routes!(own_instances::disconnect_instance))
        .routes(routes!(own_instances::logout_instance))
        .routes(routes!(pacing::get_pacing, pacing::set_pacing))
        .routes(routes!(audit::list_audit))
        .merge(shared)
        .layer(GateLayer(state.clone(), Api::Dashboard));
    let mut routes = gated.routes(routes!(login::login));
    openapi::finish(routes.get_openapi_mut(), Side::Dashboard, false);
    routes
}

/// What both APIs offer.
fn shared_routes() -> Routes {
    let messages = OpenApiRouter::new()
        .routes(routes!(sends::send_message))
        .routes(routes!(bulk::send_bulk))
        .routes(routes!(sends::send_poll))
        .routes(routes!(sends::send_list))
        .routes(routes!(sends::send_reaction))
        .routes(routes!(messages::list_messages))
        .routes(routes!(messages::list_changes))
        .routes(routes!(messages::get_message))
        .routes(routes!(messages::get_message_status))
        .routes(routes!(messages::cancel_message));
    let instances = OpenApiRouter::new()
        .routes(routes!(instances::list_instances))
        .routes(routes!(instances::get_instance))
        .routes(routes!(instances::get_instance_status))
        .routes(routes!(instances::pause_instance))
        .routes(routes!(instances::resume_instance))
        .routes(routes!(instances::purge_instance));
    let contacts = OpenApiRouter::new()
        .routes(routes!(contacts::list_contacts, contacts::create_contact))
        .routes(routes!(contacts::get_contact, contacts::replace_contact))
        .routes(routes!(contacts::update_contact, contacts::delete_contact));
    let suppressions = OpenApiRouter::new()
        .routes(routes!(
            suppressions::list_suppressions,
            suppressions::create_suppression
        ))
        .routes(routes!(suppressions::delete_suppression));
    let templates = OpenApiRouter::new()
        .routes(routes!(
            templates::list_templates,
            templates::create_template
        ))
        .routes(routes!(templates::get_template));
    OpenApiRouter::new()
        .nest("/messages", messages)
        .nest("/instances", instances)
        .nest("/contacts", contacts)
        .nest("/suppressions", suppressions)
        .nest("/templates", templates)
        .nest("/batches", batch_routes())
        .routes(routes!(stats::get_stats))
}

fn batch_routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(batches::list_batches, create::create_batch))
        .routes(routes!(batches::get_batch))
        .routes(routes!(upload::upload_recipients))
        .routes(routes!(batches::start_batch))
        .routes(routes!(batches::seal_batch))
        .routes(routes!(batches::pause_batch))
        .routes(routes!(batches::resume_batch))
        .routes(routes!(batches::cancel_batch))
        .routes(routes!(streams::list_batch_messages))
        .routes(routes!(streams::get_batch_report))
        .routes(routes!(streams::get_batch_refusals))
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
