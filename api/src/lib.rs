//! Zajil: api.
