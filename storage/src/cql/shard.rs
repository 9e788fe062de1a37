//! A shard that is held here: its head, its log, its projection, and who may ask it what.
//!
//! Taking one over: its row gets the new epoch; the last flush is put in place, if it was not; the
//! tail of the log is read; what is in it of former owners is sealed, so that nothing of theirs that
//! comes later counts; the tail is applied; and from then on it is served. Who ends in good order
//! leaves no tail, and says so in the last change of the row: then the change that takes the shard
//! seals it, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use zajil_model::id::{Epoch, SHARD_BITS, Shard, Tick};

use super::alive::Alive;
use super::clock::{LogClock, hour};
use super::db::Db;
use super::head::{self, Head, Held, Stored, sealed};
use super::kv::{CqlKv, Ground, Writes};
use super::log::{self, Found, LogChunks};
use super::redo;
use super::{rows, writer};
use crate::codec::{self, Record, RowChange};
use crate::projection::{Budgets, Positioned, Projection};
use crate::{ShardOpened, StoreError};

/// Ids that a new owner may give without asking for more: five seconds of them, so that the first
/// ones wait for nothing. What it leaves of them is passed by the time when the shard moves again, so
/// that ids do not run ahead of it.
const FIRST_IDS: Tick = Tick(5 * 4_000);

/// The projection of one shard.
pub(super) type ShardProjection = Projection<CqlKv, LogChunks>;

/// A shard that is held here.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) ground: Ground,
    pub(super) epoch: Epoch,
    pub(super) held: Arc<Held>,
    pub(super) log: Arc<LogClock>,
    pub(super) projection: Arc<ShardProjection>,
    /// Ids up to this tick may be given.
    pub(super) ids: AtomicU64,
}

/// What opening needs beside the shard.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub(super) db: Arc<Db>,
    pub(super) handle: Handle,
    pub(super) budgets: Budgets,
    pub(super) told: Arc<AtomicU64>,
}

impl Means {
    /// Seals what is there of former owners, and lets a new one begin above all of it.
    fn begin(&self, shard: Shard, epoch: Epoch, head: &mut Head, tail: &[Found]) {
        let seen = tail
            .iter()
            .filter_map(|found| Some((found.epoch, sealed(found.lsn)?)));
        head.seals.seal_below(epoch, seen);
        let (log, now) = (self.log_clock(shard, head.log), self.db.clock.now());
        if head.tail == 0 {
            // Nothing was ever written: its first record comes now at the earliest.
            head.tail = log.first(now);
            head.floor = hour(head.tail);
        }
        head.log = head.log.max(log.wanted(now));
        head.ids = Tick(head.ids.0.max(Tick::at(now).0) + FIRST_IDS.0);
    }

    /// The clock of the log of a shard in which nothing was written above `last`.
    fn log_clock(&self, shard: Shard, last: Tick) -> LogClock {
        LogClock::new(shard, last, last, Arc::clone(&self.told))
    }
}

impl Open {
    /// Takes a shard over, unless `alive` ends meanwhile.
    pub(super) async fn take(
        means: &Means,
        shard: Shard,
        epoch: Option<Epoch>,
        alive: Arc<Alive>,
    ) -> Result<(Self, ShardOpened), StoreError> {
        let db = &means.db;
        alive.check()?;
        let begin = |head: &mut Head, epoch| {
            if head.is_all_flushed(shard) {
                means.begin(shard, epoch, head, &[]);
            }
        };
        let head::Taken { found, stored } = head::take(db, shard, epoch, begin).await?;
        let epoch = stored.epoch;
        let ground = Ground {
            shard,
            db: Arc::clone(db),
            handle: means.handle.clone(),
            alive,
        };
        put_in_place(&ground, &stored).await?;
        // The clock of the last owner may be ahead, and rows that are written here come after its own.
        db.seen(Tick(found.tail >> SHARD_BITS).time().as_micros());
        let begun = stored.head.clone();
        let held = Arc::new(Held::new(shard, stored));
        held.applied(found.redo.seq);
        let (sealed, tail) = if found.is_all_flushed(shard) {
            (begun, Vec::new())
        } else {
            let tail = log::tail(&ground, found.tail, found.log).await?;
            tail.iter().for_each(|found| db.seen(found.at));
            let change = |head: &mut Head| means.begin(shard, epoch, head, &tail);
            let changed = held.change(db, &ground.alive, None, change);
            (changed.await?, tail)
        };
        let log = Arc::new(means.log_clock(shard, found.log));
        log.raise(sealed.log);
        let writes = Writes {
            held: Arc::clone(&held),
            log: Arc::clone(&log),
            inherited: found.log,
        };
        let projection = project(&ground, Some(writes), means.budgets, &sealed, tail).await?;
        let open = Self {
            ground,
            epoch,
            held,
            log,
            projection: Arc::new(projection),
            ids: AtomicU64::new(sealed.ids.0),
        };
        let opened = ShardOpened {
            epoch,
            last: found.ids,
            ceiling: sealed.ids,
        };
        Ok((open, opened))
    }

