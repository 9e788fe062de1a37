//! The Dashboard API: what people do, signed in, or operators with their token.

pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod instances;
pub(crate) mod login;
pub(crate) mod pacing;
