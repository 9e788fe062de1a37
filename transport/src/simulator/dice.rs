//! Chances that follow a seed: drawn by what they are about, never by when they are drawn.
//!
//! Each draw is a function of (seed, instance, WhatsApp id, attempt, topic). So a run replays by
//! its seed whatever its timing, and one more rule in a script changes no other draw.

use std::hash::{Hash, Hasher};

use zajil_model::id::InstanceId;
use zajil_model::wa_id::WaId;

use super::script::Latency;

/// What a draw is about: each topic has draws of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    AckLatency = 1,
    LateAck,
    LateAckLatency,
    MissingAck,
    Lost,
    RepeatedAck,
    RepeatedAckLatency,
    UnknownAck,
    UnknownAckId,
    Nack,
    NackLatency,
    Received,
    ReceivedLatency,
    ReceivedAgain,
    Read,
    ReadLatency,
    ReadAgain,
    Caught,
    /// The first of the refusal rules; rule `i` draws `i` topics further.
    Refusals = 1_000,
}

/// The draws of one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The draws of an attempt to send a message of an instance.
    pub(crate) fn of_frame(seed: u64, instance: InstanceId, wa_id: WaId, attempt: u8) -> Self {
        let mut mixer = Mixer(mix(seed ^ mix(instance.get())));
        wa_id.hash(&mut mixer);
        Self(mix(mixer.finish() ^ u64::from(attempt)))
    }

    /// The draws of an instance as a whole.
    pub(crate) const fn of_instance(seed: u64, instance: InstanceId) -> Self {
        Self(mix(seed ^ mix(instance.get())))
    }

    /// 64 even bits.
    pub(crate) const fn roll(self, topic: u64) -> u64 {
        mix(self.0.wrapping_add(topic.wrapping_mul(GOLDEN)))
    }

    /// Whether something of this probability happens.
    pub(crate) fn happens(self, topic: Topic, probability: f64) -> bool {
        self.happens_nth(topic, 0, probability)
    }

    /// Whether something of this probability happens, for the `nth` of its kind.
    pub(crate) fn happens_nth(self, topic: Topic, nth: usize, probability: f64) -> bool {
        // 53 bits are all that a double tells apart between 0 and 1.
        let unit = (self.roll(topic as u64 + nth as u64) >> 11) as f64 / (1_u64 << 53) as f64;
        unit < probability
    }

    /// A time between the bounds, in microseconds.
    pub(crate) fn micros(self, topic: Topic, latency: Latency) -> u64 {
        let (min, max) = (
            u64::from(latency.min_ms) * 1_000,
            u64::from(latency.max_ms) * 1_000,
        );
        if max <= min {
            min
        } else {
            min + self.roll(topic as u64) % (max - min + 1)
        }
    }
}

/// What a WhatsApp id of an instance is remembered by.
pub(crate) fn fingerprint(instance: InstanceId, wa_id: WaId) -> u64 {
    let mut mixer = Mixer(mix(instance.get()));
    wa_id.hash(&mut mixer);
    mixer.finish()
}

/// The step of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finisher: every bit of the input moves about half of the output.
const fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(GOLDEN);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A hasher that gives the same on every platform and in every release, so that seeds keep.
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = mix(mix(self.0 ^ number as u64) ^ (number >> 64) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dice(seed: u64, id: u32, attempt: u8) -> Dice {
        let wa_id = format!("3EB0{id:018X}").parse().unwrap();
        Dice::of_frame(seed, InstanceId::new(7).unwrap(), wa_id, attempt)
    }

    #[test]
    fn a_draw_follows_its_frame_and_its_topic_alone() {
        let topic = Topic::Read as u64;

        assert_eq!(dice(1, 2, 3).roll(topic), dice(1, 2, 3).roll(topic));
        for other in [dice(2, 2, 3), dice(1, 3, 3), dice(1, 2, 4)] {
            assert_ne!(dice(1, 2, 3).roll(topic), other.roll(topic));
        }
        assert_ne!(dice(1, 2, 3).roll(topic), dice(1, 2, 3).roll(topic + 1));
    }

    #[test]
    fn chances_come_as_often_as_they_say() {
        let hits = (0..10_000)
            .filter(|id| dice(9, *id, 1).happens(Topic::Read, 0.3))
            .count();

        assert!((2_800..3_200).contains(&hits), "{hits}");
        assert!((0..1_000).all(|id| dice(9, id, 1).happens(Topic::Read, 1.0)));
        assert!(!(0..1_000).any(|id| dice(9, id, 1).happens(Topic::Read, 0.0)));
    }

    #[test]
    fn times_keep_to_their_bounds() {
        let bounds = Latency {
            min_ms: 2,
            max_ms: 5,
        };

        for id in 0..1_000 {
            let micros = dice(3, id, 1).micros(Topic::AckLatency, bounds);
            assert!((2_000..=5_000).contains(&micros), "{micros}");
        }
    }
}
