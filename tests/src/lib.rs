//! Zajil: tests.
