//! Typed ids, shards, and the clock that gives ids out.
//!
//! `id = tick << 10 | shard`. A tick is a quarter of a millisecond since 2026-01-01 from the
//! shard's hybrid clock, so an id sorts by time, stays below 2^53 for 69 years (JavaScript reads
//! it exactly) and names the shard that gave it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How many shards there are, for ever: the unit of ownership (`hash(key) mod 1,024`).
pub const SHARDS: u16 = 1_024;

/// Bits of an id that name the shard.
pub const SHARD_BITS: u32 = 10;

/// 2026-01-01T00:00:00Z in microseconds since the Unix epoch: where ticks begin.
pub const TICK_ZERO_MICROS: i64 = 1_767_225_600_000_000;

/// Microseconds in a tick.
pub const TICK_MICROS: i64 = 250;

/// Ids are below this: the largest integer that every JSON reader keeps exactly.
pub const ID_LIMIT: u64 = 1 << 53;

/// One of the 1,024 units of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shard(u16);

impl Shard {
    /// The shard of that number; `None` when it is 1,024 or more.
    pub const fn new(number: u16) -> Option<Self> {
        if number < SHARDS {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The shard that owns an entity: a fixed hash (SplitMix64) of its id.
    pub const fn of(entity: u64) -> Self {
        let mut x = entity.wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        Self((x % SHARDS as u64) as u16)
    }

    /// Its number, 0 to 1,023.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Every shard, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the owners that a shard has had: a higher epoch fences a lower one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Quarter milliseconds since 2026-01-01, as a shard's hybrid clock counts them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Tick(pub u64);

impl Tick {
    /// The tick that holds this time; the first one for times before 2026.
    pub fn at(time: Timestamp) -> Self {
        let micros = time.as_micros().saturating_sub(TICK_ZERO_MICROS).max(0);
        Self((micros / TICK_MICROS) as u64)
    }

    /// When this tick begins on the wall clock (the hybrid clock may run ahead of it).
    pub const fn time(self) -> Timestamp {
        Timestamp::from_micros(TICK_ZERO_MICROS + self.0 as i64 * TICK_MICROS)
    }

    /// The id that this tick makes on a shard.
    pub const fn id(self, shard: Shard) -> u64 {
        self.0 << SHARD_BITS | shard.number() as u64
    }
}

/// Ticks of one accept never straddle a bucket of this many (one hour): the clock skips ahead.
/// A store may partition by (shard, bucket) and still read one accept from one partition.
pub const TICKS_PER_BUCKET: u64 = 3_600 * 1_000_000 / TICK_MICROS as u64;

/// Gives the ids of one shard: `max(last + 1, now)`, never above a ceiling that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardClock {
    last: Tick,
    ceiling: Tick,
}

impl ShardClock {
    /// A clock that gave `last` before and may give ticks up to and including `ceiling`.
    pub const fn new(last: Tick, ceiling: Tick) -> Self {
        Self { last, ceiling }
    }

    /// The clock of a new owner: it gives nothing until it raised the ceiling, and then only ticks
    /// above the old one, since its predecessor may have given any up to there.
    pub const fn taken_over(ceiling: Tick) -> Self {
        Self::new(ceiling, ceiling)
    }

    /// The last tick given.
    pub const fn last(&self) -> Tick {
        self.last
    }

    /// The highest tick that may be given before the ceiling is raised.
    pub const fn ceiling(&self) -> Tick {
        self.ceiling
    }

    /// The first of `n` ticks in a row, all of one bucket; `None` when the ceiling is in the way.
    ///
    /// `n` must be at most [`TICKS_PER_BUCKET`]; a larger one gets `None`.
    pub fn take(&mut self, n: u64, now: Timestamp) -> Option<Tick> {
        if n == 0 || n > TICKS_PER_BUCKET {
            return None;
        }
        let mut first = Tick::at(now).0.max(self.last.0 + 1);
        let bucket_end = (first / TICKS_PER_BUCKET + 1) * TICKS_PER_BUCKET;
        if first + n > bucket_end {
            first = bucket_end;
        }
        if first + n - 1 > self.ceiling.0 {
            return None;
        }
        self.last = Tick(first + n - 1);
        Some(Tick(first))
    }

    /// Moves the ceiling up to `ceiling`; a lower one changes nothing.
    pub fn raise(&mut self, ceiling: Tick) {
        self.ceiling = self.ceiling.max(ceiling);
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The id of that number; `None` when it is 2^53 or more.
            pub const fn new(number: u64) -> Option<Self> {
                if number < ID_LIMIT { Some(Self(number)) } else { None }
            }

            /// The id that a tick makes on a shard.
            pub const fn give(tick: Tick, shard: Shard) -> Self {
                Self(tick.id(shard))
            }

            /// The number that clients see.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The shard that gave this id (which need not own what it names).
            pub const fn giver(self) -> Shard {
                Shard((self.0 & (SHARDS as u64 - 1)) as u16)
            }

            /// The tick at which it was given.
            pub const fn tick(self) -> Tick {
                Tick(self.0 >> SHARD_BITS)
            }

            /// The shard that owns what this id names, as `hash(id) mod 1,024`.
            pub const fn shard(self) -> Shard {
                Shard::of(self.0)
            }

            /// The id that the same shard gives `n` ticks later.
            pub const fn plus(self, n: u64) -> Self {
                Self(self.0 + (n << SHARD_BITS))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // `parse` alone would take a leading `+`.
                if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(InvalidId::NotANumber);
                }
                text.parse().ok().and_then(Self::new).ok_or(InvalidId::TooLarge)
            }
        }
    )*};
}

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not a number of digits.
    #[error("an id is a whole number in digits")]
    NotANumber,
    /// 2^53 or more.
    #[error("an id is below 2^53")]
    TooLarge,
}

