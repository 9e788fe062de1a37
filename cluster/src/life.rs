//! The lives of a node: it joins, lives until it is declared dead or leaves, and joins again.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zajil_model::lease::holder::Holder;
use zajil_model::lease::shard::Owner;

use crate::challenge;
use crate::cluster::Renewals;
use crate::lease::{Ended, Kept, join, keep, leave, on_its_own_thread};
use crate::reconcile::{self, Invite, Life, lose_all};
use crate::shared::Shared;

/// Lives one life after the other, until the node leaves or must end.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    mut invites: mpsc::Receiver<Invite>,
) -> Result<(), Ended> {
    let mut previous = shared.ports.past.previous();
    loop {
        let holder = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Ok(()),
            joined = join(shared, previous) => joined?,
        };
        previous = Some(holder.incarnation());
        shared.metrics.joined();
        shared.ports.shards.joined();
        tracing::info!(
            node = shared.me().0,
            life = holder.incarnation().0,
            "joined"
        );
        match Box::pin(live(shared, holder, &mut invites)).await {
            Kept::Fenced => shared.trouble(format!(
                "declared dead as incarnation {}: everything is dropped, and the node joins again",
                holder.incarnation().0
            )),
            Kept::Left => return Ok(()),
        }
    }
}

/// One life. When this returns, nothing of it runs any more.
async fn live(shared: &Arc<Shared>, holder: Holder, invites: &mut mpsc::Receiver<Invite>) -> Kept {
    let life = Life {
        me: Owner {
            node: shared.me(),
            incarnation: holder.incarnation(),
        },
        over: CancellationToken::new(),
    };
    shared.peers.send_replace(None);
    let lease = async {
        let kept = keep_lease(shared, holder).await;
        // Whoever renews said so at once: nothing is sent any more.
        life.over.cancel();
        lose_all(shared).await;
        kept
    };
    let (kept, (), ()) = tokio::join!(
        lease,
        challenge::watch(shared, &life.over),
        reconcile::run(shared, &life, invites),
    );
    let last = shared.holder.send_replace(None);
    if let (Kept::Left, Some(last)) = (kept, last) {
        leave(shared, &last).await;
    }
    kept
}

async fn keep_lease(shared: &Arc<Shared>, holder: Holder) -> Kept {
    match shared.config.renewals {
        Renewals::Here => keep(shared, holder, &shared.stop).await,
        Renewals::OwnThread => {
            let own = Arc::clone(shared);
            let work = async move { keep(&own, holder, &own.stop).await };
            match on_its_own_thread(work).await {
                Ok(kept) => kept,
                Err(error) => {
                    shared.trouble(format!("the thread that renews the lease ended: {error}"));
                    let mut over = holder;
                    over.end();
                    shared.ports.ownership.lease(over.lease());
                    Kept::Fenced
                }
            }
        }
    }
}
