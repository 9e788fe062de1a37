//! The store as a node of many sees it: what another node owns is read there.
//!
//! The owner of a shard has its newest state in memory. A read about it goes to the owner; while
//! there is none, or it does not answer in time, what is stored is read here, which may be a moment
//! old. Appends and the queues of shards are their owner's alone and never leave the node.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use zajil_cluster::Place;
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::lease::NodeId;
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;
use zajil_storage::{
    Append, ChangePage, Cursor, Done, Health, ListPage, ListRequest, MessageRecord, QueuedChunk,
    Row, RowKey, RowWrite, ShardOpened, Store, StoreError, Table, Totals, TotalsFilter, Work,
    Written,
};

use super::questions::{ReadList, ReadMessage, ReadRecipients, ReadTotals};
use super::{Asked, Owners};

/// Messages that are asked of each node at once when pages of several are merged.
const PAGE: usize = 200;

/// How long another node may take for its part of a page; then what is stored is read here.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// A store over which several nodes share the work.
#[derive(Debug)]
pub struct RoutedStore {
    inner: Arc<dyn Store>,
    owners: Owners,
}

/// Where the newest state of some instances is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Home {
    /// On this node, or nowhere.
    Here,
    There(NodeId),
}

impl RoutedStore {
    /// The store of this node, with the others behind `owners`.
    pub const fn new(inner: Arc<dyn Store>, owners: Owners) -> Self {
        Self { inner, owners }
    }

    /// The store of this node alone.
    pub const fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
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

#[async_trait]
impl Store for RoutedStore {
    async fn open_shard(
        &self,
        shard: Shard,
        epoch: Option<Epoch>,
    ) -> Result<ShardOpened, StoreError> {
        self.inner.open_shard(shard, epoch).await
    }

    async fn close_shard(&self, shard: Shard, epoch: Epoch) -> Result<(), StoreError> {
        self.inner.close_shard(shard, epoch).await
    }

    async fn raise_ceiling(
        &self,
        shard: Shard,
        epoch: Epoch,
        ceiling: Tick,
    ) -> Result<Tick, StoreError> {
        self.inner.raise_ceiling(shard, epoch, ceiling).await
    }

    fn append(&self, append: Append, done: Done) {
        self.inner.append(append, done);
    }

    async fn write(&self, rows: Vec<RowWrite>) -> Result<Written, StoreError> {
        self.inner.write(rows).await
    }

    async fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.inner.row(key).await
    }

    async fn rows(
        &self,
        table: Table,
        partition: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StoreError> {
        let inner = &self.inner;
        inner.rows(table, partition, after, limit, reverse).await
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageRecord>, StoreError> {
        match self.owners.ask(id.giver(), ReadMessage(id)).await {
            Ok(Asked::There(found)) => found,
            Ok(Asked::Here(_)) | Err(_) => self.inner.message(id).await,
        }
    }

    async fn queued(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<(Vec<QueuedChunk>, Option<MessageId>), StoreError> {
        let inner = &self.inner;
        inner
            .queued(instance, queue, after, max_messages, max_bytes)
            .await
    }

    async fn scheduled(
        &self,
        instance: InstanceId,
        until: Timestamp,
        limit: usize,
    ) -> Result<(Vec<MessageRecord>, Option<Timestamp>), StoreError> {
        self.inner.scheduled(instance, until, limit).await
    }

    async fn work(&self) -> Result<Vec<Work>, StoreError> {
        self.inner.work().await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let mut homes = self.homes(&request.filter.instances);
        if homes.len() > 1 {
            return self.merge(homes, request).await;
        }
        let home = homes.pop_first().map_or(Home::Here, |(home, _)| home);
        self.list_at(home, request).await
    }

    async fn totals(&self, filter: TotalsFilter) -> Result<Totals, StoreError> {
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

    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<ChangePage, StoreError> {
        self.inner.changes(account, after, limit).await
    }

    async fn recipients(
        &self,
        instance: InstanceId,
        batch: BatchId,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<(MessageId, Phone)>, StoreError> {
        let question = ReadRecipients {
            instance,
            batch,
            after,
            limit,
        };
        match self.owners.ask(instance.shard(), question).await {
            Ok(Asked::There(found)) => found,
            Ok(Asked::Here(_)) | Err(_) => {
                let inner = &self.inner;
                inner.recipients(instance, batch, after, limit).await
            }
        }
    }

    async fn retire(&self, now: Timestamp, retention: Duration) -> Result<u32, StoreError> {
        self.inner.retire(now, retention).await
    }

    async fn backup(&self, file: &Path) -> Result<(), StoreError> {
        self.inner.backup(file).await
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.clock().await
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
