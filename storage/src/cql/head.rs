//! The head of a shard: what its owner overwrites under its epoch, in one row.
//!
//! Every change is a compare-and-set on (epoch, sequence), so that neither a former owner nor a
//! request that was delayed ever undoes one. A change whose answer was lost is made again: it either
//! happens then, or is found in place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use zajil_model::id::{Epoch, MessageId, Shard, Tick};
use zajil_model::lease::shard::Seals;

use super::alive::Alive;
use super::db::{Db, FIRST_PAUSE, LONGEST_PAUSE};
use super::statements::Prepared;
use super::tools::random;
use crate::codec::varint::{self, Reader};
use crate::{StoreError, metrics};

/// The form of a head; a reader refuses others.
const VERSION: u8 = 1;

/// How many times an outcome that is not known is asked for before the caller is told so, where
/// nobody depends on it.
const TRIES: u32 = 5;

/// The last flush that was committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Redo {
    /// Counts flushes of the shard; 0 is none yet.
    pub(super) seq: u64,
    /// Under which epoch it was made.
    pub(super) epoch: Epoch,
    /// In how many parts it lies in its slot; 0 when it is in the row itself.
    pub(super) parts: u32,
    /// Whether all of it is known to be in place.
    pub(super) is_applied: bool,
}

/// What the owner of a shard overwrites.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// No id above this tick was given by the owner of this epoch, nor any before.
    pub(super) ids: Tick,
    /// No record above this tick was written.
    pub(super) log: Tick,
    /// Every record before this position is flushed.
    pub(super) tail: u64,
    /// The oldest hour of the log that is not dropped.
    pub(super) floor: u32,
    /// The last flush.
    pub(super) redo: Redo,
    /// What of former owners counts.
    pub(super) seals: Seals,
    /// Tells this owner from one that wrongly has the same epoch.
    pub(super) owner: u64,
}

impl Head {
    /// Whether nothing can be in the log behind what is flushed: nothing was written above `log`,
    /// and all before `tail` is flushed. Whoever writes one more record changes the head before that,
    /// so a change that compares this head finds it out.
    pub(super) fn is_all_flushed(&self, shard: Shard) -> bool {
        self.tail > self.log.id(shard) || (self.tail, self.log) == (0, Tick(0))
    }

    fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let mut out = vec![VERSION];
        let redo = &self.redo;
        let numbers = [
            self.ids.0,
            self.log.0,
            self.tail,
            u64::from(self.floor),
            redo.seq,
            redo.epoch.0,
            u64::from(redo.parts),
            u64::from(redo.is_applied),
            self.owner,
        ];
        numbers
            .into_iter()
            .for_each(|number| varint::put(&mut out, number));
        let seals = rmp_serde::to_vec_named(&self.seals).map_err(|error| StoreError::Corrupt {
            what: "seals",
            detail: error.to_string(),
        })?;
        varint::put_bytes(&mut out, &seals);
        Ok(out)
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new("head of a shard", bytes);
        if reader.byte()? != VERSION {
            return Err(reader.fault("unknown version"));
        }
        let (ids, log) = (Tick(reader.number()?), Tick(reader.number()?));
        let (tail, floor) = (reader.number()?, reader.small()?);
        let redo = Redo {
            seq: reader.number()?,
            epoch: Epoch(reader.number()?),
            parts: reader.small()?,
            is_applied: reader.number()? != 0,
        };
        let owner = reader.number()?;
        let seals = rmp_serde::from_slice(reader.bytes()?);
        Ok(Self {
            ids,
            log,
            tail,
            floor,
            redo,
            seals: seals.map_err(|error| reader.fault(error.to_string()))?,
            owner,
        })
    }
}

/// A head as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    pub(super) head: Head,
    /// The last flush, when it is small.
    pub(super) redo: Option<Vec<u8>>,
}

/// Reads the head of a shard, after every change that was ever answered or hangs.
pub(super) async fn read(db: &Db, shard: Shard) -> Result<Option<Stored>, StoreError> {
    read_by(db, &db.statements.shards.row, shard).await
}

