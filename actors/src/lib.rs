//! Zajil: actors.
