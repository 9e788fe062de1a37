//! `zajil user`: people who sign in to the Dashboard API.

use std::io::{self, IsTerminal, Read};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use console::Term;
use serde_json::json;

use super::connect;
use crate::cli::Settings;
use crate::client::Target;
use crate::{secret, show};

/// Make users.
#[derive(Args, Debug)]
pub struct UserArgs {
    /// Which node.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with users.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a user of the account. Asks for a password; an empty one has one made up.
    Create {
        /// What they sign in with.
        #[arg(long)]
        email: String,
        /// Their name (default: what stands before the @).
        #[arg(long)]
        name: Option<String>,
        /// Read the password from standard input.
        #[arg(long)]
        password_stdin: bool,
    },
}

/// Does it.
pub async fn run(settings: &Settings, args: UserArgs) -> Result<()> {
    let client = connect(settings, &args.target)?;
    let Action::Create {
        email,
        name,
        password_stdin,
    } = args.action;
    let given = if password_stdin {
        read_password()?
    } else {
        ask_password()?
    };
    let made_up = given.is_empty().then(secret::password);
    let name = name.or_else(|| email.split('@').next().map(str::to_owned));
    let body = json!({
        "email": email,
        "name": name,
        "password": made_up.as_ref().unwrap_or(&given),
        "account_id": args.target.account,
    });
    let mut answer = client.operations("/users", body).await?;
    if let Some(password) = made_up {
        answer["data"]["password"] = password.into();
    }
    let columns = [
        ("user", "/id"),
        ("email", "/email"),
        ("password", "/password"),
    ];
    show::record(&answer["data"], &columns, args.target.json)?;
    Ok(())
}

fn read_password() -> Result<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let password = text.trim_end_matches(['\r', '\n']).to_owned();
    ensure!(!password.is_empty(), "standard input holds no password");
    Ok(password)
}

/// Asks twice on a terminal; elsewhere there is nobody to ask, and one is made up.
fn ask_password() -> Result<String> {
    if !io::stdin().is_terminal() {
        return Ok(String::new());
    }
    let terminal = Term::stderr();
    let ask = |question: &str| {
        terminal.write_str(question)?;
        terminal.read_secure_line()
    };
    let password = ask("Password (empty: make one up): ")?;
    let again = if password.is_empty() {
        String::new()
    } else {
        ask("Once more: ")?
    };
    ensure!(password == again, "the two passwords differ");
    Ok(password)
}