    /// What a caller may go on with.
    pub(super) fn opened(&self) -> ShardOpened {
        let ids = Tick(self.ids.load(Ordering::Acquire));
        ShardOpened {
            epoch: self.epoch,
            last: ids,
            ceiling: ids,
        }
    }

    /// Makes it durable that ids up to `ceiling` may be given.
    pub(super) async fn raise_ids(&self, ceiling: Tick) -> Result<Tick, StoreError> {
        let now = Tick(self.ids.load(Ordering::Acquire));
        if ceiling <= now {
            self.ground.alive.check()?;
            return Ok(now);
        }
        let head = self.raise(|head| head.ids = head.ids.max(ceiling)).await?;
        self.ids.fetch_max(head.ids.0, Ordering::AcqRel);
        Ok(head.ids)
    }

    /// Makes it durable that the log goes on for a while.
    pub(super) async fn raise_log(&self) -> Result<(), StoreError> {
        self.raise(|_| {}).await.map(drop)
    }

    /// Whether the shard is still held here: then every later owner finds what was durable before
    /// this was asked.
    pub(super) async fn confirm(&self) -> Result<(), StoreError> {
        let Ground { db, alive, .. } = &self.ground;
        self.held.confirm(db, alive).await
    }

    async fn raise(&self, change: impl FnOnce(&mut Head)) -> Result<Head, StoreError> {
        let Ground { db, alive, .. } = &self.ground;
        let ceiling = self.log.wanted(db.clock.now());
        let flushed = self.all_is_flushed();
        let changed = self.held.change(db, alive, None, |head| {
            head.log = head.log.max(ceiling);
            head.tail = flushed.unwrap_or(head.tail).max(head.tail);
            change(head);
        });
        let head = changed.await?;
        self.log.raise(head.log);
        Ok(head)
    }

    /// The place before which every record is flushed, when that is all there are: the next owner
    /// need not look through the hours in which nothing happened.
    fn all_is_flushed(&self) -> Option<u64> {
        let next = self.log.next_if_idle()?;
        (!self.projection.is_behind()).then_some(next)
    }

    /// Ends in good order, once the writer has: what is flushed is named, and the next owner begins
    /// right behind it. The last flush says so itself.
    pub(super) async fn release(open: &Arc<Self>) -> Result<(), StoreError> {
        let Ground { shard, alive, .. } = &open.ground;
        alive.check()?;
        if open.projection.is_behind() {
            open.projection.advance(open.log.next());
            open.projection.kv().end();
            writer::flush(Arc::clone(open)).await;
            if open.projection.kv().has_ended() {
                return Ok(());
            }
            alive.check()?;
        }
        if open.held.now().await.is_all_flushed(*shard) {
            return Ok(());
        }
        open.end().await
    }

    /// Says that nothing is written any more.
    async fn end(&self) -> Result<(), StoreError> {
        let Ground { db, alive, .. } = &self.ground;
        let last = self.log.last();
        let flushed = self.all_is_flushed();
        let changed = self.held.change(db, alive, None, |head| {
            head.log = last;
            head.tail = flushed.unwrap_or(head.tail).max(head.tail);
        });
        changed.await.map(drop)
    }
}

/// Puts the last flush of a former owner in place, if nobody knows that it is.
pub(super) async fn put_in_place(ground: &Ground, stored: &Stored) -> Result<(), StoreError> {
    let redo = stored.head.redo;
    if redo.seq == 0 || redo.is_applied {
        return Ok(());
    }
    let Ground {
        shard, db, alive, ..
    } = ground;
    let body = match redo.parts {
        0 => stored.redo.clone(),
        _ => redo::read_parts(db, alive, *shard, redo).await?,
    };
    let Some(body) = body else { return Ok(()) };
    redo::apply(db, alive, *shard, redo, &redo::decode(&body)?).await
}

