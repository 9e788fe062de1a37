//! The two threads behind the committer: one applies durable groups and answers, one flushes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::Shared;
use super::item::{Answer, Call};
use super::log::{Committer, Failpoints, LogState, PushError};
use super::space::Level;
use super::stage::Durable;
use crate::codec::{Record, encode_alone};
use crate::{StoreError, metrics};

/// How often the projection is flushed when little happens: what a start replays is then a
/// second of work.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// When a flush would write this many times what makes one due, applying waits for it: the disk
/// does not keep up, and memory is bounded.
const FLUSH_BEHIND: usize = 3;

/// However one of the two threads ends, there are no flushes by time any more. A panic fails the store:
/// what was in the thread's hands is in the log, and only a start gets it from there.
struct EndOfThread<'a>(&'a Shared);

impl Drop for EndOfThread<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(
                "run its threads",
                &StoreError::Invalid("one of them panicked"),
            );
        }
        self.0.flusher.stop();
    }
}

/// Applies groups until the committer ends.
pub(super) fn project(
    shared: &Shared,
    committer: &Arc<Committer<Call>>,
    durable: &Receiver<Durable>,
) {
    let _end = EndOfThread(shared);
    let appends = metrics::Appends::new();
    let mut sweeping = sweep(shared, committer);
    while let Ok(group) = durable.recv() {
        sweeping &= !group.sweeps();
        apply(shared, &appends, group);
        shared.unapplied.fetch_sub(1, Ordering::Release);
        if !sweeping {
            sweeping = sweep(shared, committer);
        }
        let unflushed = shared.projection.unflushed_bytes();
        let due = shared.projection.budgets().flush_bytes;
        if unflushed > FLUSH_BEHIND * due {
            flush(shared);
        } else if unflushed > due {
            shared.flusher.wake();
        }
    }
}

/// Applies a group, and answers who waits for it. The groups before it are applied.
pub(super) fn apply(shared: &Shared, appends: &metrics::Appends, group: Durable) {
    let end = group.end;
    for mut call in group.calls {
        let records = std::mem::take(&mut call.placed);
        let last = records.last().map(|one| one.lsn);
        let result = shared
            .check()
            .and_then(|()| shared.step(Failpoints::APPLY))
            .and_then(|()| shared.projection.apply(records));
        if let Err(error) = &result {
            shared.fail("apply a record", error);
        }
        if let Some(lsn) = last {
            shared.applied.store(lsn, Ordering::Release);
        }
        appends.answered(shared.clock.mono().since(call.begun));
        call.answer(result);
    }
    shared.projection.advance(end);
}

/// Asks for the next stretch of a mass cancel, if there is one; answers whether it did.
fn sweep(shared: &Shared, committer: &Committer<Call>) -> bool {
    let Some(instance) = shared.projection.unswept().first().copied() else {
        return false;
    };
    let record = encode_alone(Record::Sweep(instance));
    let call = Call::new(vec![record], Answer::Own(None), shared.clock.mono());
    match committer.push(call) {
        Ok(()) => true,
        // The groups that are in the way come through here, and then it is asked for again; a
        // closed store asks at its next open.
        Err(PushError::Overloaded(_) | PushError::Closed(_)) => false,
    }
}

/// Flushes from time to time, and when much changed, until the projector ends.
pub(super) fn flush_on_time(shared: &Shared) {
    let _end = EndOfThread(shared);
    while shared.flusher.wait(FLUSH_EVERY) {
        if shared.projection.is_behind() {
            flush(shared);
        }
    }
}

/// Flushes now, unless the disk is full.
fn flush(shared: &Shared) {
    if let Err(error) = flush_if_room(shared) {
        tracing::debug!(%error, "the projection was not flushed");
    }
}

/// Flushes now and answers that it did, unless the disk is full: what is not flushed is in the
/// log, and is flushed when there is space again. A failure ends the store: what was taken from memory is then only in the log, and
/// another flush would write a position that is beyond it.
pub(super) fn flush_if_room(shared: &Shared) -> Result<bool, StoreError> {
    shared.check()?;
    let log = shared.log()?;
    // What waits meanwhile is bounded by the segments of the log that are ready.
    if shared.guard.look() == Level::Out || log.state() == LogState::Full {
        return Ok(false);
    }
    let begun = shared.clock.mono();
    let flushed = shared
        .step(Failpoints::FLUSH)
        .and_then(|()| shared.projection.flush())
        .and_then(|_| shared.step(Failpoints::FLUSHED));
    flushed.inspect_err(|error| shared.fail("flush the projection", error))?;
    let took = shared.clock.mono().since(begun);
    metrics::flushed(took, log.bytes(), shared.projection.lag());
    Ok(true)
}
