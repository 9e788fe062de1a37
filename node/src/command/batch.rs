//! `zajil batch`: campaigns from files.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use http::Method;

use super::{connect, id};
use crate::cli::Settings;
use crate::client::{Client, Target};
use crate::show::{self, Column};

mod follow;
mod rows;
mod send;

const LINE: [Column; 5] = [
    ("id", "/id"),
    ("name", "/name"),
    ("state", "/state"),
    ("sealed", "/sealed"),
    ("created", "/created_at"),
];

const RECORD: [Column; 13] = [
    ("id", "/id"),
    ("name", "/name"),
    ("state", "/state"),
    ("sealed", "/sealed"),
    ("rows", "/rows_received"),
    ("taken", "/taken"),
    ("duplicates", "/duplicate_rows"),
    ("suppressed", "/suppressed"),
    ("refused", "/refused"),
    ("messages", "/by_status"),
    ("rate now", "/rate_now"),
    ("done by", "/eta"),
    ("not confirmed", "/missing"),
];

/// Send campaigns from files.
#[derive(Args, Debug)]
pub struct BatchArgs {
    /// Which node.
    #[command(flatten)]
    pub target: Target,
    /// Use this API key in place of the operator token.
    #[arg(long, global = true, env = "ZAJIL_API_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with batches.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Send to everybody in a file and follow until the last message is settled.
    Send(send::SendArgs),
    /// List campaigns, newest first.
    List,
    /// Show how far a campaign is.
    Show {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
        /// Stay until it is done.
        #[arg(long)]
        follow: bool,
    },
    /// Send nothing more of it until it is resumed.
    Pause {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
    },
    /// Send again after a pause.
    Resume {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
    },
    /// Cancel all of it that waits.
    Cancel {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
    },
    /// Write what became of each row as CSV.
    Report {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
        /// The file [default: standard output].
        file: Option<PathBuf>,
        /// The rows that were refused at the upload, and why.
        #[arg(long)]
        refused: bool,
    },
}

/// Does it.
pub async fn run(settings: &Settings, args: BatchArgs) -> Result<()> {
    let client = connect(settings, &args.target)?.with_key(args.key);
    let json = args.target.json;
    match args.action {
        Action::Send(args) => return send::send(&client, args, json).await,
        Action::List => {
            let answer = client.sending(Method::GET, "/batches", None).await?;
            show::table(&answer["data"]["data"], &LINE, json)?;
        }
        Action::Show { id, follow } => {
            if follow {
                follow::follow(&client, id).await?;
            }
            let answer = client
                .sending(Method::GET, &format!("/batches/{id}"), None)
                .await?;
            show::record(&answer["data"], &RECORD, json)?;
        }
        Action::Pause { id } => steer(&client, id, "pause", json).await?,
        Action::Resume { id } => steer(&client, id, "resume", json).await?,
        Action::Cancel { id } => steer(&client, id, "cancel", json).await?,
        Action::Report { id, file, refused } => {
            let name = if refused { "refused.csv" } else { "report.csv" };
            report(&client, &format!("/batches/{id}/{name}"), file).await?;
        }
    }
    Ok(())
}

async fn steer(client: &Client, id: u64, verb: &str, json: bool) -> Result<()> {
    let answer = client
        .sending(Method::POST, &format!("/batches/{id}/{verb}"), None)
        .await?;
    show::record(&answer["data"], &RECORD, json)?;
    Ok(())
}

async fn report(client: &Client, path: &str, file: Option<PathBuf>) -> Result<()> {
    let mut to: Box<dyn Write> = match &file {
        Some(file) => Box::new(
            File::create_new(file).with_context(|| format!("cannot make {}", file.display()))?,
        ),
        None => Box::new(io::stdout().lock()),
    };
    client.download(path, |part| to.write_all(part)).await?;
    to.flush()?;
    Ok(())
}
