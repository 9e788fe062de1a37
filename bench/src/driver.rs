//! The load: a process of its own, so that its CPU is told apart from the server's.
//!
//! *Closed* load sends the next request of a connection when its last one was answered: what the
//! server can do. *Open* load sends at a fixed rate whatever the server does: how long it takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::measure::{self, micros};
use crate::worker::{Task, Worker};

mod closed;
mod open;
mod requests;

pub(crate) use requests::Requests;

/// What is sent, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The server.
    pub(crate) address: SocketAddr,
    /// The API key.
    pub(crate) key: String,
    /// Connections, all kept open.
    pub(crate) connections: usize,
    /// Messages of each request.
    pub(crate) messages: usize,
    /// Names of the instances that take turns.
    pub(crate) instances: Vec<String>,
    /// How fast.
    pub(crate) pace: Pace,
    /// How long.
    pub(crate) until: Until,
    /// Seconds before anything is counted.
    pub(crate) warm_up: f64,
}

/// How fast requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// As fast as they are answered.
    Closed,
    /// So many a second.
    Open(f64),
}

/// How long requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Until {
    /// For some seconds.
    Seconds(f64),
    /// Until so many requests were accepted.
    Accepted(u64),
}

/// What became of the load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Driven {
    /// How long it was counted.
    pub(crate) seconds: f64,
    /// Messages that were accepted.
    pub(crate) messages: u64,
    /// Requests that were not, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Requests whose connection broke.
    pub(crate) broken: u64,
    /// Microseconds until the answer, of accepted requests: the middle.
    pub(crate) p50_us: u64,
    /// The 99th percentile.
    pub(crate) p99_us: u64,
    /// The longest.
    pub(crate) max_us: u64,
    /// The same by whole second.
    pub(crate) by_second: Vec<Second>,
    /// CPU of the driver, in microseconds.
    pub(crate) cpu_us: u64,
}

/// One second of the load.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Messages that were accepted in it.
    pub(crate) messages: u64,
    /// The 99th percentile of their answers, in microseconds.
    pub(crate) p99_us: u64,
    /// The longest.
    pub(crate) max_us: u64,
}

impl Driven {
    /// Accepted messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds.max(1e-9)
    }

    /// Microseconds of the driver's CPU a message.
    pub(crate) fn cpu_each(&self) -> f64 {
        self.cpu_us as f64 / self.messages.max(1) as f64
    }

    /// Fails when anything but acceptance was answered: such a run measures something else.
    pub(crate) fn all_accepted(self) -> Result<Self> {
        if self.refused.is_empty() && self.broken == 0 && self.messages > 0 {
            return Ok(self);
        }
        bail!(
            "requests were refused {:?}, {} connections broke",
            self.refused,
            self.broken
        )
    }
}

/// A load that runs.
#[derive(Debug)]
pub(crate) struct Driving(Worker);

impl Driving {
    /// Starts the load; answers when its warm-up is over.
    pub(crate) async fn start(plan: Plan) -> Result<Self> {
        let mut worker = Worker::start(&Task::Drive(plan)).await?;
        let line = worker.line().await?;
        if line != BEGUN {
            bail!("the driver said {line}");
        }
        Ok(Self(worker))
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Result<Driven> {
        let line = self.0.line().await?;
        serde_json::from_str(&line).with_context(|| format!("the driver said {line}"))
    }
}

/// What the driver says when the warm-up is over.
const BEGUN: &str = "begun";

/// What a driver counts.
#[derive(Debug)]
struct Counts {
    began: Instant,
    /// Of each accepted request: in which second, and how many microseconds it took. Made into
    /// histograms when all is over: one for each second and thread would be megabytes meanwhile.
    accepted: Vec<(u32, u32)>,
    refused: BTreeMap<u16, u64>,
    broken: u64,
}

/// What a request came to.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Answered(u16),
    Broke,
}

impl Counts {
    fn new(began: Instant) -> Self {
        Self {
            began,
            accepted: Vec::new(),
            refused: BTreeMap::new(),
            broken: 0,
        }
    }

    /// With room for `requests`, whose pages are there already: all threads would ask the system for
    /// more at the same moments, and wait for it where the server is timed.
    fn with_room(began: Instant, requests: usize) -> Self {
        let mut counts = Self::new(began);
        counts.accepted.resize(requests, (u32::MAX, u32::MAX));
        counts.accepted.clear();
        counts
    }

    fn note(&mut self, outcome: Outcome, took: Duration, at: Instant) {
        match outcome {
            Outcome::Broke => self.broken += 1,
            Outcome::Answered(200 | 201) => {
                let Some(since) = at.checked_duration_since(self.began) else {
                    return;
                };
                let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
                self.accepted.push((since.as_secs() as u32, micros));
            }
            Outcome::Answered(status) => *self.refused.entry(status).or_default() += 1,
        }
    }

    fn merge(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        for (status, count) in other.refused {
            *self.refused.entry(status).or_default() += count;
        }
        self.broken += other.broken;
    }

    fn driven(mut self, plan: &Plan, ended: Instant, cpu: Duration) -> Driven {
        let each = plan.messages as u64;
        let seconds = (ended - self.began).as_secs_f64();
        self.accepted.sort_unstable();
        let mut all = micros();
        let mut by_second = Vec::new();
        for second in self.accepted.chunk_by(|one, next| one.0 == next.0) {
            let mut times = micros();
            for (_, took) in second {
                times.saturating_record(u64::from(*took));
            }
            all.add(&times).expect("both have the same bounds");
            // A second in which nothing was accepted has to be seen too.
            by_second.resize(second[0].0 as usize, Second::default());
            by_second.push(Second {
                messages: second.len() as u64 * each,
                p99_us: times.value_at_quantile(0.99),
                max_us: times.max(),
            });
        }
        // A second that was cut short says nothing about the rate.
        by_second.resize(seconds as usize, Second::default());
        Driven {
            seconds,
            messages: self.accepted.len() as u64 * each,
            refused: self.refused,
            broken: self.broken,
            p50_us: all.value_at_quantile(0.5),
            p99_us: all.value_at_quantile(0.99),
            max_us: all.max(),
            by_second,
            cpu_us: cpu.as_micros() as u64,
        }
    }
}

/// Carries a plan out: this is the driver's process. Says when it begins to count.
pub(crate) async fn drive(plan: Plan) -> Result<Driven> {
    let requests = Requests::prepare(&plan);
    let zero = measure::now();
    let began = zero + Duration::from_secs_f64(plan.warm_up);
    let telling = std::thread::spawn(move || {
        std::thread::sleep(began - measure::now().min(began));
        println!("{BEGUN}");
        measure::cpu()
    });
    let counts = match plan.pace {
        Pace::Closed => closed::run(&plan, requests, began).await,
        Pace::Open(rate) => open::run(&plan, &requests, rate, zero, began),
    };
    let ended = measure::now();
    let before = telling.join().expect("telling does not panic")?;
    // Read before the times are added up, which is no part of the load.
    let cpu = measure::cpu()?.saturating_sub(before);
    Ok(counts.driven(&plan, ended, cpu))
}
