//! How fast an instance may send.

use std::sync::Arc;

use axum::extract::{Request, State};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_model::pace::{PaceSpec, Per};

use crate::auth::{ManageInstances, May};
use crate::body::MAX_BODY;
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::integration::instances::{find, pacing};
use crate::integration::suppressions::status;
use crate::request::{Post, Segment};
use crate::schema::{self, Data};
use crate::state::ApiState;
use crate::validate::{Form, field};

const UNITS: &[(&str, Per)] = &[
    ("second", Per::Second),
    ("minute", Per::Minute),
    ("hour", Per::Hour),
];

/// Bytes of the longest name of a time zone.
const MAX_ZONE: usize = 100;

/// The word of a unit of time.
pub(crate) const fn word(per: Per) -> &'static str {
    match per {
        Per::Second => "second",
        Per::Minute => "minute",
        Per::Hour => "hour",
    }
}

/// Reads a pacing; members that are absent are those of `base`.
pub(crate) fn read(form: &mut Form<'_, '_>, base: &PaceSpec) -> PaceSpec {
    let mut spec = base.clone();
    if form.has("rate") {
        form.nested("rate", |form| {
            let count = form.required("count", field::number(f64::MIN..=f64::MAX));
            let per = form.required("per", field::choice(UNITS));
            if let (Some(count), Some(per)) = (count, per) {
                (spec.count, spec.per) = (count, per);
            }
        });
    }
    if let Some(burst) = form.change("burst", field::whole(1, i64::from(u32::MAX))) {
        spec.burst = burst.and_then(|burst| u32::try_from(burst).ok());
    }
    if let Some(jitter) = form.optional("jitter", field::number(f64::MIN..=f64::MAX)) {
        spec.jitter = jitter;
    }
    if let Some(cap) = form.change("daily_cap", field::whole(1, i64::MAX)) {
        spec.daily_cap = cap.map(i64::unsigned_abs);
    }
    if let Some(zone) = form.change("time_zone", field::text(1, MAX_ZONE)) {
        spec.time_zone = zone;
    }
    let sentence = |(path, complaint): (&str, String)| {
        (path.to_owned(), format!("The {path} field {complaint}."))
    };
    form.rules(spec.check().into_iter().map(sentence).collect());
    spec
}

/// Shows how fast an instance may send.
#[utoipa::path(
    get, path = "/instances/{instance}/pacing", operation_id = "get_pacing", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    responses((status = 200, body = Data<schema::Pacing>, description = "Its pacing."))
)]
pub(crate) async fn get_pacing(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
) -> Answer {
    envelope::data(pacing(&*find(&api, &may, &named).await?)).answer()
}

/// The pacing that was set.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PacingSet {
    #[serde(flatten)]
    pacing: schema::Pacing,
    /// With 202: the instances that have not confirmed yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// Changes how fast an instance may send; in force within 100 ms.
#[utoipa::path(
    put, path = "/instances/{instance}/pacing", operation_id = "set_pacing", tag = "Instances",
    params(("instance" = String, Path, description = "Its id or name")),
    request_body = schema::Pacing,
    responses(
        (status = 200, body = Data<schema::Pacing>, description = "It is in force."),
        (status = 202, body = Data<PacingSet>, description = "It will be; not confirmed yet.")
    )
)]
pub(crate) async fn set_pacing(
    State(api): State<ApiState>,
    may: May<ManageInstances>,
    Segment(named): Segment,
    request: Request,
) -> Answer {
    let instance = find(&api, &may, &named).await?;
    let post = Post::json(&api, request, MAX_BODY).await?;
    let base = PaceSpec::default_for(instance.transport);
    let (spec, report) = post.read(|form| {
        if !form.has("rate") {
            form.fault("rate", "is required.");
        }
        read(form, &base)
    })?;
    let warnings = report.accepted()?;
    let changed = api
        .engine
        .directory()
        .update_instance(may.account, instance.id, |instance| {
            instance.pace = spec.clone()
        })
        .await
        .map_err(ApiError::from)?;
    let barrier = api.engine.apply_instance(Arc::clone(&changed)).await?;
    may.audit(&api, "instance.paced", instance.id, None).await;
    let code = status(&barrier, StatusCode::OK);
    let set = PacingSet {
        pacing: pacing(&changed),
        missing: barrier.missing,
    };
    envelope::data(set)
        .status(code)
        .message("Pacing updated successfully")
        .warnings(warnings)
        .answer()
}