async fn read_by(
    db: &Db,
    statement: &Prepared,
    shard: Shard,
) -> Result<Option<Stored>, StoreError> {
    type Columns = (i64, i64, Vec<u8>, Option<Vec<u8>>);
    let row = db
        .first::<Columns>(statement, (shard.number() as i16,))
        .await
        .map_err(|failed| failed.of("read the row of a shard"))?;
    let Some((epoch, seq, head, redo)) = row else {
        return Ok(None);
    };
    Ok(Some(Stored {
        epoch: Epoch(epoch as u64),
        seq: seq as u64,
        head: Head::decode(&head)?,
        redo,
    }))
}

/// A shard that was taken.
#[derive(Debug)]
pub(super) struct Taken {
    /// Its head as the last owner left it.
    pub(super) found: Head,
    /// What it is now.
    pub(super) stored: Stored,
}

/// Takes a shard: its epoch is `epoch` from now on, or one more than it was. `begin` makes the head of
/// the new owner of what the last one left, given its epoch.
///
/// # Errors
/// [`StoreError::Fenced`] when the shard has that epoch or a higher one.
pub(super) async fn take(
    db: &Db,
    shard: Shard,
    epoch: Option<Epoch>,
    begin: impl Fn(&mut Head, Epoch),
) -> Result<Taken, StoreError> {
    let owner = random();
    let mut pause = FIRST_PAUSE;
    let mut found = Head::default();
    let mut said = String::new();
    // A change that hangs is not looked for at first, which would cost as much as a change: should there
    // be one, what is compared with what was seen is refused.
    let mut by = &db.statements.shards.seen;
    for _ in 0..TRIES {
        let read = read_by(db, by, shard).await;
        by = &db.statements.shards.row;
        let before = match read {
            Err(StoreError::Io { reason, .. }) => {
                said = reason;
                tokio::time::sleep(pause).await;
                continue;
            }
            answered => answered?,
        };
        let stored = before.clone().unwrap_or_default();
        if stored.head.owner == owner {
            // What was not answered has happened, and to the head that was read before.
            return Ok(Taken { found, stored });
        }
        let ours = epoch.unwrap_or(stored.epoch.next());
        if ours <= stored.epoch {
            return Err(StoreError::Fenced {
                shard,
                ours,
                current: stored.epoch,
            });
        }
        let mut next = stored.clone();
        next.epoch = ours;
        next.seq += 1;
        next.head.owner = owner;
        begin(&mut next.head, ours);
        let asked = write(db, shard, before.is_some().then_some(&stored), &next, None).await?;
        found = stored.head;
        match asked {
            Ok(true) => {
                return Ok(Taken {
                    found,
                    stored: next,
                });
            }
            Ok(false) => {}
            Err(reason) => said = reason,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    Err(StoreError::Io {
        operation: "take a shard",
        reason: said,
    })
}

/// One try to change a head; an error in the inner place is an outcome that is not known.
async fn write(
    db: &Db,
    shard: Shard,
    before: Option<&Stored>,
    next: &Stored,
    redo: Option<&[u8]>,
) -> Result<Result<bool, String>, StoreError> {
    let number = shard.number() as i16;
    let (epoch, seq, head) = (next.epoch.0 as i64, next.seq as i64, next.head.encode()?);
    let all = &db.statements;
    let swapped = match (before, redo) {
        (None, _) => db.swap(&all.shards.first, (epoch, seq, head, number)).await,
        (Some(before), None) => {
            let was = (before.epoch.0 as i64, before.seq as i64);
            let values = (epoch, seq, head, number, was.0, was.1);
            db.swap(&all.shards.next, values).await
        }
        (Some(before), Some(redo)) => {
            let was = (before.epoch.0 as i64, before.seq as i64);
            let values = (epoch, seq, head, redo, number, was.0, was.1);
            db.swap(&all.shards.flush, values).await
        }
    };
    Ok(swapped.map_err(|failed| failed.reason))
}

/// The head of a shard that is held here: one change at a time.
#[derive(Debug)]
pub(super) struct Held {
    shard: Shard,
    epoch: Epoch,
    stored: tokio::sync::Mutex<Stored>,
    /// The last flush that is in place.
    applied: AtomicU64,
}

impl Held {
    pub(super) fn new(shard: Shard, stored: Stored) -> Self {
        Self {
            shard,
            epoch: stored.epoch,
            applied: AtomicU64::new(0),
            stored: tokio::sync::Mutex::new(stored),
        }
    }

    /// Under which epoch it is held.
    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A flush is in place, which the next change tells others.
    pub(super) fn applied(&self, seq: u64) {
        self.applied.store(seq, Ordering::Release);
    }

    /// What it is now.
    pub(super) async fn now(&self) -> Head {
        self.stored.lock().await.head.clone()
    }

    /// Changes it, with a small flush in the same row, if any; answers what it is then. Repeats what
    /// has no outcome until it has one, or until the shard is not held here any more.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when somebody else has taken the shard, [`StoreError::Closed`] when it
    /// was closed here.
    pub(super) async fn change(
        &self,
        db: &Db,
        alive: &Alive,
        redo: Option<&[u8]>,
        change: impl FnOnce(&mut Head),
    ) -> Result<Head, StoreError> {
        let mut stored = self.stored.lock().await;
        let mut next = stored.clone();
        next.seq += 1;
        next.head.redo.is_applied |= next.head.redo.seq == self.applied.load(Ordering::Acquire);
        change(&mut next.head);
        let mut pause = FIRST_PAUSE;
        loop {
            alive.check()?;
            match write(db, self.shard, Some(&stored), &next, redo).await? {
                Ok(true) => break,
                Ok(false) => {
                    if self.is_in_place(db, alive, &next).await? {
                        break;
                    }
                }
                Err(reason) => {
                    metrics::cql_unknown("shard");
                    tracing::debug!(shard = %self.shard, reason, "a shard's row is written again");
                }
            }
            alive.pause(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        *stored = next;
        Ok(stored.head.clone())
    }

    /// Asks the database whether the shard is still held here, until it answers.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub(super) async fn confirm(&self, db: &Db, alive: &Alive) -> Result<(), StoreError> {
        // Not beside a change: the two would hinder each other.
        let stored = self.stored.lock().await;
        let mut pause = FIRST_PAUSE;
        loop {
            alive.check()?;
            match read(db, self.shard).await {
                Ok(found) => return self.is_ours(alive, &stored, &found.unwrap_or_default()),
                Err(StoreError::Io { reason, .. }) => {
                    metrics::cql_repeated();
                    tracing::debug!(shard = %self.shard, reason, "a claim is confirmed again");
                }
                Err(error) => return Err(error),
            }
            alive.pause(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn is_ours(&self, alive: &Alive, ours: &Stored, found: &Stored) -> Result<(), StoreError> {
        if (found.epoch, found.head.owner) == (ours.epoch, ours.head.owner) {
            return Ok(());
        }
        Err(self.lost(alive, found.epoch))
    }

    /// Somebody else has the shard.
    fn lost(&self, alive: &Alive, current: Epoch) -> StoreError {
        let lost = StoreError::Fenced {
            shard: self.shard,
            ours: self.epoch,
            current,
        };
        alive.lose(lost.clone());
        lost
    }

    /// Whether a change that was refused had happened before.
    async fn is_in_place(&self, db: &Db, alive: &Alive, next: &Stored) -> Result<bool, StoreError> {
        let found = match read(db, self.shard).await {
            Ok(found) => found.unwrap_or_default(),
            Err(StoreError::Io { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if (found.epoch, found.seq) == (next.epoch, next.seq) && found.head == next.head {
            return Ok(true);
        }
        Err(self.lost(alive, found.epoch))
    }
}

/// The highest id of a record, as seals count them.
pub(super) fn sealed(lsn: u64) -> Option<MessageId> {
    MessageId::new(lsn)
}

#[cfg(test)]
mod tests;
