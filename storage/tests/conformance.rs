//! Every promise of the port, kept by every kind of store.

#[path = "conformance/compare.rs"]
mod compare;
#[path = "conformance/history.rs"]
mod history;
#[path = "conformance/keeping.rs"]
mod keeping;
#[path = "conformance/model.rs"]
mod model;
#[path = "conformance/promises.rs"]
mod promises;
#[path = "conformance/world.rs"]
mod world;
