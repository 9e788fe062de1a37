//! Which sealed datagrams are new: sent just now, and not seen before.
//!
//! A seal proves who wrote a datagram, not when. What was captured could be sent again for ever, so
//! each datagram says when it was sent and carries a number that its sender counts up. Only what
//! was sent within [`WINDOW`] of now is looked at, and of that each number once. The clocks of two
//! machines are compared here, unlike in [`lease`](crate::lease): what a wrong clock costs is to
//! be left out of the gossip, and gossip grants nothing.
//!
//! Ask [`Windows::admit`] only for a datagram whose seal was found good: a forged one must not
//! move the window of the sender that it names.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lease::{Incarnation, NodeId};
use crate::time::Timestamp;

/// How far the clocks of sender and receiver may be apart, the time on the way included.
pub const WINDOW: Duration = Duration::from_secs(30);

/// How far behind the highest number of its sender a datagram may arrive: at fifty datagrams a
/// second this is five seconds of disorder, far more than a network makes.
pub const DISORDER: u64 = 256;

/// How many senders are remembered at once: twice the nodes that a cluster may have, and some
/// that were restarted.
pub const MOST_SENDERS: usize = 256;

/// One life of one node, which counts its datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// The node.
    pub node: NodeId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

/// What a datagram says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Who sent it.
    pub sender: Sender,
    /// Counts up with each datagram of its sender, across restarts.
    pub sequence: u64,
    /// When, by the sender's clock.
    pub sent_at: Timestamp,
}

/// Why a datagram with a good seal is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNew {
    /// Sent too long ago, or in the future: captured earlier, or the clocks differ.
    Untimely,
    /// Seen before, or too far behind to tell.
    Repeated,
    /// From one sender more than can be remembered.
    Crowded,
}

impl Stamp {
    /// Whether it was sent within [`WINDOW`] of now. Cheap enough to ask before the seal is tried.
    pub fn is_timely(&self, now: Timestamp) -> bool {
        self.sent_at.since(now).max(now.since(self.sent_at)) <= WINDOW
    }
}

/// What was seen of all senders.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    senders: BTreeMap<Sender, Seen>,
}

impl Windows {
    /// Whether a datagram with a good seal is new; from then on it is not.
    ///
    /// # Errors
    /// Why it is not.
    pub fn admit(&mut self, stamp: &Stamp, now: Timestamp) -> Result<(), NotNew> {
        if !stamp.is_timely(now) {
            return Err(NotNew::Untimely);
        }
        let known = self.senders.contains_key(&stamp.sender);
        if !known && self.senders.len() == MOST_SENDERS && !self.forget_one(now) {
            return Err(NotNew::Crowded);
        }
        let seen = self.senders.entry(stamp.sender).or_default();
        if !seen.is_first(stamp.sequence) {
            return Err(NotNew::Repeated);
        }
        seen.latest = seen.latest.max(stamp.sent_at);
        Ok(())
    }

    /// How many senders are remembered.
    pub fn senders(&self) -> usize {
        self.senders.len()
    }

    /// Forgets the sender that was silent longest, if nothing it ever sent could be timely again.
    fn forget_one(&mut self, now: Timestamp) -> bool {
        let silent = |(sender, seen): (&Sender, &Seen)| (seen.latest, *sender);
        let Some((latest, sender)) = self.senders.iter().map(silent).min() else {
            return false;
        };
        if now.since(latest) <= WINDOW {
            return false;
        }
        self.senders.remove(&sender).is_some()
    }
}

/// What was seen of one sender.
#[derive(Clone, Debug)]
struct Seen {
    highest: u64,
    /// The last [`DISORDER`] numbers, each at its remainder.
    numbers: [bool; DISORDER as usize],
    /// The latest time that any of them was sent at.
    latest: Timestamp,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            highest: 0,
            numbers: [false; DISORDER as usize],
            latest: Timestamp::from_micros(i64::MIN),
        }
    }
}

impl Seen {
    fn is_first(&mut self, number: u64) -> bool {
        if number > self.highest {
            let oldest = number.saturating_sub(DISORDER - 1);
            for skipped in oldest.max(self.highest + 1)..=number {
                *self.at(skipped) = false;
            }
            self.highest = number;
        } else if self.highest - number >= DISORDER {
            return false;
        }
        !std::mem::replace(self.at(number), true)
    }

    const fn at(&mut self, number: u64) -> &mut bool {
        &mut self.numbers[(number % DISORDER) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000 + seconds)
    }

    fn sender(node: u64) -> Sender {
        Sender {
            node: NodeId(node),
            incarnation: Incarnation(1),
        }
    }

    fn stamp(node: u64, sequence: u64, sent_at: Timestamp) -> Stamp {
        Stamp {
            sender: sender(node),
            sequence,
            sent_at,
        }
    }

