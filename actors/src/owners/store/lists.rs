//! Lists and totals of instances that several nodes own.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use zajil_cluster::Place;
use zajil_model::id::{InstanceId, MessageId};
use zajil_model::lease::NodeId;
use zajil_storage::{ListPage, ListRequest, MessageRecord, StoreError, Totals, TotalsFilter};

use super::{READ_WITHIN, RoutedStore};
use crate::owners::questions::{ReadList, ReadTotals};

/// Messages that are asked of each node at once when pages of several are merged.
const PAGE: usize = 200;

/// Where the newest state of some instances is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Home {
    /// On this node, or nowhere.
    Here,
    There(NodeId),
}

/// The list of one node, while lists are merged.
struct Source {
    home: Home,
    instances: Vec<InstanceId>,
    /// What was read of it, oldest first.
    page: Vec<MessageRecord>,
    before: Option<MessageId>,
    ended: bool,
}

impl Source {
    const fn is_dry(&self) -> bool {
        self.page.is_empty() && !self.ended
    }

    async fn fill(&mut self, store: &RoutedStore, request: &ListRequest) -> Result<(), StoreError> {
        let mut filter = request.filter.clone();
        filter.instances.clone_from(&self.instances);
        let part = ListRequest {
            filter,
            before: self.before,
            skip: 0,
            limit: PAGE,
        };
        let page = store.list_at(self.home, part).await?;
        self.ended = page.next.is_none();
        self.before = page.next;
        self.page = page.messages;
        self.page.reverse();
        Ok(())
    }
}

impl RoutedStore {
    /// A page of the lists of all that own some of the instances.
    pub(super) async fn list_of_all(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let mut homes = self.homes(&request.filter.instances);
        if homes.len() > 1 {
            return self.merge(homes, request).await;
        }
        let home = homes.pop_first().map_or(Home::Here, |(home, _)| home);
        self.list_at(home, request).await
    }

    /// The sums of the totals of all that own some of the instances.
    pub(super) async fn totals_of_all(&self, filter: TotalsFilter) -> Result<Totals, StoreError> {
        let parts = self.homes(&filter.instances).into_iter();
        let parts = parts.map(|(home, instances)| {
            let mut part = filter.clone();
            part.instances = instances;
            self.totals_at(home, part)
        });
        let mut all = Totals::default();
        for part in join_all(parts).await {
            let part = part?;
            for (sum, count) in all.all.iter_mut().zip(part.all) {
                *sum += count;
            }
            all.by_instance.extend(part.by_instance);
        }
        Ok(all)
    }

    fn homes(&self, instances: &[InstanceId]) -> BTreeMap<Home, Vec<InstanceId>> {
        let mut homes: BTreeMap<Home, Vec<InstanceId>> = BTreeMap::new();
        for instance in instances {
            let home = match self.owners.ownership().place(instance.shard()) {
                Place::There(node, _) => Home::There(node),
                Place::Here(_) | Place::Moving | Place::Nobody => Home::Here,
            };
            homes.entry(home).or_default().push(*instance);
        }
        homes
    }

    /// One part of a list, from its owner or from what is stored.
    async fn list_at(&self, home: Home, request: ListRequest) -> Result<ListPage, StoreError> {
        if let Home::There(node) = home {
            let question = ReadList(request);
            match self.owners.ask_node(node, &question, READ_WITHIN).await {
                Ok(Ok(page)) => return Ok(page),
                Ok(Err(StoreError::NotOpen(_))) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
            return self.inner.list(question.0).await;
        }
        self.inner.list(request).await
    }

    async fn totals_at(&self, home: Home, filter: TotalsFilter) -> Result<Totals, StoreError> {
        if let Home::There(node) = home {
            let question = ReadTotals(filter);
            match self.owners.ask_node(node, &question, READ_WITHIN).await {
                Ok(Ok(totals)) => return Ok(totals),
                Ok(Err(StoreError::NotOpen(_))) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
            return self.inner.totals(question.0).await;
        }
        self.inner.totals(filter).await
    }

    /// Merges the lists of several nodes, newest first, a page of each at a time.
    async fn merge(
        &self,
        homes: BTreeMap<Home, Vec<InstanceId>>,
        request: ListRequest,
    ) -> Result<ListPage, StoreError> {
        let begin = |(home, instances)| Source {
            home,
            instances,
            page: Vec::new(),
            before: request.before,
            ended: false,
        };
        let mut sources: Vec<Source> = homes.into_iter().map(begin).collect();
        let (mut skip, mut merged) = (request.skip, ListPage::default());
        loop {
            let dry = sources.iter_mut().filter(|source| source.is_dry());
            let filled = join_all(dry.map(|source| source.fill(self, &request))).await;
            filled.into_iter().collect::<Result<(), StoreError>>()?;
            let newest = |source: &&mut Source| source.page.last().map(MessageRecord::id);
            let Some(source) = sources.iter_mut().max_by_key(newest) else {
                return Ok(merged);
            };
            let Some(record) = source.page.pop() else {
                return Ok(merged);
            };
            if merged.messages.len() == request.limit {
                // There is more; go on below the last one that was answered.
                merged.next = merged.messages.last().map(MessageRecord::id);
                return Ok(merged);
            }
            if skip > 0 {
                skip -= 1;
            } else {
                merged.messages.push(record);
            }
        }
    }
}
