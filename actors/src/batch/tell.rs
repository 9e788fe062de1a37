//! Telling the instances of a batch what is in force, and gathering who confirmed.

use std::time::Duration;

use futures_util::future::join_all;

use super::port::PartState;
use super::record::{BatchRecord, Sender};
use super::{BatchPorts, Shared};

/// How long one round of telling waits for an instance: it confirms in milliseconds, unless frames
/// that it cleared before are still on their way.
const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

/// Waits for the block of rows that is being added, if one is: what comes after sees the new state.
pub(super) async fn after_block(shared: &Shared) {
    drop(shared.block.lock().await);
}

/// Tells every instance the state of its part; answers the names of those that did not confirm.
pub(super) async fn tell_all(ports: &BatchPorts, record: &BatchRecord) -> Vec<String> {
    let state = record.part_state();
    let told = record
        .senders
        .iter()
        .map(|sender| tell(ports, record, sender, state));
    join_all(told).await.into_iter().flatten().collect()
}

async fn tell(
    ports: &BatchPorts,
    record: &BatchRecord,
    sender: &Sender,
    state: PartState,
) -> Option<String> {
    let port = &ports.instances;
    let answer = port.part_state(record.account, sender.instance, record.id, state);
    let confirmed = tokio::time::timeout(CONFIRM_WITHIN, answer)
        .await
        .unwrap_or(false);
    (!confirmed).then(|| sender.name.clone())
}
