//! What accounts have and ask for, on a store in memory: directory, idempotency keys, windows of API
//! keys, batches.

mod batches;
mod contacts;
mod idempotency;
mod ids;
mod instances;
mod keys;
mod logins;
mod support;
mod windows;
