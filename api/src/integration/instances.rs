//! The WhatsApp numbers of an account.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_actors::instance::handle::Shown;
use zajil_actors::send::{Barrier, InstanceView};
use zajil_model::instance::{Instance, Session};
use zajil_model::phone::Phone;

use super::record;
use super::suppressions::status;
use crate::auth::{Caller, ManageInstances, May};
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::request::{Post, Segment};
use crate::schema::{Data, Pacing, Rate, TransportSettings};
use crate::stamp::{Stamp, stamp};
use crate::state::ApiState;

/// An instance in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedInstance {
    id: u64,
    instance_name: String,
    /// `open`, `connecting` or `close`.
    connection_status: &'static str,
    phone_number: Option<String>,
    #[schema(value_type = String)]
    created_at: Stamp,
}

/// An instance with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeInstance {
    id: u64,
    instance_name: String,
    /// `open`, `connecting` or `close`.
    connection_status: &'static str,
    /// Why it is closed.
    reason: Option<&'static str>,
    phone_number: Option<String>,
    transport: &'static str,
    transport_settings: TransportSettings,
    pacing: Pacing,
    queue_while_disconnected: bool,
    paused: bool,
    /// Held after a restore, until an operator releases it.
    held: bool,
    /// Messages that are not settled, by lane.
    depth: Depth,
    in_flight: u32,
    /// Messages a second that it may send now.
    rate_now: f64,
    #[schema(value_type = Option<String>)]
    restricted_until: Option<Stamp>,
    #[schema(value_type = String)]
    created_at: Stamp,
    /// With 202: who has not confirmed yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// Messages that are not settled, by lane.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Depth {
    high: u64,
    normal: u64,
    bulk: u64,
}

/// How the session of an instance is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceStatus {
    id: u64,
    instance_name: String,
    connection_status: &'static str,
    phone_number: Option<String>,
    #[schema(value_type = String)]
    since: Stamp,
    reason: Option<&'static str>,
}

const fn reason(session: &Session) -> Option<&'static str> {
    match session {
        Session::Closed { reason } => Some(reason.label()),
        Session::Open | Session::Connecting => None,
    }
}

fn phone(instance: &Instance, known: Option<Phone>) -> Option<String> {
    known.or(instance.phone).map(|phone| phone.to_string())
}

impl ListedInstance {
    fn new(instance: &Instance, shown: &Shown) -> Self {
        Self {
            id: instance.id.get(),
            instance_name: instance.name.clone(),
            connection_status: shown.session.label(),
            phone_number: phone(instance, shown.phone),
            created_at: Stamp(instance.created_at),
        }
    }
}

/// The pacing of an instance as clients see it.
pub(crate) fn pacing(instance: &Instance) -> Pacing {
    let pace = &instance.pace;
    Pacing {
        rate: Rate {
            count: pace.count,
            per: crate::dashboard::pacing::word(pace.per),
        },
        burst: Some(pace.effective_burst()),
        jitter: pace.jitter,
        daily_cap: pace.daily_cap,
        time_zone: pace.time_zone.clone(),
    }
}

impl WholeInstance {
    /// All that is known of an instance.
    pub(crate) fn new(instance: &Instance, view: &InstanceView, missing: Vec<String>) -> Self {
        let [high, normal, bulk] = view.depth;
        Self {
            id: instance.id.get(),
            instance_name: instance.name.clone(),
            connection_status: view.session.label(),
            reason: reason(&view.session),
            phone_number: phone(instance, view.phone),
            transport: instance.transport.label(),
            transport_settings: TransportSettings {
                address: instance.settings.address.clone(),
                script: instance.settings.script.clone(),
            },
            pacing: pacing(instance),
            queue_while_disconnected: instance.queue_while_disconnected,
            paused: instance.paused,
            held: instance.held,
            depth: Depth { high, normal, bulk },
            in_flight: view.in_flight,
            rate_now: view.rate,
            restricted_until: stamp(view.restricted_until),
            created_at: Stamp(instance.created_at),
            missing,
        }
    }
}

/// The instance of that id or name, if it is the caller's.
pub(crate) async fn find(
    api: &ApiState,
    caller: &Caller,
    named: &str,
) -> Result<Arc<Instance>, ApiError> {
    let found = api
        .engine
        .directory()
        .instance(caller.account, named)
        .await?;
    found
        .filter(|instance| caller.may_use(instance.id))
        .ok_or(ApiError::NotFound)
}

/// Answers an instance with all that is known of it.
pub(crate) async fn shown(
    api: &ApiState,
    instance: &Arc<Instance>,
    barrier: Barrier,
    code: StatusCode,
    message: Option<&str>,
    warnings: Vec<String>,
) -> Result<Response, ApiError> {
    let view = api.engine.observe(instance).await;
    let code = status(&barrier, code);
    let answer = envelope::data(WholeInstance::new(instance, &view, barrier.missing))
        .status(code)
        .warnings(warnings);
    match message {
        Some(message) => answer.message(message).answer(),
        None => answer.answer(),
    }
}

