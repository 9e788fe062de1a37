//! The change feed over the shards of a node: merged by the places of their records, which are in
//! order of time.
//!
//! Who read up to a place is told of nothing before it any more. So every shard here moves on to it,
//! also one that has nothing to tell yet: the next owner of it begins behind that, or behind its
//! ceiling, and knows nothing of readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};
use zajil_model::id::{AccountId, SHARD_BITS, Tick};
use zajil_model::time::Timestamp;

use super::clock::LogClock;
use super::{Serving, Shared};
use crate::StoreError;
use crate::query::{ChangePage, Cursor, StatusChange};

/// Logs that are raised at once: each is a conditional write, and a reader may find all of a node's in
/// need of one. So many take a tenth of a second for a third of all shards, and leave the database to who sends.
const RAISED_AT_ONCE: usize = 16;

/// A shard that is held on a node, as far as changes are told of it.
#[async_trait]
pub trait Telling: Send + Sync {
    /// The places of its log.
    fn log(&self) -> &LogClock;

    /// Whether there may be changes of an account.
    fn tells(&self, account: AccountId) -> bool;

    /// Makes it durable that its log goes on for a while.
    async fn raise_log(&self) -> Result<(), StoreError>;

    /// Its changes of an account, from a place on.
    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, StatusChange)>, StoreError>;
}

/// What is asked of a feed.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Whose changes.
    pub account: AccountId,
    /// From which place on.
    pub after: Option<Cursor>,
    /// How many at most.
    pub limit: usize,
}

/// Changes of an account from a place on, as far as every shard knows that none will come before.
/// `told` is the tick up to which readers were told that they have seen everything.
///
/// # Errors
/// What the shards answer.
pub async fn merged<T: Telling>(
    shards: &[T],
    (told, now): (&AtomicU64, Timestamp),
    question: Question,
) -> Result<ChangePage, StoreError> {
    let Question {
        account,
        after,
        limit,
    } = question;
    let telling = shards.iter().filter(|shard| shard.tells(account));
    let last = telling.map(|shard| shard.log().last());
    // A clock that runs ahead takes the others along, or its changes would wait for theirs.
    let target = last.fold(Tick::at(now), Tick::max);
    told.fetch_max(target.0, Ordering::AcqRel);
    let low = shards.iter().filter(|shard| !shard.log().reaches(target));
    let raises: Vec<_> = low.map(|shard| shard.raise_log()).collect();
    let raised = stream::iter(raises).buffer_unordered(RAISED_AT_ONCE);
    // All of them, whatever becomes of one: a change of a head that nobody follows to its end looks as if
    // somebody else had made it.
    let raised: Vec<Result<(), StoreError>> = raised.collect().await;
    raised.into_iter().collect::<Result<(), _>>()?;
    let mut found: Vec<(Cursor, StatusChange)> = Vec::new();
    let mut upto = Tick(target.0 + 1).0 << SHARD_BITS;
    for shard in shards {
        upto = upto.min(shard.log().settle(target));
        // Looked at after that: what was under way may have been the first change of the account.
        if shard.tells(account) {
            found.extend(shard.changes(account, after, limit).await?);
        }
    }
    let upto = Cursor {
        record: upto,
        within: 0,
    };
    found.retain(|(place, _)| *place < upto);
    found.sort_unstable_by_key(|(place, _)| *place);
    found.truncate(limit);
    let next = found.last().map(|(place, _)| Cursor {
        record: place.record,
        within: place.within + 1,
    });
    Ok(ChangePage {
        changes: found,
        next: next.or(after),
        upto,
    })
}

/// A shard that is served, and by whom.
struct Served<'a> {
    shared: &'a Shared,
    serving: Serving,
}

#[async_trait]
impl Telling for Served<'_> {
    fn log(&self) -> &LogClock {
        &self.serving.open.log
    }

    fn tells(&self, account: AccountId) -> bool {
        self.serving.open.projection.tells(account)
    }

    async fn raise_log(&self) -> Result<(), StoreError> {
        self.serving.open.raise_log().await
    }

    async fn changes(
        &self,
        account: AccountId,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, StatusChange)>, StoreError> {
        let projection = Arc::clone(&self.serving.open.projection);
        let asked = self
            .shared
            .question(projection, move |p| p.changes(account, after, limit));
        Ok(asked.await?.changes)
    }
}

/// Changes of an account over the shards of this node.
pub(super) async fn changes(
    shared: &Shared,
    account: AccountId,
    after: Option<Cursor>,
    limit: usize,
) -> Result<ChangePage, StoreError> {
    shared.check()?;
    let served = |serving: &Serving| Served {
        shared,
        serving: serving.clone(),
    };
    let shards: Vec<Served<'_>> = shared.shards.read().values().map(served).collect();
    let question = Question {
        account,
        after,
        limit,
    };
    let now = shared.db.clock.now();
    merged(&shards, (&shared.told, now), question).await
}

#[cfg(test)]
mod tests {
    use zajil_model::id::Shard;

    use super::*;

    /// A shard that tells nothing, or does; it may have left.
    struct Quiet {
        log: LogClock,
        tells: bool,
        left: bool,
    }

    #[async_trait]
    impl Telling for Quiet {
        fn log(&self) -> &LogClock {
            &self.log
        }

        fn tells(&self, _account: AccountId) -> bool {
            self.tells
        }

        async fn raise_log(&self) -> Result<(), StoreError> {
            if self.left {
                return Err(StoreError::Closed);
            }
            tokio::task::yield_now().await;
            self.log.raise(Tick(1_000));
            Ok(())
        }

        async fn changes(
            &self,
            _account: AccountId,
            _after: Option<Cursor>,
            _limit: usize,
        ) -> Result<Vec<(Cursor, StatusChange)>, StoreError> {
            Ok(Vec::new())
        }
    }

    fn quiet(number: u16, last: u64, told: &Arc<AtomicU64>) -> Quiet {
        let shard = Shard::new(number).unwrap();
        let log = LogClock::new(shard, Tick(last), Tick(last + 50), Arc::clone(told));
        Quiet {
            log,
            tells: true,
            left: false,
        }
    }

    fn question() -> Question {
        Question {
            account: AccountId::new(1).unwrap(),
            after: None,
            limit: 10,
        }
    }

    #[tokio::test]
    async fn a_shard_that_told_nothing_yet_keeps_to_what_readers_were_told() {
        let told = Arc::new(AtomicU64::new(0));
        // The log of one goes on ahead of time, as after a take-over.
        let mut shards = [quiet(1, 500, &told), quiet(2, 90, &told)];
        shards[1].tells = false;

        let now = Tick(100).time();
        let page = merged(&shards, (&told, now), question()).await;

        let upto = page.unwrap().upto.record >> SHARD_BITS;
        let quiet = &shards[1].log;
        assert_eq!(upto, 501);
        assert!(quiet.last() >= Tick(500) && quiet.reaches(Tick(500)));
    }

    #[tokio::test]
    async fn a_shard_that_left_cuts_no_change_of_another_short() {
        let told = Arc::new(AtomicU64::new(0));
        let mut shards = [quiet(1, 10, &told), quiet(2, 10, &told)];
        shards[1].left = true;

        let page = merged(&shards, (&told, Tick(100).time()), question()).await;

        assert_eq!(page, Err(StoreError::Closed));
        assert!(shards[0].log.reaches(Tick(1_000)));
    }
}
