//! What is measured: one file for figures that belong together.

use std::path::PathBuf;
use std::pin::Pin;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::figure::Figure;

mod accept;
mod backlog;
mod cql;
mod disk;
mod drain;
mod end_to_end;
mod failover;
mod fairness;
mod growth;
mod handoff;
mod hop;
mod idle;
mod join;
mod latency;
mod overload;
mod paced;
mod placement;
mod restart;
mod rounds;
mod stalls;

type Done = Pin<Box<dyn Future<Output = Result<()>>>>;

/// Something that can be measured.
#[derive(Debug)]
pub(crate) struct Benchmark {
    /// Its name on the command line and in its figures.
    pub(crate) name: &'static str,
    /// What it does, in a line.
    pub(crate) what: &'static str,
    /// Measures, and prints its figures.
    pub(crate) run: fn(Run) -> Done,
}

/// Every benchmark.
pub(crate) const ALL: &[Benchmark] = &[
    Benchmark {
        name: "disk",
        what: "append and sync blocks of 250 KB and 25 KB: the limit of everything durable",
        run: |run| Box::pin(disk::run(run)),
    },
    Benchmark {
        name: "front_bulk",
        what: "bulks of 100 over HTTP, checked and answered, stored nowhere",
        run: |run| Box::pin(accept::front_bulk(run)),
    },
    Benchmark {
        name: "front_single",
        what: "single messages over HTTP, checked and answered, stored nowhere",
        run: |run| Box::pin(accept::front_single(run)),
    },
    Benchmark {
        name: "accept_bulk",
        what: "bulks of 100 over HTTP, durable before the answer",
        run: |run| Box::pin(accept::bulk(run)),
    },
    Benchmark {
        name: "accept_single",
        what: "single messages over HTTP, durable before the answer",
        run: |run| Box::pin(accept::single(run)),
    },
    Benchmark {
        name: "accept_stalls",
        what: "bulks for a minute while what was accepted is sent: the worst second and answer",
        run: |run| Box::pin(stalls::run(run)),
    },
    Benchmark {
        name: "accept_latency",
        what: "single messages at half of the highest rate: how long an answer takes",
        run: |run| Box::pin(latency::run(run)),
    },
    Benchmark {
        name: "e2e",
        what: "bulks over HTTP, sent at once, acknowledged, and the status stored",
        run: |run| Box::pin(end_to_end::run(run)),
    },
    Benchmark {
        name: "drain",
        what: "a million stored messages sent without a pace",
        run: |run| Box::pin(drain::run(run)),
    },
    Benchmark {
        name: "paced_1k",
        what: "1,000 instances at 10 a second with full queues",
        run: |run| Box::pin(paced::thousand(run)),
    },
    Benchmark {
        name: "paced_10k",
        what: "10,000 instances at 1 a second, a tenth of them changed meanwhile",
        run: |run| Box::pin(paced::ten_thousand(run)),
    },
    Benchmark {
        name: "fairness",
        what: "a campaign of a million on one number beside 1,000 numbers with 10 messages",
        run: |run| Box::pin(fairness::run(run)),
    },
    Benchmark {
        name: "idle",
        what: "100,000 instances of which 1,000 have work: the memory of the others",
        run: |run| Box::pin(idle::run(run)),
    },
    Benchmark {
        name: "backlog",
        what: "ten million queued messages: memory, and what they do to accepting and sending",
        run: |run| Box::pin(backlog::run(run)),
    },
    Benchmark {
        name: "restart",
        what: "killed with one and ten million pending: how long until it accepts and sends",
        run: |run| Box::pin(restart::run(run)),
    },
    Benchmark {
        name: "growth",
        what: "the same rate of bulks over 100 to 10,000 instances: CPU a message",
        run: |run| Box::pin(growth::run(run)),
    },
    Benchmark {
        name: "placement",
        what: "shards on 3 to 100 nodes: how even, and what moves when one joins",
        run: |run| Box::pin(placement::run(run)),
    },
    Benchmark {
        name: "cql_accept_bulk",
        what: "bulks of 100 over HTTP into a CQL server, beside one insert a message",
        run: |run| Box::pin(cql::accept_bulk(run)),
    },
    Benchmark {
        name: "cql_requests",
        what: "what a message asks of the CQL server until it is settled",
        run: |run| Box::pin(cql::requests(run)),
    },
    Benchmark {
        name: "hop",
        what: "single messages to a node that does not own the instance, beside the owner",
        run: |run| Box::pin(hop::run(run)),
    },
    Benchmark {
        name: "failover",
        what: "the owner of a third is killed under load: until others send, and what is lost",
        run: |run| Box::pin(failover::run(run)),
    },
    Benchmark {
        name: "handoff",
        what: "a node is asked to stop under load: pauses, failed requests, doubts",
        run: |run| Box::pin(handoff::run(run)),
    },
    Benchmark {
        name: "join",
        what: "a fourth node joins under load: until each has its share, and the paces meanwhile",
        run: |run| Box::pin(join::run(run)),
    },
    Benchmark {
        name: "overload",
        what: "far more requests than fit for a minute: answers, memory, and the time after",
        run: |run| Box::pin(overload::run(run)),
    },
];

/// How a benchmark is run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    seconds: Option<f64>,
    quick: bool,
    dir: Option<PathBuf>,
}

/// Seconds before anything is counted.
pub(crate) const WARM_UP: f64 = 2.0;

impl Run {
    pub(crate) fn new(seconds: Option<f64>, quick: bool, dir: Option<PathBuf>) -> Self {
        Self {
            seconds,
            quick,
            dir,
        }
    }

    /// How long a stretch is that takes `full` seconds.
    pub(crate) fn seconds(&self, full: f64, quick: f64) -> f64 {
        self.seconds
            .unwrap_or(if self.quick { quick } else { full })
    }

    /// How many of something there are.
    pub(crate) fn count<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// A new folder for data, which goes with the answer.
    pub(crate) fn folder(&self) -> Result<TempDir> {
        let made = match &self.dir {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        };
        made.context("cannot make a folder for the data")
    }
}

/// Prints a figure.
pub(crate) fn tell(figure: &Figure) {
    println!("{}", figure.line());
}