/// What the flushes of a shard and the tail behind them say.
pub(super) async fn project(
    ground: &Ground,
    writes: Option<Writes>,
    budgets: Budgets,
    head: &Head,
    tail: Vec<Found>,
) -> Result<ShardProjection, StoreError> {
    let (records, rows) = replayed(head, &tail)?;
    let chunks = LogChunks(ground.clone());
    let own = ground.clone();
    let is_written = writes.is_some();
    if is_written {
        // Before anything is flushed: what lies before a flush is not read again.
        for (at, changes) in rows {
            put_rows(ground, at, changes).await?;
        }
    }
    let count = records.len();
    let begun = ground.handle.spawn_blocking(move || {
        let kv = CqlKv::open(own, writes)?;
        let projection = Projection::open(kv, chunks, budgets)?;
        let (applied, position) = projection.stands_at();
        for append in records {
            let Some(last) = append.last().map(|one| one.lsn) else {
                continue;
            };
            if last < position || last <= applied {
                continue;
            }
            projection.apply(append)?;
            projection.advance(last + 1);
            if is_written && projection.unflushed_bytes() > budgets.flush_bytes {
                projection.flush()?;
            }
        }
        Ok(projection)
    });
    let projection = begun.await.unwrap_or(Err(StoreError::Closed))?;
    if is_written && count > 0 {
        crate::metrics::cql_replayed(count);
        tracing::info!(shard = %ground.shard, appends = count, "the log was replayed");
    }
    Ok(projection)
}

/// Rows that a record brings, with their timestamp.
type TimedRows = (i64, Vec<RowChange>);

/// The appends of a tail that count, and the rows in them.
fn replayed(
    head: &Head,
    tail: &[Found],
) -> Result<(Vec<Vec<Positioned>>, Vec<TimedRows>), StoreError> {
    let (mut appends, mut all_rows) = (Vec::new(), Vec::new());
    let (mut append, mut rows): (Vec<Positioned>, Vec<TimedRows>) = (Vec::new(), Vec::new());
    for found in tail {
        if sealed(found.lsn).is_none_or(|lsn| head.seals.is_void(found.epoch, lsn)) {
            continue;
        }
        let (place, record) = codec::decode(&found.payload)?;
        // What is left of an append without its last record was never answered.
        if place.first {
            append.clear();
            rows.clear();
        }
        match record {
            Record::Rows(changes) => rows.push((found.at, changes)),
            record => append.push(Positioned {
                lsn: found.lsn,
                len: found.payload.len() as u32,
                record,
            }),
        }
        if place.last {
            appends.push(std::mem::take(&mut append));
            all_rows.append(&mut rows);
        }
    }
    Ok((appends, all_rows))
}

/// Writes rows that an append brought: those of a partition in one mutation.
pub(super) async fn put_rows(
    ground: &Ground,
    at: i64,
    changes: Vec<RowChange>,
) -> Result<(), StoreError> {
    // The last write of each row: they all have one timestamp.
    let last: std::collections::BTreeMap<_, _> = changes.into_iter().collect();
    ground.db.seen(at);
    let all: Vec<_> = last
        .iter()
        .map(|(key, value)| (key, value.as_deref()))
        .collect();
    let is_one = |a: &(&crate::RowKey, _), b: &(&crate::RowKey, _)| {
        (a.0.table, &a.0.partition) == (b.0.table, &b.0.partition)
    };
    for part in all.chunk_by(is_one) {
        super::insist::insist(
            &ground.alive,
            "write rows of an append",
            move || async move { rows::put(&ground.db, part, at).await },
        )
        .await?;
    }
    Ok(())
}

/// How long a record is kept should nobody ever drop it: as long as messages, and two months, which
/// is longer than anything may wait.
pub(super) fn time_to_live(retention: Duration) -> i32 {
    /// See above.
    const MARGIN: Duration = Duration::from_secs(60 * 86_400);
    /// What the database takes at most: twenty years.
    const MOST: u64 = 20 * 365 * 86_400;
    let seconds = (retention + MARGIN).as_secs().min(MOST);
    seconds as i32
}

#[cfg(test)]
mod tests;
