//! The daily cap of one instance.
//!
//! Hand-overs are reserved ahead: a number is made durable first and used up in memory. After a
//! crash the new owner takes all that was reserved for used, so the cap is never passed; it may
//! fall short by one reservation. Whoever stores a reservation does so only where what is stored is
//! what it saw last: so none is ever taken back by one that was made before it.

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{DaySaved, PaceSpec};
use crate::time::Timestamp;

/// The least hand-overs that are reserved at once.
pub const LEAST_CHUNK: u64 = 50;

/// A reservation is this part of the cap: at most a twentieth of a day is lost in a crash.
pub const CHUNKS_A_DAY: u64 = 20;

/// Civil days are counted from here.
const DAY_ZERO: Date = Date::constant(1970, 1, 1);

/// Why the daily cap lets no hand-over through now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapWait {
    /// The next reservation has to be durable first: see [`DayCap::reserve`].
    Reservation,
    /// The day is used up; the next begins at this time.
    Until(Timestamp),
}

/// What remains of the day of one instance that has a daily cap.
#[derive(Clone, Debug)]
pub struct DayCap {
    cap: u64,
    zone: TimeZone,
    day: i32,
    ends: Timestamp,
    used: u64,
    reserved: u64,
    asked: Option<DaySaved>,
}

impl DayCap {
    /// The cap of a spec, `None` when it has none. `saved` is what the last owner made durable.
    pub fn new(spec: &PaceSpec, saved: Option<DaySaved>, now: Timestamp) -> Option<Self> {
        let cap = spec.daily_cap?;
        let zone = zone_of(spec);
        let today = civil_day(&zone, now);
        let saved = saved.filter(|saved| saved.day >= today);
        let DaySaved { day, reserved } = saved.unwrap_or(DaySaved {
            day: today,
            reserved: 0,
        });
        let ends = end_of(&zone, day);
        Some(Self {
            cap,
            zone,
            day,
            ends,
            used: reserved,
            reserved,
            asked: None,
        })
    }

    /// Takes over a changed cap or zone; what is used of the day stays used. A spec without a cap
    /// changes nothing (drop the `DayCap` instead).
    pub fn set(&mut self, spec: &PaceSpec, now: Timestamp) {
        if let Some(cap) = spec.daily_cap {
            self.cap = cap;
            self.zone = zone_of(spec);
            self.ends = end_of(&self.zone, self.day);
            self.turn(now);
        }
    }

    /// Counts one hand-over, or says what it waits for.
    pub fn take(&mut self, now: Timestamp) -> Result<(), CapWait> {
        self.turn(now);
        if self.used >= self.cap {
            Err(CapWait::Until(self.ends))
        } else if self.used >= self.reserved {
            Err(CapWait::Reservation)
        } else {
            self.used += 1;
            Ok(())
        }
    }

    /// Gives back one that was taken at that time and not handed over. Of another day nothing is left
    /// to give back to.
    pub fn give_back(&mut self, taken_at: Timestamp) {
        if civil_day(&self.zone, taken_at) == self.day {
            self.used = self.used.saturating_sub(1);
        }
    }

    /// The next reservation to make durable, once less than half a chunk is left; `None` when
    /// none is needed or one is under way. Answer with [`Self::reserved`] or
    /// [`Self::reserve_failed`].
    pub fn reserve(&mut self, now: Timestamp) -> Option<DaySaved> {
        self.turn(now);
        let chunk = (self.cap / CHUNKS_A_DAY).max(LEAST_CHUNK);
        let enough = self.reserved.saturating_sub(self.used) * 2 >= chunk;
        if enough || self.reserved >= self.cap || self.asked.is_some() {
            return None;
        }
        let reserved = self.cap.min(self.reserved + chunk);
        self.asked = Some(DaySaved {
            day: self.day,
            reserved,
        });
        self.asked
    }

    /// A reservation is durable. One of a day that is over changes nothing.
    pub fn reserved(&mut self, saved: DaySaved) {
        if saved.day == self.day {
            self.reserved = self.reserved.max(saved.reserved);
        }
        if self.asked == Some(saved) {
            self.asked = None;
        }
    }

    /// The reservation could not be stored: [`Self::reserve`] gives it again. It may be durable
    /// all the same, which only makes the next owner careful.
    pub fn reserve_failed(&mut self) {
        self.asked = None;
    }

    /// Another owner reserved meanwhile: the reservation that was asked for was not stored, and what
    /// was `found` stored counts as used.
    pub fn overtaken(&mut self, found: Option<DaySaved>) {
        self.asked = None;
        let Some(found) = found.filter(|found| found.day >= self.day) else {
            return;
        };
        if found.day > self.day {
            self.day = found.day;
            self.ends = end_of(&self.zone, self.day);
            (self.used, self.reserved) = (0, 0);
        }
        self.used = self.used.max(found.reserved);
        self.reserved = self.reserved.max(found.reserved);
    }

    /// What was really used, for an owner that leaves in good order and hands nothing over any more:
    /// stored, it gives the rest of the reservation to the next one. `None` when there is no rest, or
    /// it is not known what is stored.
    pub fn unused(&self) -> Option<DaySaved> {
        let is_known = self.asked.is_none() && self.used < self.reserved;
        is_known.then_some(DaySaved {
            day: self.day,
            reserved: self.used,
        })
    }

    /// Begins the next day when its time has come; a clock that went back never repeats one.
    fn turn(&mut self, now: Timestamp) {
        if now < self.ends {
            return;
        }
        self.day = civil_day(&self.zone, now);
        self.ends = end_of(&self.zone, self.day);
        (self.used, self.reserved, self.asked) = (0, 0, None);
    }
}

/// The zone of a spec that was checked; UTC otherwise.
fn zone_of(spec: &PaceSpec) -> TimeZone {
    let named = spec
        .time_zone
        .as_deref()
        .and_then(|name| TimeZone::get(name).ok());
    named.unwrap_or(TimeZone::UTC)
}

fn civil_day(zone: &TimeZone, at: Timestamp) -> i32 {
    let at = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::MAX);
    let seconds = zone
        .to_datetime(at)
        .date()
        .duration_since(DAY_ZERO)
        .as_secs();
    i32::try_from(seconds.div_euclid(86_400)).unwrap_or(i32::MAX)
}

/// When a civil day ends; never, for one past the calendar's end.
fn end_of(zone: &TimeZone, day: i32) -> Timestamp {
    let next = DAY_ZERO.checked_add((i64::from(day) + 1).days());
    let start = next.and_then(|date| date.to_zoned(zone.clone()));
    start.map_or(Timestamp::from_micros(i64::MAX), |start| {
        Timestamp::from_micros(start.timestamp().as_microsecond())
    })
}
