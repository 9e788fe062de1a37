//! The Integration API: what applications call, with an API key.

pub(crate) mod batches;
pub(crate) mod bulk;
pub(crate) mod changes;
pub(crate) mod contacts;
pub(crate) mod draft;
pub(crate) mod instances;
pub(crate) mod me;
pub(crate) mod messages;
pub(crate) mod record;
pub(crate) mod sends;
pub(crate) mod stats;
pub(crate) mod suppressions;
pub(crate) mod templates;
pub(crate) mod upload;
