//! The projection's key-value store, as a table.
//!
//! The projection runs on threads that may wait, and is written as if its store were at hand. So
//! each read waits for the database there, and is made again while it fails: what is being applied
//! is durable, and half of it would be wrong for ever.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use zajil_model::id::{SHARD_BITS, Shard, Tick};

use super::alive::Alive;
use super::clock::LogClock;
use super::db::{Db, FIRST_PAUSE, LONGEST_PAUSE};
use super::head::{Held, Redo};
use super::insist::insist;
use super::redo::{self, number};
use crate::StoreError;
use crate::kv::{Direction, Kv, KvWrite, Space, Span, Visit};
use crate::projection::disk::Projected;
use crate::projection::key;

/// Rows of the first page of a scan: most want one or two.
const FIRST_PAGE: usize = 4;

/// What belongs to one shard of this node.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) shard: Shard,
    pub(super) db: Arc<Db>,
    pub(super) handle: Handle,
    pub(super) alive: Arc<Alive>,
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

/// The keys and values of one shard.
#[derive(Debug)]
pub(super) struct CqlKv {
    ground: Ground,
    /// How flushes are committed; `None` where nothing is written.
    writes: Option<Writes>,
    periods: Mutex<BTreeSet<u32>>,
    /// Nothing is written to the log of the shard any more.
    ending: AtomicBool,
    /// The last flush is committed.
    ended: AtomicBool,
}

/// What a flush needs.
#[derive(Clone, Debug)]
pub(super) struct Writes {
    pub(super) held: Arc<Held>,
    pub(super) log: Arc<LogClock>,
    /// Former owners wrote nothing above this tick.
    pub(super) inherited: Tick,
}

impl CqlKv {
    /// The keys and values of a shard.
    pub(super) fn open(ground: Ground, writes: Option<Writes>) -> Result<Self, StoreError> {
        let kv = Self {
            ground,
            writes,
            periods: Mutex::default(),
            ending: AtomicBool::default(),
            ended: AtomicBool::default(),
        };
        let mut periods = BTreeSet::new();
        kv.scan(
            Space::Main,
            &key::period_starts(),
            Direction::Up,
            &mut |name, _| {
                periods.extend(key::read_period_start(name));
                ControlFlow::Continue(())
            },
        )?;
        *kv.periods.lock() = periods;
        Ok(kv)
    }

    /// Nothing is written to the log any more, and everything is applied: a flush of all of it gives
    /// the shard up in the same change.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Whether the last flush is committed.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The last tick of the log, when a flush up to a position is the last one.
    fn ends_at(&self, writes: &Writes, position: Option<u64>) -> Option<Tick> {
        let is_all = self.ending.load(Ordering::Acquire) && position == writes.log.next_if_idle();
        let before = position?.checked_sub(1 << SHARD_BITS)?;
        is_all.then_some(Tick(before >> SHARD_BITS))
    }

    /// Commits a flush and puts it in place; the last one is left to the next owner, who can do so
    /// while it takes the shard.
    async fn flush(&self, writes: &Writes, changes: redo::Changes) -> Result<(), StoreError> {
        let Ground {
            shard, db, alive, ..
        } = &self.ground;
        let body = redo::encode(&changes);
        let parts = redo::parts(&body);
        let head = writes.held.now().await;
        let next = Redo {
            seq: head.redo.seq + 1,
            epoch: writes.held.epoch(),
            parts: parts.len() as u32,
            is_applied: false,
        };
        redo::write_parts(db, alive, *shard, next, &parts).await?;
        let position = changes
            .get(&(Space::Main, key::PROJECTED.to_vec()))
            .and_then(Option::as_deref)
            .map(Projected::decode)
            .transpose()?
            .map(|projected| projected.position);
        let ends = self.ends_at(writes, position);
        let ceiling = writes.log.wanted(db.clock.now());
        let inline = if parts.is_empty() { &body[..] } else { &[] };
        let head = writes
            .held
            .change(db, alive, Some(inline), |head| {
                head.redo = next;
                head.log = ends.unwrap_or(head.log.max(ceiling));
                head.tail = position.unwrap_or(head.tail);
                // Nothing that a former owner ever wrote can be read again.
                if head.tail > writes.inherited.id(*shard) {
                    head.seals.forget_below(next.epoch);
                }
            })
            .await?;
        if ends.is_some() {
            self.ended.store(true, Ordering::Release);
            return Ok(());
        }
        writes.log.raise(head.log);
        redo::apply(db, alive, *shard, next, &changes).await?;
        writes.held.applied(next.seq);
        Ok(())
    }
}

