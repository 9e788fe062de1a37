//! Who follows the change feed: page by page from a cursor, at whichever node, and writes down what it
//! was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use zajil_model::id::{AccountId, MessageId};
use zajil_model::lifecycle::Status;
use zajil_storage::{ChangePage, Cursor, StatusChange};

use crate::oracle::Oracle;
use crate::process::Process;
use crate::rare::Rare;

/// Readers of a world.
const READERS: usize = 2;

/// Changes in a page: few, so that one reader needs many.
const PAGE: std::ops::Range<usize> = 3..40;

/// How long a reader waits for a page, in milliseconds, before it asks somewhere else.
const PATIENCE: std::ops::Range<u64> = 1_500..9_000;

/// One reader.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) cursor: Option<Cursor>,
    pub(crate) seen: BTreeMap<Cursor, StatusChange>,
    pub(crate) last: BTreeMap<MessageId, Status>,
    /// Counts the pages that it asked for: of one that was overtaken nothing is read.
    turn: u64,
    waits_until: Option<Duration>,
    /// How often shards had changed hands when it was told something last.
    takes: u64,
}

/// All of a world.
#[derive(Debug)]
pub(crate) struct Readers {
    readers: Vec<Arc<Mutex<Reader>>>,
    account: AccountId,
    oracle: Arc<Oracle>,
}

impl Readers {
    pub(crate) fn new(account: AccountId, oracle: Arc<Oracle>) -> Self {
        let readers = (0..READERS).map(|_| Arc::default()).collect();
        Self {
            readers,
            account,
            oracle,
        }
    }

    pub(crate) fn all(&self) -> &[Arc<Mutex<Reader>>] {
        &self.readers
    }

    /// One of them asks for its next page at a node; shards have changed hands `takes` times by now.
    pub(crate) fn read(&self, random: &mut SmallRng, at: &Process, (now, takes): (Duration, u64)) {
        let Some(engine) = at.engine().cloned() else {
            return;
        };
        let reader = Arc::clone(&self.readers[random.random_range(0..READERS)]);
        let (limit, patience) = (random.random_range(PAGE), random.random_range(PATIENCE));
        let (account, oracle) = (self.account, Arc::clone(&self.oracle));
        let (turn, after) = {
            let mut reader = reader.lock();
            if reader.waits_until.is_some_and(|until| now < until) {
                return;
            }
            reader.turn += 1;
            reader.waits_until = Some(now + Duration::from_millis(patience));
            (reader.turn, reader.cursor)
        };
        at.handle().spawn(async move {
            let page = engine.store().changes(account, after, limit).await;
            let mut reader = reader.lock();
            if reader.turn != turn {
                return;
            }
            reader.waits_until = None;
            let Ok(page) = page else { return };
            if page.changes.is_empty() && page.upto == after.unwrap_or_default() {
                oracle.reached.note(Rare::FeedWaits);
            }
            if !page.changes.is_empty() {
                if after.is_some() && reader.takes != takes {
                    oracle.reached.note(Rare::FeedAcrossOwners);
                }
                reader.takes = takes;
            }
            if let Err(why) = reader.takes_in(&page) {
                oracle.wrong(&why);
            }
        });
    }
}

impl Reader {
    /// Writes a page down: behind its cursor, in order, and never back for one message.
    pub(crate) fn takes_in(&mut self, page: &ChangePage) -> Result<(), String> {
        for (place, change) in &page.changes {
            if self.cursor.is_some_and(|cursor| *place < cursor) {
                return Err(format!("the feed goes back to {place:?}"));
            }
            self.cursor = Some(*place);
            let before = self.last.insert(change.id, change.status);
            if before.is_some_and(|before| stage(before) > stage(change.status)) {
                return Err(format!(
                    "the feed tells that {} is {:?}, and then {:?}",
                    change.id, before, change.status
                ));
            }
            self.seen.insert(*place, *change);
        }
        if page.next < self.cursor {
            return Err(format!("the feed goes on from {:?}", page.next));
        }
        self.cursor = page.next;
        Ok(())
    }
}

/// How far a message has come; it goes back from `processing` to `pending` alone, by a refusal.
const fn stage(status: Status) -> u8 {
    match status {
        Status::Scheduled | Status::Pending | Status::Processing => 0,
        Status::Expired | Status::Cancelled | Status::Suppressed => 1,
        Status::Unknown => 2,
        Status::Sent => 3,
        Status::Failed => 4,
        Status::Delivered => 5,
        Status::Read => 6,
    }
}