/// Lists the instances of the account.
#[utoipa::path(
    get, path = "", operation_id = "list_instances", tag = "Instances",
    responses((status = 200, body = Data<Vec<ListedInstance>>, description = "All instances."))
)]
pub(crate) async fn list_instances(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
) -> Answer {
    let instances = record::instances_of(&api, &may).await?;
    let shown = instances.iter().map(|instance| api.engine.shown(instance));
    let shown = futures_util::future::join_all(shown).await;
    let listed = instances.iter().zip(&shown);
    let listed: Vec<ListedInstance> = listed
        .map(|(instance, shown)| ListedInstance::new(instance, shown))
        .collect();
    envelope::data(listed).answer()
}

/// Shows an instance with its transport, pacing and depth by lane.
#[utoipa::path(
    get, path = "/{instance}", operation_id = "get_instance", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    responses((status = 200, body = Data<WholeInstance>, description = "The instance."))
)]
pub(crate) async fn get_instance(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
) -> Answer {
    let instance = find(&api, &may, &named).await?;
    shown(
        &api,
        &instance,
        Barrier::confirmed(),
        StatusCode::OK,
        None,
        Vec::new(),
    )
    .await
}

/// Shows how the session of an instance is.
#[utoipa::path(
    get, path = "/{instance}/status", operation_id = "get_instance_status", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    responses((status = 200, body = Data<InstanceStatus>, description = "Its session."))
)]
pub(crate) async fn get_instance_status(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
) -> Answer {
    let instance = find(&api, &may, &named).await?;
    let shown = api.engine.shown(&instance).await;
    envelope::data(InstanceStatus {
        id: instance.id.get(),
        instance_name: instance.name.clone(),
        connection_status: shown.session.label(),
        phone_number: phone(&instance, shown.phone),
        since: Stamp(shown.since),
        reason: reason(&shown.session),
    })
    .answer()
}

/// Stops an instance from sending. Once this answers 200, nothing new is handed over.
#[utoipa::path(
    post, path = "/{instance}/pause", operation_id = "pause_instance", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    responses(
        (status = 200, body = Data<WholeInstance>, description = "It is paused."),
        (status = 202, body = Data<WholeInstance>, description = "It will be; not confirmed yet.")
    )
)]
pub(crate) async fn pause_instance(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
    request: Request,
) -> Answer {
    let post = Post::bare(&api, request).await?;
    post.once(&api, &may, set_paused(&api, &may, &named, true))
        .await
}

/// Lets an instance send again.
#[utoipa::path(
    post, path = "/{instance}/resume", operation_id = "resume_instance", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    responses(
        (status = 200, body = Data<WholeInstance>, description = "It sends."),
        (status = 202, body = Data<WholeInstance>, description = "It will; not confirmed yet.")
    )
)]
pub(crate) async fn resume_instance(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
    request: Request,
) -> Answer {
    let post = Post::bare(&api, request).await?;
    post.once(&api, &may, set_paused(&api, &may, &named, false))
        .await
}

async fn set_paused(api: &ApiState, caller: &Caller, named: &str, paused: bool) -> Answer {
    let id = find(api, caller, named).await?.id;
    let changed = api
        .engine
        .directory()
        .update_instance(caller.account, id, move |instance| instance.paused = paused)
        .await?;
    let barrier = api.engine.apply_instance(Arc::clone(&changed)).await?;
    let action = if paused {
        "instance.paused"
    } else {
        "instance.resumed"
    };
    caller.audit(api, action, id, None).await;
    let message = if paused {
        "Instance paused"
    } else {
        "Instance resumed"
    };
    shown(
        api,
        &changed,
        barrier,
        StatusCode::OK,
        Some(message),
        Vec::new(),
    )
    .await
}

/// Cancels what an instance has not sent yet.
#[utoipa::path(
    post, path = "/{instance}/purge", operation_id = "purge_instance", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    responses(
        (status = 200, body = Data<WholeInstance>, description = "What was unsettled is cancelled."),
        (status = 202, body = Data<WholeInstance>, description = "It will be; not confirmed yet.")
    )
)]
pub(crate) async fn purge_instance(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
    request: Request,
) -> Answer {
    let post = Post::bare(&api, request).await?;
    post.once(&api, &may, async {
        let instance = find(&api, &may, &named).await?;
        let barrier = api.engine.purge(&instance).await?;
        may.audit(&api, "instance.purged", instance.id, None).await;
        let message = Some("Unsent messages cancelled");
        shown(
            &api,
            &instance,
            barrier,
            StatusCode::OK,
            message,
            Vec::new(),
        )
        .await
    })
    .await
}
