//! Looks for what a flush writes, and lets go of, in the middle of the look.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::Mutex;
use zajil_model::lifecycle::Status;
use zajil_model::message::Chunk;
use zajil_model::time::Timestamp;

use super::*;
use crate::TotalsFilter;
use crate::codec::{CancelAll, Record};
use crate::kv::map::MapKv;
use crate::kv::{Direction, KvWrite, Space, Span, Visit};
use crate::projection::testing::{Nowhere, START, chunk};
use crate::projection::{Budgets, Positioned, Projection};
use crate::query::{ListFilter, ListRequest};

const WEEK: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// Where one of two threads waits for the other.
#[derive(Debug)]
struct Stop {
    reached: SyncSender<()>,
    go_on: Receiver<()>,
}

impl Stop {
    fn wait(self) {
        // The other may have failed, which its own test tells.
        self.reached.send(()).ok();
        self.go_on.recv().ok();
    }
}

/// Stops before a commit, and behind a scan of keys that begin with a tag.
#[derive(Debug, Default)]
struct StoppingKv {
    inner: MapKv,
    commit: Mutex<Option<Stop>>,
    scan: Mutex<Option<(u8, Stop)>>,
}

impl Kv for StoppingKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(space, key)
    }

    fn scan(
        &self,
        space: Space,
        span: &Span,
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        self.inner.scan(space, span, direction, visit)?;
        let mut armed = self.scan.lock();
        let stop = armed.take_if(|(tag, _)| span.from.first() == Some(tag));
        drop(armed);
        if let Some((_, stop)) = stop {
            stop.wait();
        }
        Ok(())
    }

    fn commit(&self, writes: Vec<KvWrite>) -> Result<(), StoreError> {
        let stop = self.commit.lock().take();
        if let Some(stop) = stop {
            stop.wait();
        }
        self.inner.commit(writes)
    }

    fn periods(&self) -> Vec<u32> {
        self.inner.periods()
    }

    fn drop_period(&self, period: u32) -> Result<(), StoreError> {
        self.inner.drop_period(period)
    }
}

/// A projection that forgets what it flushed, as soon as it may.
struct Forgetful {
    projection: Projection<StoppingKv, Nowhere>,
    lsn: u64,
}

impl Forgetful {
    fn new() -> Self {
        let budgets = Budgets {
            hot_bytes: 0,
            idle_heads: 0,
            ..Budgets::default()
        };
        let projection = Projection::open(StoppingKv::default(), Nowhere, budgets).unwrap();
        Self { projection, lsn: 0 }
    }

    fn apply(&mut self, record: Record) {
        self.lsn += 1;
        let records = vec![Positioned {
            lsn: self.lsn,
            len: 0,
            record,
        }];
        self.projection.apply(records).unwrap();
    }

    /// Accepts a chunk.
    fn accepted(&mut self, at: Timestamp) -> Arc<Chunk> {
        let chunk = chunk(at, 0);
        self.apply(Record::Accept(Arc::clone(&chunk)));
        chunk
    }

    /// Accepts a chunk and cancels all of it.
    fn settled(&mut self, at: Timestamp) -> Arc<Chunk> {
        let chunk = self.accepted(at);
        self.apply(cancel(&chunk));
        self.apply(Record::Sweep(chunk.instance));
        assert!(self.projection.is_swept());
        chunk
    }

    /// Applies a record while a flush is under way that took everything before it: what it writes
    /// is there, and let go of, right behind the first scan of keys with a tag.
    fn apply_around_a_flush(&mut self, tag: u8, record: Record) {
        let (reached, committing) = sync_channel(1);
        let (scanned, go_on) = sync_channel(1);
        *self.projection.kv.commit.lock() = Some(Stop { reached, go_on });
        let (flushed, go_on) = sync_channel(1);
        let reached = scanned;
        *self.projection.kv.scan.lock() = Some((tag, Stop { reached, go_on }));
        self.lsn += 1;
        let (lsn, projection) = (self.lsn, &self.projection);
        std::thread::scope(|threads| {
            threads.spawn(move || {
                projection.flush().unwrap();
                flushed.send(()).ok();
            });
            committing.recv().unwrap();
            let len = 0;
            let records = vec![Positioned { lsn, len, record }];
            projection.apply(records).unwrap();
            let missed = projection.kv.scan.lock().take();
            assert!(missed.is_none(), "nothing with that tag is scanned");
        });
    }
}

fn cancel(chunk: &Chunk) -> Record {
    Record::CancelAll(CancelAll {
        account: chunk.account,
        instance: chunk.instance,
        queue: None,
        upto: chunk.last(),
        at: chunk.created_at,
    })
}

#[test]
fn a_mass_cancel_counts_days_that_a_flush_lets_go_of_while_they_are_looked_for() {
    let mut forgetful = Forgetful::new();
    let chunk = forgetful.accepted(START);

    forgetful.apply_around_a_flush(b'T', cancel(&chunk));

    let filter = TotalsFilter {
        instances: vec![chunk.instance],
        ..TotalsFilter::default()
    };
    let totals = forgetful.projection.totals(&filter).unwrap();
    assert_eq!(totals.of(Status::Cancelled), 256);
    assert_eq!(totals.of(Status::Pending), 0);
}

#[test]
fn a_queue_with_something_new_outlives_a_flush_that_lets_go_of_it_while_old_ones_are_looked_for() {
    let mut forgetful = Forgetful::new();
    let old = forgetful.settled(START);
    forgetful.projection.flush().unwrap();
    let new = forgetful.settled(START + WEEK * 2);

    let below = key::period_of(old.first) + 1;
    forgetful.apply_around_a_flush(b'Q', Record::Retire(below));
    forgetful.projection.flush().unwrap();

    let request = ListRequest {
        filter: ListFilter {
            instances: vec![new.instance],
            ..ListFilter::default()
        },
        before: None,
        skip: 0,
        limit: 300,
    };
    let listed = forgetful.projection.list(&request).unwrap().messages;
    assert_eq!(listed.len(), 256);
    assert_eq!(listed[0].id(), new.last());
}
