//! The rules of a window in their plainest form: every question is a walk over all messages.

use std::collections::{BTreeMap, BTreeSet};

use zajil_model::id::MessageId;
use zajil_model::lane::{Blocked, PATIENCE, Ready, Taken};
use zajil_model::message::{Lane, Queue};
use zajil_model::time::Timestamp;

/// How many parts the bulk lane has.
pub(crate) const PARTS: u64 = 3;

#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) ready: Ready<u64>,
    pub(crate) order: i64,
    pub(crate) shelved: bool,
}

/// A window by its rules.
#[derive(Debug, Default)]
pub(crate) struct Naive {
    /// Those of a line stand in its order.
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) flying: Vec<Ready<u64>>,
    paused: BTreeSet<Queue>,
    pushed: i64,
    retried: i64,
    /// Turns that went to others while something was ready here.
    passed: [u32; 3],
    /// Bulk turns in a row that went to other parts while this one was ready.
    /// Bulk turns in a row that went to other parts while this one was ready.
    part_passed: BTreeMap<Queue, u64>,
}

fn same_line(a: &Ready<u64>, b: &Ready<u64>) -> bool {
    a.recipient == b.recipient && a.queue.lane() == b.queue.lane()
}

impl Naive {
    pub(crate) fn held(&self, at: usize, now: Timestamp) -> Blocked {
        let Waiting { ready, shelved, .. } = &self.waiting[at];
        let ahead = self.waiting[..at]
            .iter()
            .filter(|w| !w.shelved)
            .map(|w| &w.ready);
        if *shelved {
            Blocked::Paused
        } else if ahead
            .chain(&self.flying)
            .any(|other| same_line(ready, other))
        {
            Blocked::Order
        } else if ready.not_before > now {
            Blocked::NotBefore
        } else {
            Blocked::Ready
        }
    }

    pub(crate) fn ready(&self, now: Timestamp) -> Vec<&Waiting> {
        let all = 0..self.waiting.len();
        all.filter(|at| self.held(*at, now) == Blocked::Ready)
            .map(|at| &self.waiting[at])
            .collect()
    }

    pub(crate) fn expired(&self, now: Timestamp) -> bool {
        self.waiting
            .iter()
            .any(|w| !w.shelved && w.ready.expires_at <= now)
    }

    pub(crate) fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.ready(now).is_empty() || self.expired(now) {
            return Some(now);
        }
        let parked = (0..self.waiting.len())
            .filter(|at| self.held(*at, now) == Blocked::NotBefore)
            .map(|at| self.waiting[at].ready.not_before);
        let expiries = self
            .waiting
            .iter()
            .filter(|w| !w.shelved)
            .map(|w| w.ready.expires_at);
        parked.chain(expiries).min()
    }

    pub(crate) fn remove(&mut self, id: MessageId) -> Option<Ready<u64>> {
        let at = self.waiting.iter().position(|w| w.ready.id == id)?;
        Some(self.waiting.remove(at).ready)
    }

    pub(crate) fn push(&mut self, ready: Ready<u64>) {
        self.pushed += 1;
        let shelved = self.paused.contains(&ready.queue);
        self.waiting.push(Waiting {
            ready,
            order: self.pushed,
            shelved,
        });
    }

    pub(crate) fn retry(&mut self, ready: Ready<u64>) {
        self.flying.retain(|flying| flying.id != ready.id);
        self.retried -= 1;
        let shelved = self.paused.contains(&ready.queue);
        self.waiting.insert(
            0,
            Waiting {
                ready,
                order: self.retried,
                shelved,
            },
        );
    }

    pub(crate) fn pause(&mut self, queue: Queue, paused: bool) {
        if paused {
            self.paused.insert(queue);
            for waiting in self.waiting.iter_mut().filter(|w| w.ready.queue == queue) {
                waiting.shelved = true;
            }
        } else if self.paused.remove(&queue) {
            let (mut back, stay): (Vec<_>, Vec<_>) =
                self.waiting.drain(..).partition(|w| w.ready.queue == queue);
            back.sort_by_key(|w| w.order);
            back.iter_mut().for_each(|w| w.shelved = false);
            self.waiting = stay.into_iter().chain(back).collect();
        }
    }

    /// Checks that the window took what it may take, and takes the same.
    pub(crate) fn follow(&mut self, taken: Option<&Taken<u64>>, now: Timestamp) {
        match taken {
            None => {
                assert!(!self.expired(now), "something expired");
                assert!(self.ready(now).is_empty(), "something is ready");
            }
            Some(Taken::Expired(ready)) => {
                assert!(ready.expires_at <= now, "expired early");
                assert!(
                    !self.paused.contains(&ready.queue),
                    "paused ones do not expire"
                );
                assert_eq!(self.remove(ready.id).as_ref(), Some(ready));
            }
            Some(Taken::Go(ready)) => {
                assert!(!self.expired(now), "expired ones come first");
                self.follow_turn(ready, now);
                assert_eq!(self.remove(ready.id).as_ref(), Some(ready));
                self.flying.push(ready.clone());
            }
        }
    }

    pub(crate) fn follow_turn(&mut self, taken: &Ready<u64>, now: Timestamp) {
        let all: Vec<Waiting> = self.ready(now).into_iter().cloned().collect();
        let oldest = all
            .iter()
            .filter(|w| w.ready.queue == taken.queue)
            .min_by_key(|w| w.order);
        assert_eq!(
            oldest.map(|w| w.ready.id),
            Some(taken.id),
            "the oldest of its queue goes"
        );

        let lane = taken.queue.lane();
        let lanes: BTreeSet<Lane> = all.iter().map(|w| w.ready.queue.lane()).collect();
        let owed = self.passed[lane as usize] >= PATIENCE[lane as usize];
        assert!(
            owed || lanes.first() == Some(&lane),
            "an urgent lane was overtaken"
        );
        for other in lanes {
            let passed = &mut self.passed[other as usize];
            *passed = if other == lane { 0 } else { *passed + 1 };
        }
        assert!(self.passed[Lane::Bulk as usize] <= 9, "bulk keeps a tenth");
        assert!(
            self.passed[Lane::Normal as usize] <= 5,
            "normal keeps moving"
        );

        if lane == Lane::Bulk {
            let parts = all
                .iter()
                .map(|w| w.ready.queue)
                .filter(|q| q.lane() == Lane::Bulk);
            let parts: BTreeSet<Queue> = parts.collect();
            self.part_passed.retain(|queue, _| parts.contains(queue));
            for queue in parts {
                let passed = self.part_passed.entry(queue).or_default();
                *passed = if queue == taken.queue { 0 } else { *passed + 1 };
                assert!(*passed < PARTS, "parts are pulled in turn");
            }
        }
    }
}
