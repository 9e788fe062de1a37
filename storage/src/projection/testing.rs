//! What tests of the projection begin with.

use std::sync::Arc;

use zajil_model::id::{AccountId, InstanceId, MessageId, RequestId, Tick};
use zajil_model::message::{Chunk, Message, OnAmbiguous, Payload, Queue};
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use super::bodies::ChunkSource;
use crate::StoreError;

/// Monday, 2026-11-23 00:00 UTC.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_795_392_000);

/// Chunks are kept in the cache, and nowhere else.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl ChunkSource for Nowhere {
    fn chunk(&self, _: u64, _: u32) -> Result<Arc<Chunk>, StoreError> {
        Err(StoreError::Closed)
    }
}

/// A chunk that fills a block, the `number`th of those accepted at a time.
pub(crate) fn chunk(at: Timestamp, number: u64) -> Arc<Chunk> {
    let message = Message {
        recipient: Phone::from_digits("4915112345678").expect("a phone"),
        payload: Payload::Text("hello".into()),
        send_at: None,
        ttl_seconds: 60,
        client_ref: None,
        on_ambiguous: OnAmbiguous::Unknown,
    };
    let instance = InstanceId::new(3).expect("small");
    Arc::new(Chunk {
        account: AccountId::new(1).expect("small"),
        instance,
        queue: Queue::Normal,
        first: MessageId::give(Tick(Tick::at(at).0 + number * 1_000), instance.shard()),
        created_at: at,
        bulk: None,
        request: RequestId(0),
        messages: vec![message; 256],
    })
}
