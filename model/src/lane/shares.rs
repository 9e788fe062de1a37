//! Which lane goes next: the most urgent one, unless a lower one was passed over too often.

use crate::message::Lane;

/// How often each lane, in the order of [`Lane::ALL`], may be passed over while it is ready,
/// before its turn comes whatever waits above it. While all are ready, high takes 7 of 10 turns,
/// normal 2 and bulk 1: codes overtake everything, and a flood of them stops neither an
/// application nor a campaign. A message of the high lane waits for at most two others.
pub const PATIENCE: [u32; 3] = [u32::MAX, 4, 9];

/// How often each lane was passed over since its last turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    passed: [u32; 3],
}

impl Shares {
    /// The lane whose turn it is among those that are ready, in the order of [`Lane::ALL`].
    pub(super) fn turn(&mut self, ready: [bool; 3]) -> Option<Lane> {
        let is_ready = |lane: &Lane| ready[*lane as usize];
        let is_owed = |lane: &Lane| self.passed[*lane as usize] >= PATIENCE[*lane as usize];
        let owed = Lane::ALL
            .into_iter()
            .rev()
            .find(|lane| is_ready(lane) && is_owed(lane));
        let turn = owed.or_else(|| Lane::ALL.into_iter().find(is_ready))?;
        for lane in Lane::ALL.into_iter().filter(is_ready) {
            let passed = &mut self.passed[lane as usize];
            *passed = if lane == turn {
                0
            } else {
                passed.saturating_add(1)
            };
        }
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns_of_ten(ready: [bool; 3]) -> Vec<[usize; 3]> {
        let mut shares = Shares::default();
        let mut turns = || {
            let mut counts = [0; 3];
            for _ in 0..10 {
                counts[shares.turn(ready).unwrap() as usize] += 1;
            }
            counts
        };
        vec![turns(), turns(), turns()]
    }

    #[test]
    fn while_all_lanes_are_ready_high_takes_seven_normal_two_and_bulk_one_of_ten_turns() {
        for ten in turns_of_ten([true, true, true]) {
            assert!(ten[0] >= 7 && ten[1] >= 1 && ten[2] == 1, "{ten:?}");
        }
        let sum = |lane: usize| {
            turns_of_ten([true; 3])
                .iter()
                .map(|ten| ten[lane])
                .sum::<usize>()
        };
        assert_eq!([sum(0), sum(1), sum(2)], [22, 5, 3]);
    }

    #[test]
    fn bulk_keeps_a_tenth_beside_high() {
        assert_eq!(turns_of_ten([true, false, true]), [[9, 0, 1]; 3]);
    }

    #[test]
    fn a_lane_alone_takes_every_turn() {
        assert_eq!(turns_of_ten([false, false, true]), [[0, 0, 10]; 3]);
    }

    #[test]
    fn high_goes_next_after_any_number_of_bulk_turns() {
        for before in 0..25 {
            let mut shares = Shares::default();
            for _ in 0..before {
                shares.turn([false, false, true]);
            }

            assert_eq!(shares.turn([true, false, true]), Some(Lane::High));
        }
    }

    #[test]
    fn no_lane_has_a_turn_when_none_is_ready() {
        assert_eq!(Shares::default().turn([false; 3]), None);
    }
}
