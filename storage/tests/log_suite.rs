//! What the file log promises: what was written is found again, whole and in order, whatever
//! happened in between, or the log says that it is damaged.

mod log {
    mod committing;
    mod damage;
    mod failure;
    mod killing;
    mod model;
    mod recycling;
    mod roundtrip;
    mod space;
    mod support;
    mod torn;
}
