//! Child processes: this same program, told on its standard input what to do.
//!
//! A task that needs a process of its own (the load, a node that is killed, a node whose memory
//! is counted) is one [`Task`]. The child answers line by line, and ends when its input ends.

use std::process::Stdio;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::driver::{self, Plan};
use crate::node::{self, NodePlan};
use crate::site;

/// The hidden subcommand under which children run.
pub(crate) const SUBCOMMAND: &str = "worker";

/// What a child does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Sends requests, and says what became of them.
    Drive(Plan),
    /// Runs a node until it is told to stop or killed.
    Node(NodePlan),
}

/// A child at work; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts a child on a task.
    pub(crate) async fn start(task: &Task) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a child")?;
        let input = child.stdin.take().context("the child has no input")?;
        let output = child.stdout.take().context("the child has no output")?;
        let mut worker = Self {
            child,
            input,
            lines: BufReader::new(output).lines(),
        };
        worker.say(&serde_json::to_string(task)?).await?;
        Ok(worker)
    }

    /// Tells it something.
    pub(crate) async fn say(&mut self, line: &str) -> Result<()> {
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .context("the child is gone")
    }

    /// What it says next.
    pub(crate) async fn line(&mut self) -> Result<String> {
        let line = self
            .lines
            .next_line()
            .await
            .context("cannot read from the child")?;
        line.context("the child ended early; what it wrote to its standard error says why")
    }

    /// Kills it with signal 9, as a crash would, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill the child")
    }

    /// Lets it end by itself.
    pub(crate) async fn end(mut self) -> Result<()> {
        drop(self.input);
        self.child
            .wait()
            .await
            .context("cannot wait for the child")?;
        Ok(())
    }
}

/// Does what the parent says: this is the child.
pub(crate) fn run() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    match serde_json::from_str(&line)? {
        Task::Drive(plan) => {
            // One thread: the load must not take more of the machine than it needs.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            println!(
                "{}",
                serde_json::to_string(&runtime.block_on(driver::drive(plan))?)?
            );
            Ok(())
        }
        Task::Node(plan) => site::runtime()?.block_on(node::run(plan)),
    }
}
