//! How a node begins a life: with a row of the next incarnation, when no other process may be
//! living as this node.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use zajil_model::lease::holder::Holder;
use zajil_model::lease::{Incarnation, NodeRow, NodeState, RENEWAL_TIMEOUT, Watch};

use super::Ended;
use crate::rows::{Cas, Member, RowsError};
use crate::shared::Shared;

/// How long to wait before the store is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// How often a row is read that may be of a life that goes on.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Joins, however long the store takes to answer. `previous` is a life of this node that is
/// certainly over.
///
/// A join whose outcome is unknown is never taken for granted: two processes of one name could ask
/// for the same row. The row that it may have left is one of a former life, like any other.
pub(crate) async fn join(shared: &Shared, previous: Option<Incarnation>) -> Result<Holder, Ended> {
    insist(shared, || shared.ports.rows.add_member(member(shared))).await;
    loop {
        let before = read(shared).await;
        let may_live = before.filter(|row| row.state != NodeState::Dead);
        if let Some(row) = may_live.filter(|row| previous != Some(row.incarnation)) {
            wait_for_its_end(shared, row).await?;
        }
        if let Some(holder) = begin(shared, before).await {
            return Ok(holder);
        }
        sleep(AGAIN).await;
    }
}

const fn member(shared: &Shared) -> Member {
    let config = &shared.config;
    Member {
        node: config.node,
        link: config.link,
        api: config.api,
    }
}

async fn begin(shared: &Shared, before: Option<NodeRow>) -> Option<Holder> {
    let row = NodeRow {
        state: shared.state(),
        ..NodeRow::joined(before.as_ref())
    };
    let asked_at = shared.mono();
    let ask = shared.ports.rows.cas_lease(shared.me(), before, row);
    match timeout(RENEWAL_TIMEOUT, ask).await {
        Ok(Cas::Applied) => {
            let incarnation = row.incarnation;
            if let Err(error) = shared.ports.past.remember(incarnation) {
                shared.trouble(format!(
                    "cannot remember incarnation {}: {error}",
                    incarnation.0
                ));
            }
            Some(Holder::joined(row, asked_at))
        }
        Ok(Cas::Conflict(_)) => None,
        Ok(Cas::Unknown(error)) => {
            shared.trouble(format!("cannot join: {error}"));
            None
        }
        Err(_) => {
            shared.trouble("cannot join: the store did not answer in time".to_owned());
            None
        }
    }
}

/// Watches a row that may be of a life that goes on, as a challenger does.
async fn wait_for_its_end(shared: &Shared, row: NodeRow) -> Result<(), Ended> {
    let mut watch = Watch::default();
    watch.observe(row, shared.mono());
    while !watch.is_expired(shared.mono()) {
        sleep(WATCH_EVERY).await;
        let Ok(Ok(now)) = timeout(RENEWAL_TIMEOUT, once(shared)).await else {
            watch.interrupted();
            continue;
        };
        match now {
            Some(now) if now.state == NodeState::Dead => return Ok(()),
            Some(now) if now != row => return Err(Ended::Twin(shared.me())),
            Some(now) => watch.observe(now, shared.mono()),
            None => return Ok(()),
        }
    }
    Ok(())
}

async fn read(shared: &Shared) -> Option<NodeRow> {
    insist(shared, || once(shared)).await
}

async fn once(shared: &Shared) -> Result<Option<NodeRow>, RowsError> {
    shared.ports.rows.read_lease(shared.me()).await
}

/// Asks until there is an answer.
async fn insist<T, F>(shared: &Shared, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, RowsError>>,
{
    loop {
        match timeout(RENEWAL_TIMEOUT, ask()).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => shared.trouble(format!("cannot join: {error}")),
            Err(_) => shared.trouble("cannot join: the store did not answer in time".to_owned()),
        }
        sleep(AGAIN).await;
    }
}
