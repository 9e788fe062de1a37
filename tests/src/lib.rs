//! The promises of Zajil, told as stories: the language that the scenarios in `tests/` are
//! written in.
//!
//! A scenario runs the real program. [`cluster::Engine`] is a node as a process that can be
//! killed and started again, [`whatsapp::WhatsApp`] a made-up WhatsApp as a process of its own
//! with a ledger of every frame, [`nodes::Nodes`] several nodes over one database, [`network::Network`] machines for them whose
//! cables can be cut, [`customer::Customer`] somebody who sends and writes down what was promised to them. [`checker`] compares the two books, and [`cql`] is a real CQL server.
//! `docs/GUARANTEES.md` says which scenario holds which promise.

pub mod campaign;
pub mod checker;
pub mod clock;
pub mod cluster;
pub mod customer;
pub mod form;
pub mod http;
pub mod ledger;
pub mod load;
pub mod network;
pub mod nodes;
pub mod operator;
pub mod program;
pub mod scene;
pub mod stand_in;
pub mod wait;
pub mod whatsapp;

pub use zajil_tests_cql as cql;

pub use cluster::Engine;
pub use customer::Customer;
pub use nodes::Nodes;
pub use scene::Scene;
pub use wait::{eventually, until};
pub use whatsapp::WhatsApp;
