//! An owner and a challenger whose steps, delays and clocks are anything: nobody sends under a
//! lease that was declared dead.

use proptest::prelude::*;

use super::*;

/// One owner and one challenger, each with a clock of its own, and the row between them.
#[derive(Debug)]
struct Duel {
    real: u64,
    /// Offset in ms and speed in parts per thousand of both clocks.
    clocks: [(u64, u64); 2],
    row: NodeRow,
    lease: Lease,
    asked: Option<(Mono, bool)>,
    watch: Watch,
    read: Option<NodeRow>,
}

impl Duel {
    fn clock(&self, who: usize) -> Mono {
        let (offset, speed) = self.clocks[who];
        Mono::from_nanos((offset * 1_000 + self.real * speed) * 1_000)
    }

    /// Steps 0 to 2 are a renewal's request, effect and answer; 3 and 4 a read's effect and
    /// answer; 5 the challenge.
    fn step(&mut self, what: u8) {
        match what {
            0 => self.asked = Some((self.clock(0), false)),
            1 => {
                if let (Some((_, done)), Some(row)) =
                    (&mut self.asked, self.row.renewed(Incarnation(1)))
                    && !*done
                {
                    (*done, self.row) = (true, row);
                }
            }
            2 => {
                if let Some((asked_at, true)) = self.asked.take() {
                    self.lease.renewed(asked_at);
                }
            }
            3 => self.read = Some(self.row),
            4 => {
                if let Some(row) = self.read.take() {
                    self.watch.observe(row, self.clock(1));
                }
            }
            _ => {
                let seen = self.watch.unchanged_for(UNCHANGED, self.clock(1));
                let dead = seen.and_then(|seen| self.row.declared_dead(&seen));
                self.row = dead.unwrap_or(self.row);
            }
        }
    }
}

/// Reads and challenges more often than renewals: most owners here are about to lose.
fn step() -> impl Strategy<Value = u8> {
    prop_oneof![3 => 0..3_u8, 8 => Just(3), 8 => Just(4), 6 => Just(5)]
}

/// Mostly prompt, so that what matters is the leases' own time, and sometimes seconds late.
fn wait() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..30_u64, 2 => 0..3_000_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nobody_sends_under_a_lease_that_a_peer_declared_dead(
        offsets in (0..1_000_000_u64, 0..1_000_000_u64),
        speeds in (995..=1_005_u64, 995..=1_005_u64),
        steps in proptest::collection::vec((step(), wait()), 1..300),
    ) {
        let mut duel = Duel {
            real: 0,
            clocks: [(offsets.0, speeds.0), (offsets.1, speeds.1)],
            row: NodeRow::joined(None),
            lease: Lease::granted(Mono::from_nanos(offsets.0 * 1_000_000)),
            asked: None,
            watch: Watch::default(),
            read: None,
        };
        for (what, wait) in steps {
            duel.real += wait;
            duel.step(what);
            if duel.row.state == NodeState::Dead {
                prop_assert!(!duel.lease.may_send(duel.clock(0)));
            }
        }
    }
}
