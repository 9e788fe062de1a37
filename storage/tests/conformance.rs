//! Every promise of the port, kept by every kind of store.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "conformance/cancels.rs"]
mod cancels;
#[path = "conformance/claims.rs"]
mod claims;
#[path = "conformance/compare.rs"]
mod compare;
#[path = "conformance/damage.rs"]
mod damage;
#[path = "conformance/faults.rs"]
mod faults;
#[path = "conformance/groups.rs"]
mod groups;
#[path = "conformance/history.rs"]
mod history;
#[path = "conformance/keeping.rs"]
mod keeping;
#[path = "conformance/model.rs"]
mod model;
#[path = "conformance/promises.rs"]
mod promises;
#[path = "conformance/retention.rs"]
mod retention;
#[path = "conformance/shared.rs"]
mod shared;
#[path = "conformance/space.rs"]
mod space;
#[path = "conformance/transfer.rs"]
mod transfer;
#[path = "conformance/transfer_damage.rs"]
mod transfer_damage;
#[path = "conformance/world.rs"]
mod world;
