//! The windows of keys.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zajil_cluster::link::Method;
use zajil_model::id::KeyId;

use crate::key_bucket::{Quota, Unavailable};
use crate::owners::{Question, Repeat};

/// How long a request waits for the window of its key; then it is answered 503.
const TAKE_WITHIN: Duration = Duration::from_secs(3);

/// Take one from the window of a key, or tell what would be answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct AskWindow {
    /// Whose window.
    pub key: KeyId,
    /// What the key allows in an hour now.
    pub limit: u64,
    /// Whether a request is counted.
    pub count: bool,
}

impl Question for AskWindow {
    const METHOD: Method = Method(20);
    /// A request that was counted and not answered is counted again: never too few.
    const REPEAT: Repeat = Repeat::Freely;
    const WITHIN: Duration = TAKE_WITHIN;
    type Answer = Result<Quota, Unavailable>;

    fn has_moved(answer: &Self::Answer) -> bool {
        matches!(answer, Err(Unavailable::Moved))
    }
}
