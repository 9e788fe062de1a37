//! Makes, changes, connects and deletes instances.

use std::sync::Arc;

use axum::extract::{Request, State};
use http::StatusCode;
use zajil_actors::directory::NewInstance;
use zajil_actors::engine::Engine;
use zajil_actors::send::Barrier;
use zajil_model::instance::{Instance, TransportKind, TransportSettings, Wanted};
use zajil_model::pace::PaceSpec;

use super::pacing;
use crate::auth::{Caller, ManageInstances, May};
use crate::body::MAX_BODY;
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::integration::instances::{WholeInstance, find, shown};
use crate::request::{Post, Segment};
use crate::schema::{self, Data};
use crate::state::ApiState;
use crate::validate::{Form, field};

/// Scalars of a name.
const MAX_NAME: usize = 100;

/// Bytes of an address.
const MAX_ADDRESS: usize = 255;

/// Bytes of a script.
const MAX_SCRIPT: usize = 64 * 1_024;

const TRANSPORTS: &[(&str, TransportKind)] = &[("simulator", TransportKind::Simulator)];

/// Makes an instance.
#[utoipa::path(
    post, path = "/instances", operation_id = "create_instance", tag = "Instances",
    request_body = schema::NewInstance,
    responses((status = 201, body = Data<WholeInstance>, description = "The instance."))
)]
pub(crate) async fn create_instance(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    request: Request,
) -> Answer {
    let post = Post::json(&api, request, MAX_BODY).await?;
    let (new, report) = post.read(|form| {
        let name = form.required("instance_name", field::text(1, MAX_NAME));
        let transport = form.optional("transport", field::choice(TRANSPORTS));
        let transport = transport.unwrap_or(TransportKind::Simulator);
        let settings = read_settings(form, &api.engine, transport).unwrap_or_default();
        let base = PaceSpec::default_for(transport);
        let pace = read_pace(form, &base).unwrap_or(base);
        let queue = form.optional("queue_while_disconnected", field::boolean);
        let queue_while_disconnected = queue.unwrap_or_default();
        name.map(|name| NewInstance {
            name,
            transport,
            settings,
            pace,
            queue_while_disconnected,
        })
    })?;
    let warnings = report.accepted()?;
    let new = new.ok_or(ApiError::Internal)?;
    let instance = api
        .engine
        .directory()
        .create_instance(may.account, new)
        .await?;
    api.engine.connect(&instance).await?;
    may.audit(
        &api,
        "instance.created",
        instance.id,
        Some(instance.name.clone()),
    )
    .await;
    let message = Some("Instance created successfully");
    shown(
        &api,
        &instance,
        Barrier::confirmed(),
        StatusCode::CREATED,
        message,
        warnings,
    )
    .await
}

fn read_settings(
    form: &mut Form<'_, '_>,
    engine: &Engine,
    kind: TransportKind,
) -> Option<TransportSettings> {
    if !form.has("transport_settings") {
        return None;
    }
    form.nested("transport_settings", |form| {
        let script = form.optional("script", field::text(1, MAX_SCRIPT));
        let address = form.optional("address", field::text(1, MAX_ADDRESS));
        let settings = TransportSettings { address, script };
        if let Err(error) = engine.check_transport(kind, &settings) {
            form.fault("script", format!("is not usable: {error}."));
        }
        settings
    })
}

fn read_pace(form: &mut Form<'_, '_>, base: &PaceSpec) -> Option<PaceSpec> {
    if !form.has("pacing") {
        return None;
    }
    form.nested("pacing", |form| pacing::read(form, base))
}

/// Changes the members of an instance that are named.
#[utoipa::path(
    patch, path = "/instances/{instance}", operation_id = "update_instance", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    request_body = schema::InstanceChange,
    responses(
        (status = 200, body = Data<WholeInstance>, description = "It is in force."),
        (status = 202, body = Data<WholeInstance>, description = "It will be; not confirmed yet.")
    )
)]
pub(crate) async fn update_instance(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
    request: Request,
) -> Answer {
    let instance = find(&api, &may, &named).await?;
    let post = Post::json(&api, request, MAX_BODY).await?;
    let (change, report) = post.read(|form| Change {
        name: form.optional("instance_name", field::text(1, MAX_NAME)),
        settings: read_settings(form, &api.engine, instance.transport),
        pace: read_pace(form, &instance.pace),
        queue: form.optional("queue_while_disconnected", field::boolean),
    })?;
    let warnings = report.accepted()?;
    let apply = |instance: &mut Instance| change.apply(instance);
    let changed = api
        .engine
        .directory()
        .update_instance(may.account, instance.id, apply)
        .await?;
    let barrier = api.engine.apply_instance(Arc::clone(&changed)).await?;
    may.audit(&api, "instance.updated", instance.id, None).await;
    let message = Some("Instance updated successfully");
    shown(&api, &changed, barrier, StatusCode::OK, message, warnings).await
}

