//! What will happen, in order of time: one for all instances of a simulator.
//!
//! Buckets of a millisecond instead of a heap: what falls due together is taken out together, at
//! the cost of one look-up. A pure structure: who owns it passes the time in.

use std::collections::BTreeMap;

use zajil_model::id::InstanceId;
use zajil_model::time::Mono;

use super::fate::Fact;

/// The width of a bucket: as fine as the runtime's timers.
const BUCKET_NANOS: u64 = 1_000_000;

/// Something that will happen on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// The connection that it belongs to.
    pub(crate) era: u32,
    /// What.
    pub(crate) fact: Fact,
}

/// What will happen, in order of time.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    buckets: BTreeMap<u64, Vec<Happening>>,
    len: usize,
}

impl Timeline {
    /// Adds what happens at a time, rounded up to a bucket: never early.
    pub(crate) fn push(&mut self, at: Mono, happening: Happening) {
        let bucket = at.as_nanos().div_ceil(BUCKET_NANOS);
        self.buckets.entry(bucket).or_default().push(happening);
        self.len += 1;
    }

    /// Takes out what is due: by time, and as it was added within a bucket.
    pub(crate) fn due(&mut self, now: Mono) -> Vec<Happening> {
        let mut due = Vec::new();
        while let Some(first) = self.buckets.first_entry() {
            if *first.key() > now.as_nanos() / BUCKET_NANOS {
                break;
            }
            due.append(&mut first.remove());
        }
        self.len -= due.len();
        due
    }

    /// When the next thing is due.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        let (bucket, _) = self.buckets.first_key_value()?;
        Some(Mono::from_nanos(bucket.saturating_mul(BUCKET_NANOS)))
    }

    /// How much is to happen.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(era: u32) -> Happening {
        let instance = InstanceId::new(1).unwrap();
        Happening {
            instance,
            era,
            fact: Fact::Online,
        }
    }

    fn ms(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn what_is_due_comes_by_time_and_never_early() {
        let mut timeline = Timeline::default();
        timeline.push(ms(30), happening(3));
        timeline.push(ms(10), happening(1));
        timeline.push(Mono::from_nanos(10_000_001), happening(2));

        let eras = |due: Vec<Happening>| due.iter().map(|one| one.era).collect::<Vec<_>>();
        assert_eq!(timeline.next_due(), Some(ms(10)));
        assert_eq!(eras(timeline.due(Mono::from_nanos(9_999_999))), [0_u32; 0]);
        assert_eq!(eras(timeline.due(ms(10))), [1]);
        assert_eq!(eras(timeline.due(ms(100))), [2, 3]);
        assert_eq!((timeline.len(), timeline.next_due()), (0, None));
    }
}
