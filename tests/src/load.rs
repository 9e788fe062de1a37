//! Customers who send without pause until they are told to stop, whatever happens to the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::customer::{Customer, Letter};
use crate::wait::{millis, until};

/// Most messages of a bulk in a load. Small, so that kills cut many requests and not one large one.
const LARGEST_BULK: usize = 12;

/// What a load sends.
#[derive(Clone, Debug)]
pub struct Load {
    /// The instances that it uses.
    pub instances: Vec<u64>,
    /// How many recipients it writes to: few, so that order matters.
    pub recipients: u32,
    /// How many send at once.
    pub senders: u32,
    /// How often each of them sends.
    pub every: Duration,
}

/// A load at work.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    senders: JoinSet<()>,
    answered: Arc<AtomicU64>,
}

impl Load {
    /// A load on these instances that a debug build on a busy machine bears.
    pub fn on(instances: &[u64]) -> Self {
        Self {
            instances: instances.to_vec(),
            recipients: 40,
            senders: 4,
            every: millis(40),
        }
    }

    /// Starts it.
    pub fn start(self, customer: &Customer, dice: &mut StdRng) -> Running {
        let stop = CancellationToken::new();
        let answered = Arc::new(AtomicU64::new(0));
        let mut senders = JoinSet::new();
        for number in 0..self.senders {
            let sender = Sender {
                load: self.clone(),
                customer: customer.clone(),
                dice: StdRng::seed_from_u64(dice.random()),
                // Unique among all loads of a scenario.
                name: format!("{:x}-{number}", dice.random::<u32>()),
                letters: 0,
            };
            senders.spawn(sender.send_until(stop.clone(), Arc::clone(&answered)));
        }
        Running {
            stop,
            senders,
            answered,
        }
    }
}

impl Running {
    /// Waits until `count` more requests were answered with 2xx.
    ///
    /// # Panics
    /// They were not within `patience`.
    pub async fn await_answers(&self, count: u64, patience: Duration) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        let reached = async || (self.answered.load(Ordering::Relaxed) >= goal).then_some(());
        until("the load is answered", patience, reached).await;
    }

    /// Stops it; requests under way end first.
    ///
    /// # Panics
    /// A sender panicked.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.senders.join_next().await {
            ended.expect("a sender ends in good order");
        }
    }
}

struct Sender {
    load: Load,
    customer: Customer,
    dice: StdRng,
    name: String,
    letters: u64,
}

impl Sender {
    async fn send_until(mut self, stop: CancellationToken, answered: Arc<AtomicU64>) {
        let mut turns = interval(self.load.every);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            turns.tick().await;
            if self.send_something(&stop).await {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn send_something(&mut self, stop: &CancellationToken) -> bool {
        let instance = self.load.instances[self.dice.random_range(0..self.load.instances.len())];
        let answered = match self.dice.random_range(0..10) {
            0..6 => {
                let letter = self.letter();
                self.customer.send(instance, &letter).await
            }
            6..8 => {
                let count = self.dice.random_range(2..=LARGEST_BULK);
                let letters: Vec<_> = (0..count)
                    .map(|_| Letter {
                        urgent: false,
                        ..self.letter()
                    })
                    .collect();
                self.customer.send_bulk(instance, &letters).await
            }
            _ => {
                // Who repeats gives up only when the load ends.
                let letter = self.letter();
                let surely = self.customer.send_surely(instance, &letter);
                match stop.run_until_cancelled(surely).await {
                    Some(answer) => Ok(answer),
                    None => {
                        self.customer.give_up(&letter);
                        return false;
                    }
                }
            }
        };
        answered.is_ok_and(|answer| answer.is_good())
    }

    fn letter(&mut self) -> Letter {
        let name = format!("{}-{}", self.name, self.letters);
        self.letters += 1;
        let recipient = number(self.dice.random_range(0..self.load.recipients));
        let letter = Letter::to(&recipient, name);
        if self.dice.random_ratio(1, 5) {
            letter.urgent()
        } else {
            letter
        }
    }
}

/// The n-th of the numbers that scenarios write to.
pub fn number(n: u32) -> String {
    format!("+9665{n:08}")
}
