//! The promises one by one, on every kind of store.
