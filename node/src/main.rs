//! The `zajil` binary.

fn main() {}
