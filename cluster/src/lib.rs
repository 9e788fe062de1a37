//! Zajil: cluster.
