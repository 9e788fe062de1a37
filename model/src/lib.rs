//! The rules of Zajil: what a message is, when it may go, what became of it, who owns it.
//!
//! Nothing here waits, does I/O or reads a clock. A rule is a function of state, event and time;
//! `actors` carry out what it answers. Reading order: [`id`], [`message`], [`lifecycle`],
//! [`lane`], [`pace`].

pub mod admission;
pub mod barrier;
pub mod batch;
pub mod id;
pub mod instance;
pub mod lane;
pub mod lease;
pub mod lifecycle;
pub mod message;
pub mod pace;
pub mod phone;
pub mod placement;
pub mod promise;
pub mod quota;
pub mod refusal;
pub mod replay;
pub mod retry;
pub mod suppression;
pub mod template;
pub mod time;
pub mod wa_id;
