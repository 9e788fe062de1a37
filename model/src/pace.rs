//! How fast an instance may send: its settings ([`PaceSpec`]), the bucket that carries them out
//! ([`Pace`]) and the daily cap ([`DayCap`]).

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::instance::TransportKind;

mod ahead;
mod bucket;
mod day;

pub use ahead::{
    ARM_AHEAD, ARM_BY, Company, Lead, TOGETHER, arms_by, to_arm, together_by, turn_of_next,
};
pub use bucket::{
    DECREASE, LEAST_FACTOR, LEAST_THROTTLE_WAIT, Pace, PaceHanded, RECOVERY, RECOVERY_PER_ACK,
    RECOVERY_STEP,
};
pub use day::{CHUNKS_A_DAY, CapWait, DayCap, LEAST_CHUNK};

/// The highest rate, in hand-overs a second: far above what a node can do, so it is "unlimited".
pub const MAX_RATE: f64 = 1e6;

/// The largest burst. More would be felt as a flood by any channel.
pub const MAX_BURST: u32 = 10_000;

/// The largest part of a gap that jitter may add or take away.
pub const MAX_JITTER: f64 = 0.5;

/// The rate of a new simulated instance: one can watch it, and it is not slow.
pub const SIMULATOR_RATE: f64 = 10.0;

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

/// What is kept of the pace of an instance from owner to owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PaceSaved {
    /// The part of the configured rate that throttling leaves, above 0 and below 1; `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
}

/// What is kept of a daily cap, from owner to owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaySaved {
    /// The civil day in the zone of the cap: days since 1970-01-01.
    pub day: i32,
    /// Hand-overs of it that may have happened: never fewer than did.
    pub reserved: u64,
}

impl Per {
    /// Its length in seconds.
    pub const fn seconds(self) -> f64 {
        match self {
            Self::Second => 1.0,
            Self::Minute => 60.0,
            Self::Hour => 3_600.0,
        }
    }
}

impl PaceSpec {
    /// The settings of an instance whose account gave none.
    pub const fn default_for(kind: TransportKind) -> Self {
        let (count, per) = match kind {
            TransportKind::Simulator => (SIMULATOR_RATE, Per::Second),
        };
        Self {
            count,
            per,
            burst: None,
            jitter: 0.0,
            daily_cap: None,
            time_zone: None,
        }
    }

    /// Hand-overs a second.
    pub fn rate_per_second(&self) -> f64 {
        self.count / self.per.seconds()
    }

    /// The burst: as set, else a tenth of a second's worth, at least 1 and at most [`MAX_BURST`].
    pub fn effective_burst(&self) -> u32 {
        let default = (self.rate_per_second() / 10.0) as u32;
        self.burst.unwrap_or(default).clamp(1, MAX_BURST)
    }

    /// What is wrong with it, as (field, message) in the words of the API; empty when nothing is.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut fault = |field, message: String| faults.push((field, message));
        if !self.count.is_finite() || self.count <= 0.0 {
            fault("rate.count", "must be a number above 0".to_owned());
        } else if self.rate_per_second() > MAX_RATE {
            fault("rate.count", format!("must be at most {MAX_RATE} a second"));
        }
        if self
            .burst
            .is_some_and(|burst| !(1..=MAX_BURST).contains(&burst))
        {
            fault("burst", format!("must be from 1 to {MAX_BURST}"));
        }
        if !(0.0..=MAX_JITTER).contains(&self.jitter) {
            fault("jitter", format!("must be from 0 to {MAX_JITTER}"));
        }
        if self.daily_cap == Some(0) {
            fault("daily_cap", "must be at least 1".to_owned());
        }
        if self
            .time_zone
            .as_deref()
            .is_some_and(|name| TimeZone::get(name).is_err())
        {
            fault(
                "time_zone",
                "must be an IANA time zone, such as Asia/Riyadh".to_owned(),
            );
        }
        faults
    }
}
