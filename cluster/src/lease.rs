//! This node's lease: the row that it joins with and renews, and what it may do by it.
//!
//! Renewals are made on a thread of their own, so that a busy runtime cannot keep them from being
//! made; [`keep`] is that loop. What an answer means is decided by
//! [`Holder`].

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use zajil_model::lease::holder::{Found, Holder, Renewal};
use zajil_model::lease::{NodeId, RENEW_EVERY, RENEWAL_TIMEOUT};

use crate::membership::Fact;
use crate::metrics::Outcome;
use crate::rows::Cas;
use crate::shared::Shared;

mod join;
mod leave;
mod thread;

pub(crate) use join::join;
pub(crate) use leave::leave;
pub(crate) use thread::on_its_own_thread;

/// How soon a renewal without an answer is tried again: often within what is left of the lease,
/// and seldom enough for a store that is in trouble.
const AGAIN: Duration = Duration::from_millis(250);

/// Why this node's part in the cluster ended although it was not asked to leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Another process renews the lease of this node.
    #[error(
        "another process runs as node {}: a copied data folder needs a node id of its own",
        .0.0
    )]
    Twin(NodeId),
}

/// How the keeping of a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// This life was declared dead.
    Fenced,
    /// The node was told to leave; nothing is sent any more, and the row is still there.
    Left,
}

/// Renews a lease until it is lost or the node leaves.
pub(crate) async fn keep(shared: &Shared, mut holder: Holder, stop: &CancellationToken) -> Kept {
    show(shared, &holder);
    let mut next = shared.mono() + RENEW_EVERY;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                holder.end();
                show(shared, &holder);
                return Kept::Left;
            }
            () = shared.renew.notified() => {}
            () = sleep(next.since(shared.mono())) => {}
        }
        let asked_at = shared.mono();
        let outcome = renew(shared, &mut holder).await;
        shared
            .metrics
            .renewal(outcome, shared.mono().since(asked_at));
        show(shared, &holder);
        next = match outcome {
            Outcome::Renewed => {
                shared
                    .ports
                    .membership
                    .publish(Fact::LeaseSequence(holder.row().sequence));
                asked_at + RENEW_EVERY
            }
            Outcome::Unknown => shared.mono() + AGAIN,
            Outcome::Fenced => return Kept::Fenced,
        };
    }
}

async fn renew(shared: &Shared, holder: &mut Holder) -> Outcome {
    let (rows, me) = (&shared.ports.rows, shared.me());
    let renewal = holder.ask(shared.state(), shared.mono());
    let Renewal { before, after, .. } = renewal;
    let found = match timeout(RENEWAL_TIMEOUT, rows.cas_lease(me, Some(before), after)).await {
        Ok(Cas::Applied) => {
            holder.applied(&renewal);
            return Outcome::Renewed;
        }
        Ok(Cas::Conflict(row)) => holder.found(row.as_ref()),
        Ok(Cas::Unknown(_)) | Err(_) => match timeout(RENEWAL_TIMEOUT, rows.read_lease(me)).await {
            Ok(Ok(row)) => holder.found(row.as_ref()),
            Ok(Err(_)) | Err(_) => return Outcome::Unknown,
        },
    };
    match found {
        Found::Renewed => Outcome::Renewed,
        Found::NotYet => Outcome::Unknown,
        Found::Fenced => Outcome::Fenced,
    }
}

/// Tells everybody in this node how the lease stands.
fn show(shared: &Shared, holder: &Holder) {
    shared.ports.ownership.lease(holder.lease());
    shared.holder.send_replace(Some(*holder));
}
