//! `zajil account`: the customers that everything else belongs to.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::connect;
use crate::cli::Settings;
use crate::client::Target;
use crate::show;

/// Make accounts.
#[derive(Args, Debug)]
pub struct AccountArgs {
    /// Which node.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make an account and print its id.
    Create {
        /// What it is called.
        #[arg(long)]
        name: String,
    },
}

/// Does it.
pub async fn run(settings: &Settings, args: AccountArgs) -> Result<()> {
    let client = connect(settings, &args.target)?;
    let Action::Create { name } = args.action;
    let answer = client
        .operations("/accounts", json!({ "name": name }))
        .await?;
    show::record(
        &answer["data"],
        &[("account", "/id"), ("name", "/name")],
        args.target.json,
    )?;
    Ok(())
}
