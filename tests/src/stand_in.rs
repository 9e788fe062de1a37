//! A node that ends at a step of its store: a test of the running executable acts it, in a
//! process of its own, by way of the real `serve` command.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use zajil_node::Process;
use zajil_node::cli::{Cli, Command as Does};
use zajil_node::command::serve;
use zajil_storage::embedded::EmbeddedConfig;
use zajil_storage::embedded::log::Failpoints;

use crate::program;

/// The variable that tells the acting process its part.
const PART: &str = "STAND_IN";

/// What happens when a step is reached.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Act {
    /// The process ends at once.
    Abort,
    /// The step fails, this once.
    Fail,
}

/// When which step is disturbed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trap {
    /// A step of [`Failpoints`].
    pub step: String,
    /// How often it was reached then, counted from 1.
    pub hit: u32,
    /// What happens.
    pub act: Act,
}

/// A node whose store has small segments, and a trap.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StandIn {
    /// The test that acts it, by its name; it calls [`act`] and is ignored otherwise.
    pub test: String,
    /// The size of a segment of the log, in bytes.
    pub segment_bytes: u64,
    /// Whether the log is written past the page cache.
    pub direct: bool,
    /// What is disturbed; `None` is nothing.
    pub trap: Option<Trap>,
}

/// What the acting process is told.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    arguments: Vec<String>,
    stand_in: StandIn,
}

impl StandIn {
    /// The process that acts it, in a folder.
    ///
    /// # Errors
    /// The running executable cannot be found.
    pub fn command(&self, arguments: &[&str], folder: &Path) -> Result<Command> {
        let arguments = arguments.iter().map(|&one| one.to_owned()).collect();
        let part = Part {
            arguments,
            stand_in: self.clone(),
        };
        let executable = std::env::current_exe().context("a process knows its program")?;
        let mut command = program::quiet(executable, folder);
        command
            .args(["--exact", &self.test, "--ignored", "--nocapture"])
            .env(PART, serde_json::to_string(&part)?);
        Ok(command)
    }

    fn adjust(&self, config: EmbeddedConfig) -> EmbeddedConfig {
        EmbeddedConfig {
            segment_bytes: self.segment_bytes,
            direct: self.direct,
            failpoints: self
                .trap
                .clone()
                .map_or_else(Failpoints::default, Trap::failpoints),
            ..config
        }
    }
}

impl Trap {
    fn failpoints(self) -> Failpoints {
        let hits = AtomicU32::new(0);
        Failpoints::new(move |step| {
            if step != self.step || hits.fetch_add(1, Ordering::SeqCst) + 1 != self.hit {
                return Ok(());
            }
            match self.act {
                Act::Abort => std::process::abort(),
                Act::Fail => Err(io::Error::other("the disk did not confirm it")),
            }
        })
    }
}

/// Acts the node that the starting process wants; answers when it stopped in good order.
///
/// # Errors
/// Nobody wants one: the test was not started by [`StandIn::command`].
#[expect(
    clippy::disallowed_methods,
    reason = "the part of a process is no setting of a node"
)]
pub fn act() -> Result<()> {
    let part = std::env::var(PART).context("this test is run by others, in their processes")?;
    let Part {
        arguments,
        stand_in,
    } = serde_json::from_str(&part)?;
    let cli = Cli::try_parse_from(std::iter::once("zajil".to_owned()).chain(arguments))?;
    let Some(Does::Serve(args)) = cli.command else {
        bail!("only a node can be acted")
    };
    let change = |process: Process| Process {
        adjust_store: Arc::new(move |config| stand_in.adjust(config)),
        ..process
    };
    let ended = serve::run_in(&cli.settings, &args, change)?;
    anyhow::ensure!(ended == ExitCode::SUCCESS, "the node ended with {ended:?}");
    Ok(())
}