ids! {
    /// Names one customer.
    AccountId,
    /// Names a person who signs in to the dashboard.
    UserId,
    /// Names one WhatsApp number or session.
    InstanceId,
    /// Names an address-book entry.
    ContactId,
    /// Names a text with variables.
    TemplateId,
    /// Names a campaign, or the bulk request that several messages came with.
    BatchId,
    /// Names an API key (never its secret).
    KeyId,
    /// Names one message from its acceptance to its last receipt. Ids sort by age; the *giver* of
    /// a message id is the shard of its instance.
    MessageId,
}

/// Names one request to an owner, so that an edge may repeat it after a lost answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u128);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shard() -> Shard {
        Shard::of(7)
    }

    #[test]
    fn ids_stay_exact_in_javascript_for_69_years() {
        let last = Tick::at(Timestamp::from_seconds(1_767_225_600 + 69 * 31_556_952));

        assert!(last.id(Shard(1_023)) < ID_LIMIT);
    }

    #[test]
    fn a_clock_that_jumps_back_gives_no_id_twice() {
        let mut clock = ShardClock::new(Tick(0), Tick(u64::MAX >> 11));
        let late = Timestamp::from_seconds(1_800_000_000);

        let first = clock.take(3, late).unwrap();
        let second = clock
            .take(1, Timestamp::from_seconds(1_790_000_000))
            .unwrap();

        assert_eq!(second.0, first.0 + 3);
    }

    #[test]
    fn the_ids_of_one_accept_never_straddle_a_bucket() {
        let mut clock = ShardClock::new(Tick(TICKS_PER_BUCKET - 3), Tick(u64::MAX >> 11));

        let first = clock.take(5, Timestamp::from_seconds(0)).unwrap();

        assert_eq!(first, Tick(TICKS_PER_BUCKET));
    }

    #[test]
    fn no_id_passes_the_ceiling() {
        let mut clock = ShardClock::new(Tick(10), Tick(12));

        assert_eq!(clock.take(3, Timestamp::from_seconds(0)), None);
        assert_eq!(clock.take(2, Timestamp::from_seconds(0)), Some(Tick(11)));
        assert_eq!(clock.take(1, Timestamp::from_seconds(0)), None);
    }

    #[test]
    fn an_id_tells_its_shard_and_tick() {
        let id = MessageId::give(Tick(99), shard());

        assert_eq!((id.giver(), id.tick()), (shard(), Tick(99)));
        assert_eq!(id.plus(2), MessageId::give(Tick(101), shard()));
    }

    #[test]
    fn an_id_is_written_in_digits_alone() {
        assert_eq!("7".parse::<KeyId>(), Ok(KeyId(7)));
        for text in ["", "+7", "-7", " 7", "7.0", "٧", "my-instance"] {
            assert_eq!(text.parse::<KeyId>(), Err(InvalidId::NotANumber), "{text}");
        }
        for text in ["9007199254740992", "99999999999999999999999"] {
            assert_eq!(text.parse::<KeyId>(), Err(InvalidId::TooLarge), "{text}");
        }
    }

    #[test]
    fn entities_spread_over_all_shards() {
        let mut owned = [0_u32; SHARDS as usize];
        // Ids of one giver: their low bits are all the same, and must not decide the owner.
        for n in 0..102_400 {
            owned[usize::from(InstanceId::give(Tick(n), shard()).shard().number())] += 1;
        }

        assert!(owned.iter().all(|count| (50..=160).contains(count)));
    }

    #[test]
    fn the_owner_of_an_id_never_changes() {
        let owners = [0, 1, 1_024, 116_785_152_000_037, ID_LIMIT - 1].map(|id| Shard::of(id).0);

        assert_eq!(owners, [431, 193, 972, 11, 415]);
    }

    #[test]
    fn a_tick_begins_where_its_time_says() {
        let time = Timestamp::from_micros(TICK_ZERO_MICROS + 1_000_249);

        assert_eq!(Tick::at(time), Tick(4_000));
        assert_eq!(Tick::at(Tick(4_000).time()), Tick(4_000));
        assert_eq!(Tick::at(Timestamp::from_seconds(0)), Tick(0));
    }

    #[test]
    fn a_new_owner_gives_no_id_that_the_one_before_may_have_given() {
        let mut clock = ShardClock::taken_over(Tick(500));

        assert_eq!(clock.take(1, Timestamp::from_seconds(0)), None);
        clock.raise(Tick(600));
        assert_eq!(clock.take(1, Timestamp::from_seconds(0)), Some(Tick(501)));
    }

    #[test]
    fn a_request_for_nothing_or_for_more_than_a_bucket_gets_no_tick() {
        let mut clock = ShardClock::new(Tick(0), Tick(u64::MAX >> 11));

        let taken = [0, TICKS_PER_BUCKET + 1].map(|n| clock.take(n, Timestamp::from_seconds(0)));

        assert_eq!((taken, clock.last()), ([None, None], Tick(0)));
    }

    proptest! {
        #[test]
        fn ids_only_grow_whatever_the_wall_clock_does(
            takes in proptest::collection::vec(
                (1..3_000_u64, 1_767_225_600..1_767_300_000_i64, 0..20_u64), 1..60,
            ),
        ) {
            let mut clock = ShardClock::new(Tick(0), Tick(0));
            for (n, seconds, raise) in takes {
                let (last, ceiling) = (clock.last(), clock.ceiling());
                clock.raise(Tick(raise * TICKS_PER_BUCKET));
                prop_assert!(clock.ceiling() >= ceiling);

                if let Some(first) = clock.take(n, Timestamp::from_seconds(seconds)) {
                    let end = first.0 + n - 1;
                    prop_assert!(first > last && end <= clock.ceiling().0);
                    prop_assert_eq!(first.0 / TICKS_PER_BUCKET, end / TICKS_PER_BUCKET);
                    prop_assert_eq!(clock.last(), Tick(end));
                } else {
                    prop_assert_eq!(clock.last(), last);
                }
            }
        }

        #[test]
        fn an_id_reads_back_from_its_text(number in 0..ID_LIMIT) {
            let id = MessageId::new(number).unwrap();

            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(MessageId::give(id.tick(), id.giver()), id);
        }
    }
}