    #[test]
    fn a_datagram_is_new_once() {
        let mut windows = Windows::default();
        let captured = stamp(1, 7, at(0));

        assert_eq!(windows.admit(&captured, at(0)), Ok(()));
        assert_eq!(windows.admit(&captured, at(1)), Err(NotNew::Repeated));
    }

    #[test]
    fn a_datagram_is_untimely_more_than_thirty_seconds_from_now_on_either_side() {
        let mut windows = Windows::default();
        let mut admit =
            |sequence, sent_at| windows.admit(&stamp(1, sequence, at(sent_at)), at(100));

        assert_eq!(admit(1, 70), Ok(()));
        assert_eq!(admit(2, 130), Ok(()));
        assert_eq!(admit(3, 69), Err(NotNew::Untimely));
        assert_eq!(admit(4, 131), Err(NotNew::Untimely));
    }

    #[test]
    fn a_late_datagram_is_new_until_the_numbers_have_moved_on_too_far() {
        let mut windows = Windows::default();
        let mut admit = |sequence| windows.admit(&stamp(1, sequence, at(0)), at(0));

        assert_eq!(admit(1_000), Ok(()));
        assert_eq!(admit(1_001 - DISORDER), Ok(()));
        assert_eq!(admit(1_000 - DISORDER), Err(NotNew::Repeated));
    }

    #[test]
    fn the_next_life_of_a_node_counts_anew() {
        let mut windows = Windows::default();
        let before = stamp(1, 7, at(0));
        let mut after = before;
        after.sender.incarnation = Incarnation(2);

        assert_eq!(windows.admit(&before, at(0)), Ok(()));
        assert_eq!(windows.admit(&after, at(0)), Ok(()));
    }

    #[test]
    fn a_crowd_of_senders_is_refused_until_one_has_been_silent_for_the_window() {
        let mut windows = Windows::default();
        for node in 0..MOST_SENDERS as u64 {
            windows
                .admit(&stamp(node, 1, at(node as i64 % 20)), at(20))
                .unwrap();
        }
        let mut admit = |now| windows.admit(&stamp(999, 1, at(now)), at(now));

        assert_eq!(admit(30), Err(NotNew::Crowded));
        assert_eq!(admit(31), Ok(()));
        assert_eq!(windows.senders(), MOST_SENDERS);
    }

    /// What a network may do with the datagrams of a few senders: any order, any number of times,
    /// any delay, while the receiver's clock goes on.
    fn arrivals() -> impl Strategy<Value = Vec<(u64, u64, i64, i64)>> {
        let arrival = (0..3_u64, 1..600_u64, -40..40_i64, 0..3_i64);
        proptest::collection::vec(arrival, 1..600)
    }

    proptest! {
        #[test]
        fn nothing_is_admitted_twice_and_only_what_is_timely(arrivals in arrivals()) {
            let mut windows = Windows::default();
            let mut admitted = BTreeSet::new();
            let mut now = 0;
            for (node, sequence, offset, wait) in arrivals {
                now += wait;
                let stamp = stamp(node, sequence, at(now + offset));
                if windows.admit(&stamp, at(now)).is_ok() {
                    prop_assert!(offset.abs() <= 30);
                    prop_assert!(admitted.insert((node, sequence)));
                }
            }
        }

        #[test]
        fn what_is_timely_and_not_too_late_is_admitted_the_first_time(arrivals in arrivals()) {
            let mut windows = Windows::default();
            let mut admitted = BTreeSet::new();
            let mut now = 0;
            for (node, sequence, offset, wait) in arrivals {
                now += wait;
                let ahead = |(of, number): &&(u64, u64)| *of == node && *number >= sequence + DISORDER;
                let too_late = admitted.iter().any(|seen| ahead(&seen));
                let new = offset.abs() <= 30 && !too_late && !admitted.contains(&(node, sequence));
                let stamp = stamp(node, sequence, at(now + offset));
                prop_assert_eq!(windows.admit(&stamp, at(now)).is_ok(), new);
                if new {
                    admitted.insert((node, sequence));
                }
            }
        }

        #[test]
        fn senders_stay_within_their_bound_and_what_is_forgotten_cannot_return(
            arrivals in proptest::collection::vec((0..2_000_u64, -30..30_i64, 0..4_i64), 1..2_000),
        ) {
            let mut windows = Windows::default();
            let mut admitted = Vec::new();
            let mut now = 0;
            for (node, offset, wait) in arrivals {
                now += wait;
                let stamp = stamp(node, 1, at(now + offset));
                if windows.admit(&stamp, at(now)).is_ok() {
                    admitted.push(stamp);
                }
                prop_assert!(windows.senders() <= MOST_SENDERS);
            }
            for captured in admitted {
                prop_assert!(windows.admit(&captured, at(now)).is_err());
            }
        }
    }
}
