//! `zajil account`: the customers that everything else belongs to.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
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
        /// What becomes of its messages whose outcome cannot be known, unless they say so
        /// themselves.
        #[arg(long, value_enum)]
        on_ambiguous: Option<OnAmbiguous>,
    },
    /// Change an account.
    Set {
        /// Its id or name; the only one when none is named.
        account: Option<String>,
        /// What becomes of its messages whose outcome cannot be known, unless they say so
        /// themselves.
        #[arg(long, value_enum)]
        on_ambiguous: OnAmbiguous,
    },
}

/// What is done where a channel cannot tell whether it has a message.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnAmbiguous {
    /// It is not repeated.
    Unknown,
    /// It is sent again, at the risk of being shown twice.
    Resend,
}

impl OnAmbiguous {
    const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Resend => "resend",
        }
    }
}

/// Does it.
pub async fn run(settings: &Settings, args: AccountArgs) -> Result<()> {
    let client = connect(settings, &args.target)?;
    let (method, body) = match args.action {
        Action::Create { name, on_ambiguous } => {
            let on_ambiguous = on_ambiguous.map(OnAmbiguous::word);
            let body = json!({ "name": name, "on_ambiguous": on_ambiguous });
            (Method::POST, body)
        }
        Action::Set {
            account,
            on_ambiguous,
        } => {
            let on_ambiguous = on_ambiguous.word();
            let body = json!({ "account_id": account, "on_ambiguous": on_ambiguous });
            (Method::PATCH, body)
        }
    };
    let answer = client.change("/accounts", method, body).await?;
    show::record(
        &answer["data"],
        &[
            ("account", "/id"),
            ("name", "/name"),
            ("on ambiguous", "/on_ambiguous"),
        ],
        args.target.json,
    )?;
    Ok(())
}
