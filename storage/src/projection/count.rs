//! What is asked of many messages at once: work, totals, changes.

use std::collections::BTreeMap;

use zajil_model::id::{AccountId, BatchId};
use zajil_model::lifecycle::Status;
use zajil_model::message::Queue;
use zajil_model::time::Day;

use super::bodies::ChunkSource;
use super::head::Cell;
use super::key::{self, QueueKey};
use super::{Projection, disk, feed};
use crate::kv::{Direction, Kv, Span};
use crate::query::{ChangePage, Cursor, Totals, TotalsFilter};
use crate::{StoreError, Work};

impl<K: Kv, C: ChunkSource> Projection<K, C> {
    /// Every queue with something unsettled.
    pub(crate) fn work(&self) -> Vec<Work> {
        let state = self.state.read();
        let live = state.heads.iter().filter(|(_, head)| head.unsettled() > 0);
        live.map(|(key, head)| Work {
            instance: key.instance,
            queue: key.queue,
            unsettled: head.unsettled(),
            counts: head.counts,
            since: head.low.tick().time(),
        })
        .collect()
    }

    /// How many messages of a queue are processing.
    pub(crate) fn processing(&self, queue: QueueKey) -> u64 {
        let state = self.state.read();
        let head = state.heads.get(&queue);
        head.map_or(0, |head| head.counts[Status::Processing as usize])
    }

    /// The counts of a span, by queue and day.
    pub(super) fn cells(
        &self,
        span: &Span,
        hot: std::ops::RangeInclusive<(QueueKey, Day)>,
    ) -> Result<BTreeMap<(QueueKey, Day), Cell>, StoreError> {
        let (hot, deleted) = {
            let state = self.state.read();
            let hot: Vec<_> = state
                .cells
                .range(hot)
                .map(|(key, cell)| (*key, *cell))
                .collect();
            let changes = state
                .overlay
                .stretch(span, Direction::Up, usize::MAX - 1)
                .changes;
            let gone = changes.into_iter().filter(|(_, value)| value.is_none());
            (
                hot,
                gone.filter_map(|(key, _)| key::read_totals(&key))
                    .collect::<Vec<_>>(),
            )
        };
        let mut cells = disk::cells(&self.kv, span)?;
        cells.retain(|key, _| !deleted.contains(key));
        cells.extend(hot);
        Ok(cells)
    }

    /// Exact counts by status.
    pub(crate) fn totals(&self, filter: &TotalsFilter) -> Result<Totals, StoreError> {
        let mut totals = Totals::default();
        for instance in &filter.instances {
            let instance = *instance;
            let (span, first, last) = match filter.batch {
                Some(batch) => {
                    let queue = QueueKey {
                        instance,
                        queue: Queue::Part(batch),
                    };
                    (key::totals_of_queue(queue), queue, queue)
                }
                None => {
                    let newest = BatchId::new(key::highest().get()).expect("below the limit");
                    let first = QueueKey {
                        instance,
                        queue: Queue::High,
                    };
                    let last = QueueKey {
                        instance,
                        queue: Queue::Part(newest),
                    };
                    (key::totals_of_instance(instance), first, last)
                }
            };
            let cells = self.cells(&span, (first, Day(i32::MIN))..=(last, Day(i32::MAX)))?;
            let mut sum = [0; Status::COUNT];
            for ((_, day), cell) in cells {
                let inside = filter.from.is_none_or(|from| day >= from)
                    && filter.to.is_none_or(|to| day < to);
                if inside {
                    sum.iter_mut()
                        .zip(cell.counts)
                        .for_each(|(sum, count)| *sum += count);
                }
            }
            if sum.iter().any(|count| *count > 0) {
                totals
                    .all
                    .iter_mut()
                    .zip(sum)
                    .for_each(|(all, count)| *all += count);
                totals.by_instance.push((instance, sum));
            }
        }
        Ok(totals)
    }

    /// Whether there may be changes of an account.
    pub(crate) fn tells(&self, account: AccountId) -> bool {
        self.state.read().tellers.contains_key(&account)
    }

    /// Changes of an account from a place on.
    pub(crate) fn changes(
        &self,
        account: AccountId,
        from: Option<Cursor>,
        limit: usize,
    ) -> Result<ChangePage, StoreError> {
        let mut start = from.unwrap_or_default();
        let mut fresh = Vec::new();
        let (upto, teller) = {
            let state = self.state.read();
            let teller = state.tellers.get(&account).copied();
            let begins = Cursor {
                record: teller.map_or(0, |teller| teller.first),
                within: 0,
            };
            start = start.max(begins);
            for source in [state.frozen_feed.get(&account), state.feed.get(&account)] {
                let changes = source.map_or(&[][..], Vec::as_slice);
                let begin = changes.partition_point(|(place, _)| *place < start);
                fresh.extend(changes[begin..].iter().take(limit - fresh.len().min(limit)));
            }
            let upto = Cursor {
                record: state.applied + 1,
                within: 0,
            };
            (upto, teller)
        };
        let below = fresh.first().map(|(place, _)| *place);
        let mut changes = match teller {
            Some(teller) if start.record <= teller.last => {
                feed::read(&self.kv, account, start, below, limit)?
            }
            _ => Vec::new(),
        };
        changes.extend(fresh);
        changes.truncate(limit);
        let next = changes.last().map(|(place, _)| Cursor {
            record: place.record,
            within: place.within + 1,
        });
        Ok(ChangePage {
            changes,
            next: next.or(from),
            upto,
        })
    }
}
