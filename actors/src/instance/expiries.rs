//! What expires unread: where in a queue, and when at the earliest.
//!
//! A backlog that is not being read expires all the same. Reading it again and again to see what
//! did would cost more than sending it, so each stretch of it is remembered with the earliest
//! expiry in it, and looked at only when that has come.

use std::collections::BTreeMap;
use std::time::Duration;

use zajil_model::id::MessageId;
use zajil_model::message::Chunk;
use zajil_model::time::Timestamp;

/// Expiries are rounded up to this: a message settles at most so much later for it.
const GRAIN: Duration = Duration::from_secs(10);

/// Stretches that are told apart. Beyond it those that expire last become one, which is told
/// apart again when its time comes: 256 stretches of [`super::expire`]'s pages are half a million
/// messages.
const MOST: usize = 256;

/// Some messages in a row of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The id of its first message.
    pub first: MessageId,
    /// The id of its last message.
    pub last: MessageId,
}

/// The stretches of a queue, by the earliest expiry in each.
#[derive(Clone, Debug, Default)]
pub struct Expiries(BTreeMap<Timestamp, Stretch>);

impl Expiries {
    /// Nothing between the ends of this stretch expires before `at`.
    pub fn note(&mut self, at: Timestamp, stretch: Stretch) {
        let grain = GRAIN.as_micros() as i64;
        let rounded = at.as_micros().saturating_add(grain - 1).div_euclid(grain);
        self.merge(
            Timestamp::from_micros(rounded.saturating_mul(grain)),
            stretch,
        );
        while self.0.len() > MOST {
            let (Some((_, last)), Some((at, before))) = (self.0.pop_last(), self.0.pop_last())
            else {
                return;
            };
            self.merge(at, last);
            self.merge(at, before);
        }
    }

    /// The messages of a chunk of a single lane.
    pub fn note_chunk(&mut self, chunk: &Chunk) {
        if let Some(earliest) = chunk.earliest_expiry() {
            self.note(
                earliest,
                Stretch {
                    first: chunk.first,
                    last: chunk.last(),
                },
            );
        }
    }

    /// Takes over what another one knows.
    pub fn absorb(&mut self, other: Self) {
        for (at, stretch) in other.0 {
            self.note(at, stretch);
        }
    }

    /// When to look next.
    pub fn next(&self) -> Option<Timestamp> {
        self.0.keys().next().copied()
    }

    /// A stretch in which something may have expired.
    pub fn take(&mut self, now: Timestamp) -> Option<Stretch> {
        let entry = self.0.first_entry().filter(|entry| *entry.key() <= now)?;
        Some(entry.remove())
    }

    fn merge(&mut self, at: Timestamp, stretch: Stretch) {
        let known = self.0.entry(at).or_insert(stretch);
        known.first = known.first.min(stretch.first);
        known.last = known.last.max(stretch.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(first: u64, last: u64) -> Stretch {
        Stretch {
            first: MessageId::new(first).unwrap(),
            last: MessageId::new(last).unwrap(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_stretch_is_looked_at_when_its_earliest_message_expired_and_not_before() {
        let mut expiries = Expiries::default();
        expiries.note(at(61), stretch(1, 5));
        expiries.note(at(65), stretch(6, 9));
        expiries.note(at(200), stretch(10, 12));

        assert_eq!(expiries.take(at(65)), None);
        assert_eq!(expiries.take(at(70)), Some(stretch(1, 9)));
        assert_eq!(expiries.take(at(199)), None);
        assert_eq!(expiries.next(), Some(at(200)));
    }

    #[test]
    fn of_any_number_of_stretches_no_more_than_256_are_kept_and_none_is_forgotten() {
        let mut expiries = Expiries::default();
        for n in 0..10_000 {
            expiries.note(at(n * 10), stretch(n as u64, n as u64));
        }

        assert_eq!(expiries.0.len(), MOST);
        assert_eq!(
            expiries.0.last_key_value(),
            Some((&at(2_550), &stretch(255, 9_999)))
        );
    }
}
