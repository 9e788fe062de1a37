//! Benchmarks: figures of the engine, each beside a limit that was measured in the same run.
//!
//! `zajil-bench NAME` prints one line of JSON for each figure; `zajil-bench list` names them all.
//! What the figures mean, and what was seen, is in `docs/PERFORMANCE.md`.
//!
//! Reading order: [`runs`] (what is measured), [`site`] (the node that is measured), [`cluster`]
//! (several of them), [`driver`] (the load), [`figure`] (what is printed).

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use zajil_node::cli::Cli;
use zajil_node::signals::Signals;

mod cluster;
mod courier;
mod crowd;
mod disk;
mod driver;
mod figure;
mod jitter;
mod measure;
mod node;
mod null_store;
mod runs;
mod server;
mod site;
mod worker;
mod workload;

use runs::{Benchmark, Run};

/// Every run makes the same choices.
const SEED: u64 = 7;

/// Measures the engine, and prints a line of JSON for each figure.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Which: a name of the `list`, or `all`.
    name: String,
    /// How long each measured stretch is, in seconds, instead of what the figure asks for.
    #[arg(long)]
    seconds: Option<f64>,
    /// A few seconds and small counts: shows that it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Where data is kept while it runs; the disk of this folder is the one that is measured.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let done = match words.next().as_deref() {
        Some(worker::SUBCOMMAND) => worker::run(),
        Some(cluster::WORD) => {
            let words = std::iter::once(cluster::WORD.to_owned()).chain(words);
            return zajil_node::command::run(Cli::parse_from(words));
        }
        _ => measure_all(&Arguments::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(arguments: &Arguments) -> Result<()> {
    match arguments.name.as_str() {
        "list" => {
            for benchmark in runs::ALL {
                println!("{:16} {}", benchmark.name, benchmark.what);
            }
            Ok(())
        }
        "all" => each_in_a_process(),
        name => match runs::ALL.iter().find(|benchmark| benchmark.name == name) {
            Some(benchmark) => run(benchmark, arguments),
            None => bail!("there is no benchmark {name}; `list` names them all"),
        },
    }
}

/// Runs every benchmark in a process of its own, so that none measures what another left behind.
fn each_in_a_process() -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let options: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "all")
        .collect();
    let mut failed = Vec::new();
    for benchmark in runs::ALL {
        let status = Command::new(&program)
            .arg(benchmark.name)
            .args(&options)
            .status()?;
        if !status.success() {
            failed.push(benchmark.name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("these did not come to an end: {}", failed.join(", "))
}

fn run(benchmark: &Benchmark, arguments: &Arguments) -> Result<()> {
    let run = Run::new(arguments.seconds, arguments.quick, arguments.dir.clone());
    site::runtime()?
        .block_on(unless_asked_to_stop((benchmark.run)(run)))
        .with_context(|| benchmark.name.to_owned())
}

/// Works until a signal: what was started ends with the work that is dropped then.
async fn unless_asked_to_stop(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut signals = Signals::take()?;
    tokio::select! {
        done = work => done,
        () = signals.next() => bail!("asked to stop"),
    }
}
