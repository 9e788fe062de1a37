//! Compares the books when everything is over: what the customers were promised, what WhatsApp was
//! handed, and what the engine says of it. It shares no code with the engine and knows the promises
//! alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use zajil_model::id::{InstanceId, MessageId};
use zajil_model::instance::Instance;
use zajil_model::lifecycle::Status;
use zajil_storage::{ListFilter, ListRequest, MessageRecord, TotalsFilter};

use crate::book::{Accepted, Barrier, Held, Pages};
use crate::customers::Customers;
use crate::rare::{Rare, Reached};
use crate::readers::Readers;
use crate::whatsapp::Frame;
use crate::world::World;
use std::sync::Arc;

mod campaigns;
mod feed;

/// How long the engine may take to tell what it knows.
const TELLS_WITHIN: Duration = Duration::from_secs(30);

/// More messages than a world has.
const ALL: usize = 100_000;

/// Clocks run up to 4 parts in a thousand too fast.
const CLOCKS: f64 = 1.005;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) wrong: Option<String>,
    pub(crate) reached: Arc<Reached>,
    pub(crate) story: Vec<String>,
    pub(crate) accepted: usize,
    pub(crate) frames: usize,
}

/// What the engine says of messages in the end.
type Finals = BTreeMap<MessageId, MessageRecord>;

/// Judges a world that came to rest.
pub(crate) fn judge(world: &mut World, customers: &Customers, readers: &Readers) -> Verdict {
    let pages = customers.book.pages();
    let frames = world.whatsapp.frames();
    if world.oracle.what_is_wrong().is_none()
        && let Err(why) = compare(world, (customers, readers), &pages, &frames)
    {
        world.oracle.wrong(&why);
    }
    Verdict {
        wrong: world.oracle.what_is_wrong(),
        reached: Arc::clone(&world.reached),
        story: world.oracle.story(),
        accepted: pages.accepted.len(),
        frames: frames.len(),
    }
}

fn compare(
    world: &mut World,
    (customers, readers): (&Customers, &Readers),
    pages: &Pages,
    frames: &[Frame],
) -> Result<(), String> {
    let instances = customers.instances();
    let finals = told(world, &instances)?;
    let shown = world.whatsapp.shown();
    promised(pages, &finals)?;
    settled(&finals, &shown, &world.reached)?;
    asked_for(pages, &finals, &shown, &world.reached)?;
    // Of what nobody knows whether it was shown, nobody says when.
    let is_known = |id: &MessageId| finals[id].state.status != Status::Unknown;
    let known = shown.iter().filter(|(id, _)| is_known(id));
    let known = known.map(|(id, place)| (*id, *place)).collect();
    ordered(&pages.accepted, &known)?;
    held_back(&pages.barriers, &finals, frames)?;
    purged(pages, frames)?;
    campaigns::compare(world, customers, &finals, frames)?;
    feed::compare(world, (customers.account, readers), &finals)?;
    for instance in &instances {
        paced(instance, frames)?;
    }
    Ok(())
}

/// What the engine tells, from every node the same, and the same as a restart would read.
fn told(world: &mut World, instances: &[Arc<Instance>]) -> Result<Finals, String> {
    let ids: Vec<InstanceId> = instances.iter().map(|instance| instance.id).collect();
    let mut finals: Option<Finals> = None;
    for node in world.ready() {
        let (listed, totals) = told_by(world, node, &ids)?;
        let counted = totals.iter().sum::<u64>();
        let mut by_status = [0; Status::COUNT];
        for record in listed.values() {
            by_status[record.state.status as usize] += 1;
        }
        if by_status != totals {
            return Err(format!(
                "node {} lists {by_status:?} and counts {totals:?} ({counted})",
                node.0
            ));
        }
        if let Some(before) = &finals {
            same(before, &listed, &format!("node {}", node.0))?;
        } else {
            finals = Some(listed);
        }
    }
    let finals = finals.ok_or("no node runs in the end")?;
    let stored = world.stored(&ids);
    same(&finals, &stored, "what is stored")?;
    Ok(finals)
}

