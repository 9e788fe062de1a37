//! How a node ends a life in good order: it says so in its row, and nobody has to wait.

use tokio::time::timeout;
use zajil_model::lease::holder::Holder;
use zajil_model::lease::{NodeState, RENEWAL_TIMEOUT};

use crate::rows::Cas;
use crate::shared::Shared;

/// How often the row is asked for before the peers are left to find out.
const TRIES: usize = 3;

/// Marks this life dead; it holds nothing and sends nothing any more.
pub(crate) async fn leave(shared: &Shared, holder: &Holder) {
    let (rows, me) = (&shared.ports.rows, shared.me());
    let mut before = *holder.row();
    for _ in 0..TRIES {
        let Some(after) = before.declared_dead(&before) else {
            return;
        };
        match timeout(RENEWAL_TIMEOUT, rows.cas_lease(me, Some(before), after)).await {
            Ok(Cas::Applied) => return,
            // A renewal without an answer applied after all.
            Ok(Cas::Conflict(Some(row)))
                if row.incarnation == before.incarnation && row.state != NodeState::Dead =>
            {
                before = row;
            }
            Ok(Cas::Conflict(_)) => return,
            Ok(Cas::Unknown(_)) | Err(_) => {}
        }
    }
    shared.trouble("cannot give the lease back: it will run out".to_owned());
}
