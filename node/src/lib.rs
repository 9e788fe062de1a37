//! Zajil: node.
