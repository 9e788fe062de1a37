//! The change feed over the shards of this node: merged by the places of their records, which are
//! in order of time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use zajil_model::id::{AccountId, SHARD_BITS, Tick};

use super::{Serving, Shared};
use crate::StoreError;
use crate::query::{ChangePage, Cursor, StatusChange};

/// Changes of an account from a place on, as far as every shard knows that none will come before.
pub(super) async fn changes(
    shared: &Shared,
    account: AccountId,
    after: Option<Cursor>,
    limit: usize,
) -> Result<ChangePage, StoreError> {
    shared.check()?;
    let shards: Vec<Serving> = shared.shards.read().values().cloned().collect();
    let is_told = |serving: &Serving| serving.open.projection.tells(account);
    let last = shards.iter().filter(|serving| is_told(serving));
    let last = last.map(|serving| serving.open.log.last());
    // A clock that runs ahead takes the others along, or its changes would wait for theirs.
    let target = last.fold(Tick::at(shared.db.clock.now()), Tick::max);
    shared.told.fetch_max(target.0, Ordering::AcqRel);
    let mut found: Vec<(Cursor, StatusChange)> = Vec::new();
    let mut upto = Tick(target.0 + 1).0 << SHARD_BITS;
    for Serving { open, .. } in shards {
        // Looked at first: it may be the first change of the account there.
        let under_way = open.log.under_way();
        upto = upto.min(under_way.unwrap_or(u64::MAX));
        if !open.projection.tells(account) {
            continue;
        }
        if !open.log.reaches(target) {
            open.raise_log().await?;
        }
        upto = upto.min(open.log.settle(target));
        let part = shared.question(Arc::clone(&open.projection), move |p| {
            p.changes(account, after, limit)
        });
        found.extend(part.await?.changes);
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