/// What is changed of an instance.
struct Change {
    name: Option<String>,
    settings: Option<TransportSettings>,
    pace: Option<PaceSpec>,
    queue: Option<bool>,
}

impl Change {
    fn apply(&self, instance: &mut Instance) {
        if let Some(name) = &self.name {
            instance.name.clone_from(name);
        }
        if let Some(settings) = &self.settings {
            instance.settings.clone_from(settings);
        }
        if let Some(pace) = &self.pace {
            instance.pace.clone_from(pace);
        }
        if let Some(queue) = self.queue {
            instance.queue_while_disconnected = queue;
        }
    }
}

/// Deletes an instance; what it has not sent is cancelled.
#[utoipa::path(
    delete, path = "/instances/{instance}", operation_id = "delete_instance", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    responses(
        (status = 200, body = schema::Done, description = "It is gone."),
        (status = 202, body = Data<schema::Unconfirmed>, description = "It is gone; it has not confirmed yet.")
    )
)]
pub(crate) async fn delete_instance(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
) -> Answer {
    let instance = find(&api, &may, &named).await?;
    let gone = api
        .engine
        .directory()
        .delete_instance(may.account, instance.id)
        .await?;
    let barrier = api.engine.remove_instance(&gone).await?;
    may.audit(&api, "instance.deleted", gone.id, Some(gone.name.clone()))
        .await;
    if barrier.is_confirmed() {
        return envelope::done("Instance deleted successfully").answer();
    }
    envelope::data(schema::Unconfirmed {
        missing: barrier.missing,
    })
    .status(StatusCode::ACCEPTED)
    .message("Instance deleted; what was on its way may still leave")
    .answer()
}

/// Connects an instance, and reconnects it when it drops.
#[utoipa::path(
    post, path = "/instances/{instance}/connect", operation_id = "connect_instance", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    responses(
        (status = 200, body = Data<WholeInstance>, description = "It connects."),
        (status = 202, body = Data<WholeInstance>, description = "It will; not confirmed yet.")
    )
)]
pub(crate) async fn connect_instance(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
) -> Answer {
    want(&api, &may, &named, Wanted::Connected).await
}

/// Disconnects an instance; its session is kept.
#[utoipa::path(
    post, path = "/instances/{instance}/disconnect", operation_id = "disconnect_instance", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    responses(
        (status = 200, body = Data<WholeInstance>, description = "It disconnects."),
        (status = 202, body = Data<WholeInstance>, description = "It will; not confirmed yet.")
    )
)]
pub(crate) async fn disconnect_instance(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
) -> Answer {
    want(&api, &may, &named, Wanted::Disconnected).await
}

/// Ends the session of an instance; it has to be paired again.
#[utoipa::path(
    post, path = "/instances/{instance}/logout", operation_id = "logout_instance", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    responses(
        (status = 200, body = Data<WholeInstance>, description = "It is logged out."),
        (status = 202, body = Data<WholeInstance>, description = "It will be; not confirmed yet.")
    )
)]
pub(crate) async fn logout_instance(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
) -> Answer {
    want(&api, &may, &named, Wanted::LoggedOut).await
}

async fn want(api: &ApiState, caller: &Caller, named: &str, wanted: Wanted) -> Answer {
    let id = find(api, caller, named).await?.id;
    let set = |instance: &mut Instance| instance.wanted = wanted;
    let changed = api
        .engine
        .directory()
        .update_instance(caller.account, id, set)
        .await?;
    let barrier = api.engine.apply_instance(Arc::clone(&changed)).await?;
    let (action, message) = match wanted {
        Wanted::Connected => ("instance.connected", "Instance connecting"),
        Wanted::Disconnected => ("instance.disconnected", "Instance disconnected"),
        Wanted::LoggedOut => ("instance.logged_out", "Instance logged out"),
    };
    if wanted == Wanted::Connected {
        api.engine.connect(&changed).await?;
    }
    caller.audit(api, action, id, None).await;
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
