//! One task for each shard that is held here: what waits becomes durable as one group, is applied,
//! and is answered.
//!
//! One group is on its way at a time. One without an outcome is written again as it was until it has
//! one, so that the log never has a hole before a record that counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};
use zajil_model::time::Mono;

use super::log::{self, Line};
use super::shard::{Open, put_rows};
use crate::codec::{Encoded, Record, RowChange, encode_alone};
use crate::projection::Positioned;
use crate::{Done, StoreError, metrics};

/// Calls that may wait for one shard: more than a second of them is refused.
pub(super) const CALLS_WAITING: usize = 1_024;

/// What one mutation of the log carries, in bytes, about: large enough to be worth its way, far
/// below what the database takes.
const GROUP_BYTES: usize = 512 << 10;

/// Records of one mutation.
const GROUP_RECORDS: usize = 512;

/// When a flush would write this many times what makes one due, applying waits for it.
const FLUSH_BEHIND: usize = 3;

/// Whom to answer.
pub(super) enum Answer {
    /// An append.
    Append(Done),
    /// An append that has to count, whoever owns the shard later.
    Claim(Done),
    /// The store itself.
    Own(oneshot::Sender<Result<(), StoreError>>),
    /// Nobody.
    Nobody,
}

/// One call on its way.
pub(super) struct Call {
    records: Vec<Encoded>,
    bytes: usize,
    answer: Answer,
    begun: Mono,
    /// Bytes that wait in all shards.
    waiting: Arc<AtomicUsize>,
}

impl Call {
    pub(super) fn new(
        records: Vec<Encoded>,
        answer: Answer,
        begun: Mono,
        waiting: &Arc<AtomicUsize>,
    ) -> Self {
        let bytes = records.iter().map(|one| one.payload.len()).sum();
        waiting.fetch_add(bytes, Ordering::AcqRel);
        Self {
            records,
            bytes,
            answer,
            begun,
            waiting: Arc::clone(waiting),
        }
    }

    const fn is_claim(&self) -> bool {
        matches!(self.answer, Answer::Claim(_))
    }

