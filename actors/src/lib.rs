//! The engine: a supervision tree that owns instances, key windows and batches.
//!
//! ```text
//! HTTP edge ─► engine ─► gate ─► router ─► handle ──append──► store (the log)
//!                                  │          │ credit
//!                                  ▼          ▼
//!           node supervisor ► shard supervisor ► instance actor
//!                                                 inbox ─► window ─► outbox ─► transport
//!                                                   ▲                             │
//!                                                   └──── store ◄──── outcomes ◄──┘
//!
//!           key buckets ► one actor a key      batches ► one actor a running batch
//! ```
//!
//! Decisions are functions of `zajil-model`; what is here carries them out. Nothing waits inside
//! a handler: the store and the transports answer with messages.

pub mod batch;
pub mod context;
pub mod directory;
pub mod engine;
pub mod gate;
pub mod idempotency;
pub mod ids;
pub mod instance;
pub mod key_bucket;
pub mod metrics;
pub mod owners;
pub mod router;
pub mod send;
pub mod shard;
pub mod timer;
