//! The change feed of an account over all nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use zajil_cluster::{Ownership, Place};
use zajil_model::id::Shard;
use zajil_model::lease::NodeId;
use zajil_model::time::Clock;
use zajil_storage::{ChangePage, Cursor, StatusChange, Store, StoreError};

use super::{READ_WITHIN, RoutedStore};
use crate::owners::questions::ReadChanges;

/// How often all shards are asked for changes: as long as a shard moves in good order.
const FEED_ROUNDS: usize = 8;

/// The wait between two rounds.
const FEED_AGAIN: Duration = Duration::from_millis(250);

impl RoutedStore {
    /// A page of the changes, once every shard was told of; an empty one while some has no owner.
    pub(super) async fn feed(&self, question: &ReadChanges) -> Result<ChangePage, StoreError> {
        for _ in 0..FEED_ROUNDS {
            if let Some(page) = self.changes_of_all(question).await? {
                return Ok(page);
            }
            tokio::time::sleep(FEED_AGAIN).await;
        }
        // Some shard has no owner now: what it has to tell may come before what others told since.
        Ok(ChangePage {
            changes: Vec::new(),
            next: question.after,
            upto: question.after.unwrap_or_default(),
        })
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