fn told_by(
    world: &mut World,
    node: zajil_model::lease::NodeId,
    ids: &[InstanceId],
) -> Result<(Finals, [u64; Status::COUNT]), String> {
    let ids = ids.to_vec();
    let told = world.ask(node, TELLS_WITHIN, move |engine| async move {
        let filter = ListFilter {
            instances: ids.clone(),
            ..ListFilter::default()
        };
        let request = ListRequest {
            filter,
            before: None,
            skip: 0,
            limit: ALL,
        };
        let page = engine.store().list(request).await?;
        let totals = engine.store().totals(TotalsFilter {
            instances: ids,
            ..TotalsFilter::default()
        });
        Ok::<_, zajil_storage::StoreError>((page, totals.await?))
    });
    let (page, totals) = told
        .ok_or_else(|| format!("node {} does not tell", node.0))?
        .map_err(|error| format!("node {} cannot tell: {error}", node.0))?;
    let listed = page.messages.into_iter().map(|it| (it.id(), it));
    Ok((listed.collect(), totals.all))
}

fn same(one: &Finals, other: &Finals, whose: &str) -> Result<(), String> {
    let ids: BTreeSet<MessageId> = one.keys().chain(other.keys()).copied().collect();
    for id in ids {
        let status = |of: &Finals| of.get(&id).map(|it| it.state.status);
        if status(one) != status(other) {
            return Err(format!(
                "{id} is {:?}, and {:?} by {whose}",
                status(one),
                status(other)
            ));
        }
    }
    Ok(())
}

/// What was promised is there.
fn promised(pages: &Pages, finals: &Finals) -> Result<(), String> {
    for one in &pages.accepted {
        let found = finals.get(&one.id);
        let named = found.and_then(|it| it.message().client_ref.as_deref());
        if named != Some(one.client_ref.as_str()) {
            return Err(format!(
                "{} ({}) was accepted and is lost",
                one.id, one.client_ref
            ));
        }
    }
    Ok(())
}

/// Everything is settled, and as WhatsApp has it.
fn settled(
    finals: &Finals,
    shown: &BTreeMap<MessageId, u64>,
    reached: &Reached,
) -> Result<(), String> {
    for (id, record) in finals {
        let (status, is_shown) = (record.state.status, shown.contains_key(id));
        let fits = match status {
            Status::Scheduled | Status::Pending | Status::Processing => false,
            Status::Sent | Status::Delivered | Status::Read => is_shown,
            Status::Expired | Status::Cancelled | Status::Suppressed | Status::Failed => !is_shown,
            Status::Unknown => {
                reached.note(Rare::UnknownForGood);
                true
            }
        };
        if !fits {
            return Err(format!("{id} is {status:?}, and shown: {is_shown}"));
        }
    }
    Ok(())
}

/// Nobody sent what was refused, or anything twice under two names.
fn asked_for(
    pages: &Pages,
    finals: &Finals,
    shown: &BTreeMap<MessageId, u64>,
    reached: &Reached,
) -> Result<(), String> {
    let mut by_ref = BTreeMap::<&str, Vec<MessageId>>::new();
    for (id, record) in finals {
        let named = record.message().client_ref.as_deref().unwrap_or_default();
        by_ref.entry(named).or_default().push(*id);
        if record.state.status == Status::Suppressed {
            reached.note(Rare::Suppressed);
        }
    }
    for (named, ids) in &by_ref {
        if pages.refused.contains(*named) {
            return Err(format!("{ids:?} ({named}) was refused, and is there"));
        }
        if ids.len() > 1 {
            return Err(format!("{named} was accepted as {ids:?}"));
        }
    }
    if let Some(id) = shown.keys().find(|id| !finals.contains_key(id)) {
        return Err(format!("{id} was shown, and nobody knows of it"));
    }
    for named in &pages.unknown {
        reached.note(if by_ref.contains_key(named.as_str()) {
            Rare::UnknownAndAccepted
        } else {
            Rare::UnknownAndNotAccepted
        });
    }
    Ok(())
}

