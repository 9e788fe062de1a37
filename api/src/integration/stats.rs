//! Counts of messages by status.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_model::lifecycle::Status;
use zajil_storage::{StatusCounts, TotalsFilter};

use super::messages::named_instance;
use super::record::{self, Names};
use crate::auth::{May, ReadMessages};
use crate::envelope::{self, Answer};
use crate::request::Called;
use crate::schema::{Data, InstanceName};
use crate::state::ApiState;
use crate::validate::{self, field};

/// Counts by status.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// Counts of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    total: u64,
    /// How many have each status.
    #[schema(value_type = BTreeMap<String, u64>)]
    by_status: Counts,
    /// The same for each instance that has any.
    instances: Vec<InstanceStats>,
}

/// Counts of one instance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceStats {
    instance: InstanceName,
    total: u64,
    #[schema(value_type = BTreeMap<String, u64>)]
    by_status: Counts,
}

impl InstanceStats {
    /// The counts of an instance.
    pub(crate) fn new(instance: InstanceName, by_status: &StatusCounts) -> Self {
        Self {
            instance,
            total: by_status.iter().sum(),
            by_status: counts(by_status),
        }
    }
}

/// Counts with the words of their statuses.
pub(crate) fn counts(by_status: &StatusCounts) -> Counts {
    Status::ALL
        .into_iter()
        .map(|status| (status.label(), by_status[status as usize]))
        .collect()
}

/// Counts messages by status, of one instance or all, over whole UTC days.
#[utoipa::path(
    get, path = "/stats", operation_id = "get_stats", tag = "General",
    params(
        ("instance" = Option<String>, Query, description = "Only of this instance: id or name"),
        ("from" = Option<String>, Query, description = "Created on this UTC day or later"),
        ("to" = Option<String>, Query, description = "Created before this UTC day"),
    ),
    responses((status = 200, body = Data<Stats>, description = "Exact counts."))
)]
pub(crate) async fn get_stats(
    State(api): State<ApiState>,
    may: May<ReadMessages>,
    called: Called,
) -> Answer {
    let (named, from, to) = validate::query(called.uri(), |form| {
        let named = form.optional("instance", field::instance);
        (
            named,
            form.optional("from", field::day),
            form.optional("to", field::day),
        )
    })?;
    let all = record::instances_of(&api, &may).await?;
    let instances = match named {
        Some(named) => vec![named_instance(&api, &may, &named).await?],
        None => all.iter().map(|instance| instance.id).collect(),
    };
    let filter = TotalsFilter {
        instances,
        batch: None,
        from,
        to,
    };
    let totals = api.engine.store().totals(filter).await?;
    let names = Names::of(&all);
    let of_instance =
        |(id, counts): &(_, StatusCounts)| InstanceStats::new(names.name(*id), counts);
    envelope::data(Stats {
        total: totals.sum(),
        by_status: counts(&totals.all),
        instances: totals.by_instance.iter().map(of_instance).collect(),
    })
    .answer()
}
