//! Order: what was accepted first is shown first, per instance, recipient and lane.
//!
//! Two requests that overlapped have no order; within one request its places are the order.

use std::collections::BTreeMap;

use super::{Case, Fault, Line};
use crate::ledger::Accepted;

/// A message that was shown, by its place in the ledger.
type Shown<'e> = (usize, &'e Accepted);

pub(super) fn check(case: &Case<'_>, faults: &mut Vec<Fault>) {
    let mut lines: BTreeMap<Line<'_>, Vec<Shown<'_>>> = BTreeMap::new();
    for one in &case.evidence.book.accepted {
        let shown = case.finals.get(&one.id).and_then(|last| case.shown(last));
        if let Some(place) = shown {
            let line = (one.instance, one.recipient.as_str(), one.lane);
            lines.entry(line).or_default().push((place, one));
        }
    }
    for line in lines.values_mut() {
        line.sort_by_key(|(place, _)| *place);
        check_line(line, faults);
    }
}

fn check_line(line: &[Shown<'_>], faults: &mut Vec<Fault>) {
    // Of those shown so far: who began last, and the highest place of each request.
    let mut latest: Option<&Accepted> = None;
    let mut places: BTreeMap<u64, &Accepted> = BTreeMap::new();
    for (_, one) in line {
        let before = latest.filter(|latest| one.asked.1 < latest.asked.0);
        let within = places
            .get(&one.request.0)
            .filter(|other| one.request.1 < other.request.1);
        if let Some(first) = before.or(within.copied()) {
            faults.push(Fault::Order {
                recipient: one.recipient.clone(),
                first: first.client_ref.clone(),
                second: one.client_ref.clone(),
            });
        }
        if latest.is_none_or(|latest| latest.asked.0 < one.asked.0) {
            latest = Some(one);
        }
        let highest = places.entry(one.request.0).or_insert(one);
        if highest.request.1 < one.request.1 {
            *highest = one;
        }
    }
}