/// What was accepted first is shown first, per instance, recipient and lane. Two requests that
/// overlapped have no order; within one request its places are the order.
fn ordered(accepted: &[Accepted], shown: &BTreeMap<MessageId, u64>) -> Result<(), String> {
    let mut lines = BTreeMap::<_, Vec<(u64, &Accepted)>>::new();
    for one in accepted.iter().filter(|one| !one.timed) {
        if let Some(place) = shown.get(&one.id) {
            let line = (one.instance, one.recipient, one.lane as u8);
            lines.entry(line).or_default().push((*place, one));
        }
    }
    for line in lines.values_mut() {
        line.sort_by_key(|(place, _)| *place);
        for (n, (_, first)) in line.iter().enumerate() {
            let later = line[n + 1..].iter().map(|(_, second)| *second);
            for second in later {
                let apart = second.asked.1 < first.asked.0;
                let within =
                    first.request.0 == second.request.0 && second.request.1 < first.request.1;
                if apart || within {
                    let named = |it: &Accepted| {
                        let (began, answered) = it.asked;
                        format!(
                            "{} ({}, asked {began:?} to {answered:?})",
                            it.id, it.client_ref
                        )
                    };
                    let (recipient, first, second) = (first.recipient, named(first), named(second));
                    return Err(format!("{recipient} was shown {first} before {second}"));
                }
            }
        }
    }
    Ok(())
}

/// Nothing was handed over behind a barrier.
fn held_back(barriers: &[Barrier], finals: &Finals, frames: &[Frame]) -> Result<(), String> {
    for Barrier { of, from, until } in barriers {
        let until = until.unwrap_or(Duration::MAX);
        let behind = frames.iter().find(|frame| {
            let named = match of {
                Held::Recipient(recipient) => frame.recipient == *recipient,
                Held::Instance(instance) => frame.instance == *instance,
                Held::Message(id) => frame.id == *id,
                Held::Purged(..) => false,
            };
            named && frame.handed_at > *from && frame.handed_at < until
        });
        if let Some(frame) = behind {
            return Err(format!(
                "{} was handed over at {:?}, behind the barrier of {of:?} at {from:?}",
                frame.id, frame.handed_at
            ));
        }
        if let Held::Message(id) = of
            && finals
                .get(id)
                .is_none_or(|it| it.state.status != Status::Cancelled)
        {
            return Err(format!("{id} was cancelled and is not"));
        }
    }
    Ok(())
}

/// Nothing that waited when everything was cancelled was handed over for the first time after that.
fn purged(pages: &Pages, frames: &[Frame]) -> Result<(), String> {
    for Barrier { of, from, .. } in &pages.barriers {
        let Held::Purged(instance, began) = of else {
            continue;
        };
        let waited = |one: &&Accepted| one.instance == *instance && one.asked.1 < *began;
        for one in pages.accepted.iter().filter(waited) {
            let first = frames.iter().find(|frame| frame.id == one.id);
            if let Some(first) = first.filter(|first| first.handed_at > *from) {
                return Err(format!(
                    "{} was handed over at {:?}, and purged at {from:?}",
                    one.id, first.handed_at
                ));
            }
        }
    }
    Ok(())
}

/// In every window *w* at most `rate · w + burst + 1` hand-overs.
fn paced(instance: &Instance, frames: &[Frame]) -> Result<(), String> {
    let rate = instance.pace.rate_per_second() * CLOCKS;
    let most = f64::from(instance.pace.burst.unwrap_or(1)) + 1.0 + 1e-3;
    let mine = frames.iter().filter(|frame| frame.instance == instance.id);
    let mut times: Vec<f64> = mine.map(|frame| frame.handed_at.as_secs_f64()).collect();
    times.sort_unstable_by(f64::total_cmp);
    for (i, from) in times.iter().enumerate() {
        for (n, to) in times[i..].iter().enumerate() {
            let allowed = rate * (to - from) + most;
            if (n + 1) as f64 > allowed {
                return Err(format!(
                    "instance {} handed over {} in {:.3} s from {from:.3}, allowed {allowed:.2}",
                    instance.id,
                    n + 1,
                    to - from
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
