//! How fast an instance may send.

use serde::{Deserialize, Serialize};

/// The unit of time of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

/// How fast an instance may send, as its account set it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaceSpec {
    /// Messages in each `per`; fractions are allowed. More than 0, at most 1,000,000 a second.
    pub count: f64,
    /// The unit.
    pub per: Per,
    /// How many may go at once after a pause; `None` is max(1, rate a second / 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// How much each gap varies, 0 to 0.5 of it, the mean kept.
    #[serde(default)]
    pub jitter: f64,
    /// Messages a day at most, in `time_zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_cap: Option<u64>,
    /// The IANA zone in which a day begins; `None` is UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}