    /// Answers the caller.
    pub(super) fn answer(mut self, result: Result<(), StoreError>) {
        if let Err(error) = &result {
            metrics::failed("append", error);
        }
        match std::mem::replace(&mut self.answer, Answer::Nobody) {
            Answer::Append(done) | Answer::Claim(done) => done(result),
            // Who gave up is told nothing.
            Answer::Own(reply) => drop(reply.send(result)),
            Answer::Nobody => {}
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// What the task is asked.
pub(super) enum Job {
    /// To write something.
    Call(Call),
    /// To end when everything before is done.
    End(oneshot::Sender<()>),
}

/// Serves a shard until it is told to end, or loses it.
pub(super) async fn run(open: Arc<Open>, ttl: i32, mut jobs: mpsc::Receiver<Job>) {
    let appends = metrics::Appends::new();
    let (claims, durable) = mpsc::channel(CALLS_WAITING);
    let confirming = open
        .ground
        .handle
        .spawn(confirm(Arc::clone(&open), durable));
    let mut ended = None;
    while ended.is_none() {
        let sweep = open.projection.unswept().first().copied();
        let first = match sweep {
            Some(_) => jobs.try_recv().ok(),
            None => tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => Some(job),
                    None => return,
                },
                _ = open.ground.alive.ended() => break,
            },
        };
        let mut group = Vec::new();
        let mut next = first;
        let (mut bytes, mut records) = (0, 0);
        while let Some(job) = next.take() {
            match job {
                Job::Call(call) => {
                    bytes += call.bytes;
                    records += call.records.len();
                    group.push(call);
                }
                Job::End(reply) => {
                    ended = Some(reply);
                    break;
                }
            }
            if bytes < GROUP_BYTES && records < GROUP_RECORDS {
                next = jobs.try_recv().ok();
            }
        }
        if let (Some(instance), None) = (sweep, &ended) {
            let record = vec![encode_alone(Record::Sweep(instance))];
            let (now, nothing) = (open.ground.db.clock.mono(), Arc::default());
            group.push(Call::new(record, Answer::Nobody, now, &nothing));
        }
        if group.is_empty() {
            continue;
        }
        match carry_out(&open, ttl, group, &appends).await {
            Some(durable) => hand_on(&claims, durable).await,
            None => break,
        }
    }
    jobs.close();
    drop(claims);
    // It answers what waits for it, and fails with this task only.
    confirming.await.ok();
    while let Some(job) = jobs.recv().await {
        if let Job::Call(call) = job {
            // None of these were written.
            let lost = open.ground.alive.check().err();
            call.answer(Err(lost.unwrap_or(StoreError::NotOpen(open.ground.shard))));
        }
    }
    // Who waits for the end may have left.
    if let Some(reply) = ended {
        reply.send(()).ok();
    }
}

/// Answers claims that are durable, once it is known that they count: one question for all that
/// wait.
async fn confirm(open: Arc<Open>, mut durable: mpsc::Receiver<Call>) {
    let mut claims = Vec::new();
    while durable.recv_many(&mut claims, CALLS_WAITING).await > 0 {
        let counts = open.confirm().await;
        for claim in claims.drain(..) {
            claim.answer(counts.clone());
        }
    }
}

async fn hand_on(claims: &mpsc::Sender<Call>, durable: Vec<Call>) {
    for claim in durable {
        if let Err(mpsc::error::SendError(claim)) = claims.send(claim).await {
            claim.answer(Err(StoreError::Closed));
        }
    }
}

/// Writes, applies and answers a group, but for the claims in it; `None` when the shard is lost.
async fn carry_out(
    open: &Arc<Open>,
    ttl: i32,
    mut group: Vec<Call>,
    appends: &metrics::Appends,
) -> Option<Vec<Call>> {
    let written = write(open, ttl, &mut group).await;
    // Who lost the shard meanwhile may have written behind what the next owner read.
    let counts = written.and_then(|calls| open.ground.alive.check().map(|()| calls));
    let applied = match counts {
        Ok(calls) => apply(open, calls).await,
        Err(error) => Err(error),
    };
    match applied {
        Ok(()) => {
            let mut claims = Vec::new();
            for call in group {
                if call.is_claim() {
                    claims.push(call);
                    continue;
                }
                appends.answered(open.ground.db.clock.mono().since(call.begun));
                call.answer(Ok(()));
            }
            flush_if_due(open).await;
            Some(claims)
        }
        Err(error) => {
            open.ground.alive.lose(error);
            for call in group {
                // It may be durable, and then the next owner has it.
                call.answer(Err(StoreError::Closed));
            }
            None
        }
    }
}

/// The records of each call, with their places in the log.
type Placed = Vec<Vec<Positioned>>;

/// Makes a group durable.
async fn write(open: &Open, ttl: i32, group: &mut [Call]) -> Result<Placed, StoreError> {
    let at = open.ground.db.stamp();
    let mut calls: Placed = Vec::with_capacity(group.len());
    let mut rows: Vec<RowChange> = Vec::new();
    let mut lines: Vec<(usize, Encoded)> = Vec::new();
    for (number, call) in group.iter_mut().enumerate() {
        calls.push(Vec::new());
        let records = std::mem::take(&mut call.records);
        lines.extend(records.into_iter().map(|record| (number, record)));
    }
    let mut rest = lines.into_iter().peekable();
    while rest.peek().is_some() {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while let Some(line) = rest.next_if(|(_, record)| {
            part.is_empty()
                || (bytes + record.payload.len() <= GROUP_BYTES && part.len() < GROUP_RECORDS)
        }) {
            bytes += line.1.payload.len();
            part.push(line);
        }
        let places = places(open, part.len() as u64).await?;
        let written: Vec<Line<'_>> = part
            .iter()
            .zip(&places)
            .map(|((_, record), lsn)| Line {
                lsn: *lsn,
                payload: &record.payload,
            })
            .collect();
        log::write(&open.ground, open.epoch, at, ttl, &written).await?;
        for ((number, Encoded { record, payload }), lsn) in part.into_iter().zip(places) {
            let len = payload.len() as u32;
            match record {
                Record::Rows(changes) => rows.extend(changes),
                record => calls[number].push(Positioned { lsn, len, record }),
            }
        }
    }
    put_rows(&open.ground, at, rows).await?;
    Ok(calls)
}

/// The places of the next records.
async fn places(open: &Open, n: u64) -> Result<Vec<u64>, StoreError> {
    loop {
        if let Some(places) = open.log.take(n, open.ground.db.clock.now()) {
            return Ok(places);
        }
        open.raise_log().await?;
    }
}

/// Applies what is durable, call by call.
async fn apply(open: &Arc<Open>, calls: Placed) -> Result<(), StoreError> {
    let own = Arc::clone(open);
    let applied = open.ground.handle.spawn_blocking(move || {
        for records in calls {
            if !records.is_empty() {
                own.projection.apply(records)?;
            }
        }
        // In this order: while records are under way, nobody takes everything for flushed.
        own.projection.advance(own.log.next());
        own.log.applied();
        Ok(())
    });
    applied.await.unwrap_or(Err(StoreError::Closed))
}

async fn flush_if_due(open: &Arc<Open>) {
    let (unflushed, due) = (
        open.projection.unflushed_bytes(),
        open.projection.budgets().flush_bytes,
    );
    if unflushed > due {
        let flush = flush(Arc::clone(open));
        if unflushed > FLUSH_BEHIND * due {
            flush.await;
        } else {
            open.ground.handle.spawn(flush);
        }
    }
}

/// Flushes what changed; a failure ends the shard: what was taken from memory is then only in the
/// log.
pub(super) async fn flush(open: Arc<Open>) {
    let own = Arc::clone(&open);
    let begun = open.ground.db.clock.mono();
    let flushed = open
        .ground
        .handle
        .spawn_blocking(move || own.projection.flush_if_behind());
    match flushed.await.unwrap_or(Err(StoreError::Closed)) {
        Ok(()) => metrics::cql_flushed(open.ground.db.clock.mono().since(begun)),
        Err(error) => open.ground.alive.lose(error),
    }
}

#[cfg(test)]
mod tests;
