//! Compares campaigns: every row that was answered is a message, once; what was cancelled or paused
//! stood still; and the counts are those of the messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use zajil_actors::batch::{BatchView, RefusedRow};
use zajil_model::batch::BatchState;
use zajil_model::id::{AccountId, MessageId};
use zajil_model::lifecycle::Status;
use zajil_model::message::Queue;

use super::{Finals, TELLS_WITHIN};
use crate::customers::Customers;
use crate::customers::campaign::Campaign;
use crate::rare::Rare;
use crate::whatsapp::Frame;
use crate::world::World;

/// More refused rows than a campaign has.
const ALL: usize = 1_000;

/// Compares every campaign of a world.
pub(super) fn compare(
    world: &mut World,
    customers: &Customers,
    finals: &Finals,
    frames: &[Frame],
) -> Result<(), String> {
    world.note_fillers();
    for campaign in &customers.campaigns {
        let fault = |what| format!("campaign {}: {what}", campaign.number);
        let mine: BTreeMap<MessageId, Status> = finals
            .iter()
            .filter(|(_, record)| record.chunk.queue == Queue::Part(campaign.id))
            .map(|(id, record)| (*id, record.state.status))
            .collect();
        let rows = rows_of(campaign, &mine, finals).map_err(fault)?;
        for node in world.ready() {
            let viewed = view(world, node, customers.account, campaign);
            let (view, refused) = viewed.map_err(fault)?;
            same_counts(campaign, &view, &mine).map_err(fault)?;
            same_rows(campaign, &view, &refused, &rows).map_err(fault)?;
        }
        let first = first_frames(&mine, frames);
        stood_still(campaign, &first).map_err(fault)?;
        let is = |status| mine.values().any(|it| *it == status);
        let cancelled = campaign.notes.lock().ended == Some(BatchState::Cancelled);
        if cancelled && is(Status::Sent) && is(Status::Cancelled) {
            world.reached.note(Rare::CampaignCancelledHalfway);
        }
    }
    Ok(())
}

fn view(
    world: &mut World,
    node: zajil_model::lease::NodeId,
    account: AccountId,
    campaign: &Campaign,
) -> Result<(BatchView, Vec<RefusedRow>), String> {
    let id = campaign.id;
    let told = world.ask(node, TELLS_WITHIN, move |engine| async move {
        let batches = engine.batches();
        let view = batches.view(account, id).await?;
        Ok::<_, zajil_actors::batch::BatchError>((
            view,
            batches.refused(account, id, None, ALL).await?,
        ))
    });
    told.ok_or_else(|| format!("node {} does not tell", node.0))?
        .map_err(|error| format!("node {} cannot tell: {error}", node.0))
}

/// The rows that are messages. Each is one of those that were asked for, and to be sent.
fn rows_of(
    campaign: &Campaign,
    mine: &BTreeMap<MessageId, Status>,
    finals: &Finals,
) -> Result<BTreeSet<u64>, String> {
    let (taken, _, _) = campaign.becomes(campaign.notes.lock().asked);
    let by_ref: BTreeMap<String, u64> = taken
        .into_iter()
        .map(|row| (campaign.client_ref(row), row))
        .collect();
    let mut rows = BTreeSet::new();
    for id in mine.keys() {
        let record = &finals[id];
        let named = record.message().client_ref.as_deref().unwrap_or_default();
        let Some(row) = by_ref.get(named) else {
            return Err(format!("{id} ({named}) is no row that was to be sent"));
        };
        let is_sender = campaign.instances.contains(&record.chunk.instance);
        let recipient = campaign.row(*row).recipient;
        if !is_sender || record.message().recipient != recipient {
            return Err(format!("{id} ({named}) goes another way than it should"));
        }
        rows.insert(*row);
    }
    Ok(rows)
}

fn same_counts(
    campaign: &Campaign,
    view: &BatchView,
    mine: &BTreeMap<MessageId, Status>,
) -> Result<(), String> {
    let mut counts = [0; Status::COUNT];
    for status in mine.values() {
        counts[*status as usize] += 1;
    }
    if view.counts != counts {
        return Err(format!(
            "its messages are {counts:?}, and it counts {:?}",
            view.counts
        ));
    }
    let ended = campaign.notes.lock().ended;
    let state = view.record.life.state;
    if ended != Some(state) {
        return Err(format!("it ended as {ended:?} and is {state}"));
    }
    Ok(())
}

/// What was answered as dealt with is there, and the whole of it when it finished.
fn same_rows(
    campaign: &Campaign,
    view: &BatchView,
    refused: &[RefusedRow],
    rows: &BTreeSet<u64>,
) -> Result<(), String> {
    let answered = campaign.notes.lock().answered;
    let progress = view.progress;
    if progress.rows_received < answered {
        return Err(format!(
            "{answered} rows were answered, and it knows of {}",
            progress.rows_received
        ));
    }
    let (taken, nameless, expected) = campaign.becomes(progress.rows_received);
    if progress != expected {
        return Err(format!("it got {progress:?}, and should have {expected:?}"));
    }
    if let Some(row) = taken.iter().find(|row| !rows.contains(*row)) {
        return Err(format!("row {row} was taken and is lost"));
    }
    let refused: Vec<u64> = refused.iter().map(|it| it.row).collect();
    let known: Vec<u64> = refused
        .iter()
        .copied()
        .filter(|row| nameless.contains(row))
        .collect();
    if known != nameless {
        return Err(format!(
            "{nameless:?} were refused, and it says {refused:?}"
        ));
    }
    let finished = view.record.life.state == BatchState::Finished;
    if finished && (progress.rows_received < campaign.plan.rows || rows.len() > taken.len()) {
        return Err(format!("it finished with {} rows", progress.rows_received));
    }
    Ok(())
}

/// When each of its messages was handed over first.
fn first_frames(
    mine: &BTreeMap<MessageId, Status>,
    frames: &[Frame],
) -> BTreeMap<MessageId, Duration> {
    let mut first = BTreeMap::new();
    for frame in frames.iter().filter(|frame| mine.contains_key(&frame.id)) {
        let at = first.entry(frame.id).or_insert(frame.handed_at);
        *at = frame.handed_at.min(*at);
    }
    first
}

/// Nothing leaves for the first time before a start, behind a pause, or behind a cancel.
fn stood_still(campaign: &Campaign, first: &BTreeMap<MessageId, Duration>) -> Result<(), String> {
    let notes = campaign.notes.lock();
    for (id, at) in first {
        if notes.started_at.is_none_or(|started| *at < started) {
            return Err(format!("{id} was handed over at {at:?}, before a start"));
        }
        if notes.cancelled_at.is_some_and(|cancelled| *at > cancelled) {
            return Err(format!("{id} was handed over at {at:?}, behind a cancel"));
        }
        let held = |(from, to): &&(Duration, Option<Duration>)| {
            at > from && *at < to.unwrap_or(Duration::MAX)
        };
        if let Some(pause) = notes.pauses.iter().find(held) {
            return Err(format!(
                "{id} was handed over at {at:?}, in the pause {pause:?}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
