//! Compares what readers of the change feed were told: the last of it is how each message is, who
//! followed it from node to node saw all that is in it, and every node tells the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use zajil_model::id::{AccountId, MessageId};
use zajil_model::lease::NodeId;
use zajil_storage::{ChangePage, Cursor, StatusChange};

use super::{Finals, TELLS_WITHIN};
use crate::readers::{Reader, Readers};
use crate::world::World;

/// Changes in a page.
const PAGE: usize = 1_000;

/// Within what time everything is told once all is at rest. A shard whose owner died goes on a minute
/// ahead of it in its log, one whose owner's clock was 320 s ahead goes on there, and what is told of
/// it waits until the others come there.
const TOLD_WITHIN: Duration = Duration::from_secs(1_200);

/// How far machines run before another one's turn while nothing happens.
const QUIET_TICK: Duration = Duration::from_millis(25);

/// Of these, between two pages of who has read all there is.
const QUIET_TICKS: u32 = 120;

/// Compares what every reader was told.
pub(super) fn compare(
    world: &mut World,
    (account, readers): (AccountId, &Readers),
    finals: &Finals,
) -> Result<(), String> {
    let nodes = world.ready();
    let node = *nodes.first().ok_or("no node runs in the end")?;
    let whole = whole(world, (node, account), finals)?;
    for other in &nodes[1..] {
        let mut reader = Reader::default();
        read_on(world, (*other, account), &mut reader)?;
        same(&whole, &reader, &format!("node {}", other.0))?;
    }
    for (number, reader) in readers.all().iter().enumerate() {
        let node = nodes[number % nodes.len()];
        let mut reader = std::mem::take(&mut *reader.lock());
        read_on(world, (node, account), &mut reader)?;
        same(&whole, &reader, &format!("reader {number}"))?;
    }
    Ok(())
}

/// The whole feed, once it has told how every message is.
fn whole(
    world: &mut World,
    at: (NodeId, AccountId),
    finals: &Finals,
) -> Result<BTreeMap<Cursor, StatusChange>, String> {
    let mut reader = Reader::default();
    let end = world.now() + TOLD_WITHIN;
    loop {
        read_on(world, at, &mut reader)?;
        let told = |id: &MessageId| reader.last.get(id).copied();
        let untold = finals
            .iter()
            .find(|(id, record)| told(id) != Some(record.state.status));
        let Some((id, record)) = untold else { break };
        if world.now() >= end {
            let status = record.state.status;
            let (told, upto) = (told(id), reader.cursor);
            return Err(format!(
                "{id} is {status:?}, and told as {told:?}, read up to {upto:?}"
            ));
        }
        for _ in 0..QUIET_TICKS {
            world.pass(QUIET_TICK);
        }
    }
    match reader.last.keys().find(|id| !finals.contains_key(id)) {
        Some(id) => Err(format!("the feed tells of {id}, and nobody knows of it")),
        None => Ok(reader.seen),
    }
}

/// Reads until there is nothing more.
fn read_on(
    world: &mut World,
    (node, account): (NodeId, AccountId),
    reader: &mut Reader,
) -> Result<(), String> {
    loop {
        let after = reader.cursor;
        let told = world.ask(node, TELLS_WITHIN, move |engine| async move {
            engine.store().changes(account, after, PAGE).await
        });
        let page: ChangePage = told
            .ok_or_else(|| format!("node {} tells no changes", node.0))?
            .map_err(|error| format!("node {} cannot tell changes: {error}", node.0))?;
        reader.takes_in(&page)?;
        if page.changes.is_empty() {
            return Ok(());
        }
    }
}

/// Who read on saw all that is in the feed, and nothing else.
fn same(whole: &BTreeMap<Cursor, StatusChange>, other: &Reader, whose: &str) -> Result<(), String> {
    let places: BTreeSet<&Cursor> = whole.keys().chain(other.seen.keys()).collect();
    for place in places {
        let (is, seen) = (whole.get(place), other.seen.get(place));
        if is != seen {
            return Err(format!(
                "the feed has {is:?} at {place:?}, and {whose} was told {seen:?}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
