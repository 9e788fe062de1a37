//! Whatever is done to a log, a replay shows what a plain list of the same records holds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rand::TryRngCore;

use super::support::{FaultyDisk, Replayed, buffered, config, dir, open, other, try_open, write};
use zajil_storage::embedded::log::{FileLog, LogConfig, Lsn};

#[derive(Clone, Debug)]
enum Step {
    /// Writes a group of records of these sizes.
    Append(Vec<usize>),
    /// Closes and opens, replaying all.
    Reopen,
    /// Closes and opens, replaying from the end of an earlier group.
    ReopenFrom(prop::sample::Index),
    /// Retires up to an earlier end of a group.
    Retire(prop::sample::Index),
    /// Ends in the middle of writing a group, after so many bytes, and opens again.
    Crash(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop::collection::vec(prop_oneof![0..400_usize, 0..20_000_usize], 1..3);
    prop_oneof![
        8 => sizes.prop_map(Step::Append),
        1 => Just(Step::Reopen),
        1 => any::<prop::sample::Index>().prop_map(Step::ReopenFrom),
        1 => any::<prop::sample::Index>().prop_map(Step::Retire),
        2 => (1..20_000_usize, 0..12_000_u64).prop_map(|(size, torn)| Step::Crash(size, torn)),
    ]
}

/// The log beside the list that it must equal.
struct Pair {
    config: LogConfig,
    disk: Arc<FaultyDisk>,
    log: Option<FileLog>,
    records: Vec<Replayed>,
    ends: Vec<Lsn>,
    fill: u8,
}

impl Pair {
    fn log(&self) -> &FileLog {
        self.log.as_ref().expect("it is open between the steps")
    }

    fn reopen(&mut self, start: Lsn) -> Vec<Replayed> {
        self.log = None;
        let (log, recovery, replayed) = try_open(self.config.clone(), start).expect("it opens");
        assert_eq!(recovery.records, replayed.len() as u64);
        self.log = Some(log);
        replayed
    }

    fn check(&mut self, start: Lsn) {
        let replayed = self.reopen(start);
        let from = self.records.partition_point(|(lsn, ..)| *lsn < start);
        assert_eq!(replayed, self.records[from..]);
    }

    fn payload(&mut self, size: usize) -> Vec<u8> {
        self.fill = self.fill.wrapping_add(1);
        vec![self.fill; size]
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(sizes) => {
                let payloads: Vec<_> = sizes.into_iter().map(|size| self.payload(size)).collect();
                let payloads: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
                self.records
                    .extend(write(self.log.as_ref().expect("open"), &payloads));
                self.ends.push(self.log().end());
            }
            Step::Reopen => self.check(Lsn::ZERO),
            Step::ReopenFrom(index) => {
                let start = *index.get(&self.ends);
                self.check(start);
            }
            Step::Retire(index) => {
                let below = *index.get(&self.ends);
                self.log().retire(below).expect("it retires");
                let oldest = self.log().oldest();
                self.records.retain(|(lsn, ..)| *lsn >= oldest);
                self.ends.retain(|end| *end >= oldest);
            }
            Step::Crash(size, torn) => self.crash(size, torn),
        }
        for (lsn, _, payload) in self.records.iter().rev().take(3) {
            assert_eq!(
                self.log().read(*lsn, payload.len()).expect("it is read"),
                payload
            );
        }
    }

    /// A group that was being written is there as a whole or not at all.
    fn crash(&mut self, size: usize, torn: u64) {
        let payload = self.payload(size);
        self.disk.tears_at.store(torn, Ordering::SeqCst);
        self.disk.tears.store(true, Ordering::SeqCst);
        self.log()
            .write_group(&[other(&payload)])
            .expect_err("the write is torn");
        self.disk.tears.store(false, Ordering::SeqCst);
        let mut replayed = self.reopen(Lsn::ZERO);
        if replayed.len() > self.records.len() {
            let last = replayed.pop().expect("it is longer");
            assert_eq!((last.1, &last.2), (1, &payload));
            assert!(torn >= 44 + 17 + size as u64, "only a whole one is taken");
            self.records.push(last);
            self.ends.push(self.log().end());
        }
        assert_eq!(replayed, self.records[..replayed.len()]);
    }
}

#[test]
fn a_log_equals_a_list_through_appends_crashes_retirements_and_opens() {
    let mut settings = Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    };
    let seed = match settings.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => rand::rngs::OsRng
            .try_next_u64()
            .expect("the system gives randomness"),
    };
    settings.rng_seed = RngSeed::Fixed(seed);
    println!("PROPTEST_RNG_SEED={seed}");
    let steps = (any::<bool>(), prop::collection::vec(step(), 1..60));
    let outcome = TestRunner::new(settings).run(&steps, |(direct, steps)| {
        let dir = dir();
        let config = if direct {
            config(dir.path())
        } else {
            buffered(dir.path())
        };
        let disk = Arc::new(FaultyDisk::default());
        let config = LogConfig {
            medium: disk.clone(),
            ..config
        };
        let (log, ..) = open(config.clone());
        let ends = vec![log.end()];
        let mut pair = Pair {
            config,
            disk,
            log: Some(log),
            records: Vec::new(),
            ends,
            fill: 0,
        };
        steps.into_iter().for_each(|step| pair.step(step));
        pair.check(Lsn::ZERO);
        Ok(())
    });
    outcome.expect("the log equals the list");
}
