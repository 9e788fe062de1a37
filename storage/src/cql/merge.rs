//! Answers of several shards, made one.

use std::collections::BTreeMap;

use zajil_model::id::{InstanceId, MessageId, Shard};

use crate::query::{ListPage, ListRequest, MessageRecord, Totals, TotalsFilter};

/// What each shard is asked for.
pub(super) fn by_shard(instances: &[InstanceId]) -> BTreeMap<Shard, Vec<InstanceId>> {
    let mut shards: BTreeMap<Shard, Vec<InstanceId>> = BTreeMap::new();
    for instance in instances {
        shards.entry(instance.shard()).or_default().push(*instance);
    }
    shards
}

/// The counts of several shards, in the order in which the instances were named.
pub(super) fn totals(filter: &TotalsFilter, parts: Vec<Totals>) -> Totals {
    let mut all = Totals::default();
    for part in parts {
        all.all
            .iter_mut()
            .zip(part.all)
            .for_each(|(sum, count)| *sum += count);
        all.by_instance.extend(part.by_instance);
    }
    let place = |instance: InstanceId| filter.instances.iter().position(|named| *named == instance);
    all.by_instance
        .sort_by_key(|(instance, _)| place(*instance));
    all
}

/// A list over several shards, filled from a page of each at a time.
#[derive(Debug)]
pub(super) struct Merge {
    request: ListRequest,
    skipped: u64,
    found: Vec<MessageRecord>,
    /// What each shard answered and is not taken yet, newest first; and where it goes on.
    pages: BTreeMap<Shard, (Vec<MessageRecord>, Option<MessageId>)>,
}

/// A page that a shard is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) shard: Shard,
    pub(super) request: ListRequest,
}

impl Merge {
    /// Begins a page, and what to ask first.
    pub(super) fn new(request: ListRequest) -> (Self, Vec<Ask>) {
        let asks = by_shard(&request.filter.instances)
            .into_keys()
            .map(|shard| Ask {
                shard,
                request: part(&request, shard, request.before),
            });
        let asks = asks.collect();
        let merge = Self {
            request,
            skipped: 0,
            found: Vec::new(),
            pages: BTreeMap::new(),
        };
        (merge, asks)
    }

    /// A shard answered.
    pub(super) fn answered(&mut self, shard: Shard, page: ListPage) {
        let mut messages = page.messages;
        messages.reverse();
        self.pages.insert(shard, (messages, page.next));
    }

    /// Takes what is newest, until the page is full or a shard has to be asked for more: then what
    /// to ask.
    pub(super) fn go_on(&mut self) -> Option<Ask> {
        let newest = |pages: &BTreeMap<Shard, (Vec<MessageRecord>, Option<MessageId>)>| {
            let heads = pages
                .iter()
                .filter_map(|(shard, (messages, _))| Some((messages.last()?.id(), *shard)));
            heads.max()
        };
        while self.found.len() <= self.request.limit {
            let empty = self
                .pages
                .iter()
                .find(|(_, (messages, next))| messages.is_empty() && next.is_some());
            if let Some((shard, (_, next))) = empty {
                let (shard, next) = (*shard, *next);
                return Some(Ask {
                    shard,
                    request: part(&self.request, shard, next),
                });
            }
            let (_, shard) = newest(&self.pages)?;
            let record = self
                .pages
                .get_mut(&shard)
                .and_then(|(messages, _)| messages.pop());
            if self.skipped < self.request.skip {
                self.skipped += 1;
            } else {
                self.found.extend(record);
            }
        }
        None
    }

    /// The page.
    pub(super) fn page(mut self) -> ListPage {
        // One more than asked for tells whether there is a next page.
        let is_full = self.found.len() > self.request.limit;
        self.found.truncate(self.request.limit);
        let next = self.found.last().filter(|_| is_full);
        ListPage {
            next: next.map(MessageRecord::id),
            messages: self.found,
        }
    }
}

/// The same request for the instances of one shard.
fn part(request: &ListRequest, shard: Shard, before: Option<MessageId>) -> ListRequest {
    let mut filter = request.filter.clone();
    filter
        .instances
        .retain(|instance| instance.shard() == shard);
    ListRequest {
        filter,
        before,
        skip: 0,
        limit: request.limit.max(1),
    }
}
