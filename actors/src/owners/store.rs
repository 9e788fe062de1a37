//! The store as a node of many sees it: what another node owns is read there.
//!
//! The owner of a shard has its newest state in memory. A read about it goes to the owner; while
//! there is none, or it does not answer in time, what is stored is read here, which may be a moment
//! old. Appends and the queues of shards are their owner's alone and never leave the node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use zajil_cluster::{Ownership, Place};
use zajil_model::id::{AccountId, BatchId, Epoch, InstanceId, MessageId, Shard, Tick};
use zajil_model::lease::NodeId;
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::{Clock, Timestamp};
use zajil_storage::{
    Append, ChangePage, Cursor, Done, Expiring, Health, ListPage, ListRequest, MessageRecord,
    QueuedChunk, Row, RowKey, RowWrite, ShardOpened, StatusChange, Store, StoreError, Table,
    Totals, TotalsFilter, Work, Written,
};

use super::questions::{ReadChanges, ReadList, ReadMessage, ReadRecipients, ReadTotals};
use super::{Asked, Owners};

/// Messages that are asked of each node at once when pages of several are merged.
const PAGE: usize = 200;

/// How long another node may take for its part of a page; then what is stored is read here.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// How often all shards are asked for changes: as long as a shard moves in good order.
const FEED_ROUNDS: usize = 8;

/// The wait between two rounds.
const FEED_AGAIN: Duration = Duration::from_millis(250);

/// A store over which several nodes share the work.
#[derive(Debug)]
pub struct RoutedStore {
    inner: Arc<dyn Store>,
    owners: Owners,
    clock: Arc<dyn Clock>,
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
    pub const fn new(inner: Arc<dyn Store>, owners: Owners, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            owners,
            clock,
        }
    }

    /// The changes of an account over all shards; `None` when not every shard was told of.
    async fn changes_of_all(
        &self,
        question: &ReadChanges,
    ) -> Result<Option<ChangePage>, StoreError> {
        let ownership = self.owners.ownership();
        let nodes: BTreeSet<NodeId> = Shard::all()
            .filter_map(|shard| match ownership.place(shard) {
                Place::There(node, _) => Some(node),
                Place::Here(_) | Place::Moving | Place::Nobody => None,
            })
            .collect();
        let others = nodes.into_iter().map(|node| async move {
            let asked = self.owners.ask_node(node, question, READ_WITHIN).await;
            asked.unwrap_or(Err(StoreError::NotOpen(Shard::of(0))))
        });
        let here = changes_here((ownership, &*self.clock), self.inner.as_ref(), question);
        let (here, others) = tokio::join!(here, join_all(others));
        let mut covered = BTreeSet::new();
        let mut upto = Cursor {
            record: u64::MAX,
            within: u32::MAX,
        };
        let mut changes = BTreeMap::new();
        for part in others.into_iter().chain([here]) {
            let (page, shards) = match part {
                Ok(part) => part,
                Err(StoreError::NotOpen(_)) => continue,
                Err(error) => return Err(error),
            };
            covered.extend(shards);
            // A page that is full says nothing of what comes after it.
            let full = page.changes.len() >= question.limit;
            let known = page.next.filter(|_| full).unwrap_or(page.upto);
            upto = upto.min(known);
            changes.extend(page.changes);
        }
        if covered.len() < usize::from(ownership.shards()) {
            return Ok(None);
        }
        let changes: Vec<_> = changes
            .into_iter()
            .take_while(|(place, _)| *place < upto)
            .take(question.limit)
            .collect();
        let next = changes.last().map(|(place, _)| Cursor {
            record: place.record,
            within: place.within + 1,
        });
        Ok(Some(ChangePage {
            changes,
            next: next.or(question.after),
            upto,
        }))
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

/// The changes of an account on this node, with the shards that they are of: those that this node
/// owned all the while, under a lease that is still good: of others it may have read what came too
/// late to count.
pub(crate) async fn changes_here(
    (ownership, clock): (&Ownership, &dyn Clock),
    store: &dyn Store,
    question: &ReadChanges,
) -> Result<(ChangePage, Vec<u16>), StoreError> {
    let held = || {
        let shards = Shard::all().map(|shard| (shard, ownership.place(shard)));
        shards.filter(|(_, place)| matches!(place, Place::Here(_)))
    };
    let before: Vec<(Shard, Place)> = held().collect();
    let (account, after) = (question.account, question.after);
    let mut page = store.changes(account, after, question.limit).await?;
    let now = clock.mono();
    let still = |(shard, place): &&(Shard, Place)| {
        let counts =
            matches!(place, Place::Here(epoch) if ownership.may_answer_for(*shard, *epoch, now));
        counts && ownership.place(*shard) == *place
    };
    let owned = before.iter().filter(still);
    let owned: BTreeSet<u16> = owned.map(|(shard, _)| shard.number()).collect();
    if page.changes.len() >= question.limit {
        // Without some of them it would not look full.
        page.upto = page.next.unwrap_or(page.upto).min(page.upto);
    }
    // Of the others their owners tell.
    let is_owned = |change: &StatusChange| owned.contains(&change.id.giver().number());
    page.changes.retain(|(_, change)| is_owned(change));
    Ok((page, owned.into_iter().collect()))
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

    fn drop_shard(&self, shard: Shard, epoch: Epoch) {
        self.inner.drop_shard(shard, epoch);
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

    fn claim(&self, append: Append, done: Done) {
        self.inner.claim(append, done);
    }

    fn claim_lag(&self) -> Duration {
        self.inner.claim_lag()
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

    async fn processing(&self, instance: InstanceId, queue: Queue) -> Result<u64, StoreError> {
        self.inner.processing(instance, queue).await
    }

    async fn expiries(
        &self,
        instance: InstanceId,
        queue: Queue,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<(Vec<Expiring>, Option<MessageId>), StoreError> {
        self.inner.expiries(instance, queue, after, limit).await
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
        let question = ReadChanges {
            account,
            after,
            limit,
        };
        for _ in 0..FEED_ROUNDS {
            if let Some(page) = self.changes_of_all(&question).await? {
                return Ok(page);
            }
            tokio::time::sleep(FEED_AGAIN).await;
        }
        // Some shard has no owner now: what it has to tell may come before what others told since.
        Ok(ChangePage {
            changes: Vec::new(),
            next: after,
            upto: after.unwrap_or_default(),
        })
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
