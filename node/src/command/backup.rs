//! `zajil backup`: a consistent copy of a running node.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::connect;
use crate::cli::Settings;
use crate::client::Target;
use crate::show;

/// Write a consistent copy of a running node's data to a new file on the node's machine.
#[derive(Args, Debug)]
pub struct BackupArgs {
    /// Which node.
    #[command(flatten)]
    pub target: Target,
    /// The file; it must not exist yet.
    #[arg(help_heading = "Arguments")]
    pub file: PathBuf,
}

/// Does it.
pub async fn run(settings: &Settings, args: BackupArgs) -> Result<()> {
    let client = connect(settings, &args.target)?;
    // The node resolves the path, and its working directory need not be this one.
    let file = std::path::absolute(&args.file).context("cannot tell where the file would be")?;
    client
        .operations("/backup", json!({ "file": file }))
        .await?;
    show::say(&format!("backed up to {}", file.display()));
    Ok(())
}
