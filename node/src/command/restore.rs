//! `zajil restore`: a data folder from a backup, and the release of what it holds back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use zajil_storage::embedded;

use super::{client, connect};
use crate::cli::Settings;
use crate::client::Target;
use crate::clock::SystemClock;
use crate::{show, telemetry};

/// Fill an empty data folder from a backup, with no node running. The node that starts on it sends
/// nothing of what was waiting until `zajil restore release`: the copy cannot know what was sent
/// after it was made.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RestoreArgs {
    /// The backup.
    #[arg(required = true)]
    pub file: Option<PathBuf>,
    /// What to do in place of it.
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Let a restored node send again. Messages that were waiting when the copy was made settle as
    /// `unknown`.
    Release {
        /// Which node.
        #[command(flatten)]
        target: Target,
        /// Send the messages that were waiting; some may have been sent already.
        #[arg(long)]
        resend: bool,
    },
}

/// Does it.
pub fn run(settings: &Settings, args: RestoreArgs) -> Result<ExitCode> {
    match (args.action, args.file) {
        (Some(Action::Release { target, resend }), _) => client(release(settings, target, resend)),
        (None, Some(file)) => restore(settings, &file),
        (None, None) => bail!("name the backup"),
    }
}

fn restore(settings: &Settings, file: &Path) -> Result<ExitCode> {
    let config = settings.read()?;
    telemetry::start_log(&config.log);
    embedded::restore(file, &config.data_dir, Arc::new(SystemClock::new()))?;
    show::say(&format!(
        "restored into {}\nA node that starts on it sends nothing until `zajil restore release`.",
        config.data_dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}

async fn release(settings: &Settings, target: Target, resend: bool) -> Result<()> {
    let client = connect(settings, &target)?;
    let answer = client
        .operations("/restore/release", json!({ "resend": resend }))
        .await?;
    show::record(&answer["data"], &[("settled", "/settled")], target.json)?;
    Ok(())
}