impl Kv for CqlKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Ground {
            shard,
            db,
            handle,
            alive,
        } = &self.ground;
        let values = (shard.number() as i16, number(space), key);
        let read = insist(alive, "read a key", move || async move {
            db.first::<(Vec<u8>,)>(&db.statements.kv.get, values).await
        });
        Ok(handle.block_on(read)?.map(|(value,)| value))
    }

    fn scan(
        &self,
        space: Space,
        span: &Span,
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let Ground {
            shard,
            db,
            handle,
            alive,
        } = &self.ground;
        let statement = match direction {
            Direction::Up => &db.statements.kv.up,
            Direction::Down => &db.statements.kv.down,
        };
        let (mut span, mut pause) = (span.clone(), FIRST_PAUSE);
        let mut is_over = false;
        while span.from < span.to && !is_over {
            alive.check()?;
            let (from, to) = (span.from.clone(), span.to.clone());
            let values = (shard.number() as i16, number(space), &from, &to);
            let each = |(key, value): (Vec<u8>, Vec<u8>)| {
                is_over = visit(&key, &value).is_break();
                // Should the next page fail, the scan goes on from here.
                match direction {
                    Direction::Up => span.from = [&key[..], &[0]].concat(),
                    Direction::Down => span.to = key,
                }
                if is_over {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            match handle.block_on(db.each(statement, FIRST_PAGE, values, each)) {
                Ok(()) => break,
                Err(failed) => {
                    tracing::debug!(reason = failed.reason, "a scan goes on");
                    handle.block_on(alive.pause(pause));
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        Ok(())
    }

    fn commit(&self, writes: Vec<KvWrite>) -> Result<(), StoreError> {
        let Some(means) = &self.writes else {
            return Err(StoreError::Invalid("a view is not written"));
        };
        let changes = redo::changes(writes);
        let periods: Vec<u32> = changes
            .keys()
            .filter_map(|(space, _)| match space {
                Space::Main => None,
                Space::Period(period) => Some(*period),
            })
            .collect();
        self.ground.handle.block_on(self.flush(means, changes))?;
        self.periods.lock().extend(periods);
        Ok(())
    }

    fn is_in_place(&self) -> bool {
        !self.has_ended()
    }

    fn periods(&self) -> Vec<u32> {
        self.periods.lock().iter().copied().collect()
    }

    fn drop_period(&self, period: u32) -> Result<(), StoreError> {
        let Some(means) = &self.writes else {
            return Err(StoreError::Invalid("a view is not written"));
        };
        let Ground {
            shard,
            db,
            handle,
            alive,
        } = &self.ground;
        handle.block_on(async {
            let redo = means.held.now().await.redo;
            let at = redo::stamp(redo.epoch, redo.seq);
            let values = (at, shard.number() as i16, number(Space::Period(period)));
            insist(alive, "drop a period", move || async move {
                db.write(&db.statements.kv.drop, values).await
            })
            .await
        })?;
        self.periods.lock().remove(&period);
        Ok(())
    }
}

/// Ticks that a shard may give ahead of need: a minute, so that an idle one is written rarely and a
/// restart after a crash skips at most a minute.
pub(super) const CEILING_AHEAD: Tick = Tick(60 * 4_000);
