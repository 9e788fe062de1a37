//! What the cluster counts: names once, verbs as functions, handles held.

pub mod gossip;
