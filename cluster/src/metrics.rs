//! What the cluster counts: names once, verbs as functions.

mod ownership;

pub(crate) use ownership::{Metrics, Outcome};
