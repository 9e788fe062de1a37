//! `zajil key`: API keys.

use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::{connect, id};
use crate::cli::Settings;
use crate::client::Target;
use crate::config::units;
use crate::show::{self, Column};

const PERMISSIONS: [&str; 5] = [
    "send_message",
    "read_messages",
    "manage_instances",
    "manage_contacts",
    "manage_templates",
];

const SECRET: [Column; 3] = [("key id", "/id"), ("name", "/name"), ("key", "/key")];

const LINE: [Column; 6] = [
    ("id", "/id"),
    ("name", "/name"),
    ("permissions", "/permissions"),
    ("an hour", "/rate_limit"),
    ("expires", "/expires_at"),
    ("last used", "/last_used_at"),
];

/// Make and steer API keys.
#[derive(Args, Debug)]
pub struct KeyArgs {
    /// Which node.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a key and print it: it is shown this once.
    Create {
        /// What it is called.
        #[arg(long)]
        name: String,
        /// What it may do [default: everything].
        #[arg(long, value_delimiter = ',', value_parser = PERMISSIONS, value_name = "PERMISSION,…")]
        permissions: Vec<String>,
        /// Requests an hour.
        #[arg(long, default_value_t = 1_000)]
        limit: u64,
        /// When it ends (RFC 3339) [default: never].
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Addresses or networks that it may be used from [default: any].
        #[arg(long, value_delimiter = ',', value_name = "IP,…")]
        allowed_ips: Vec<String>,
        /// Instances that it may use, by id [default: all].
        #[arg(long, value_delimiter = ',', value_name = "ID,…")]
        allowed_instances: Vec<u64>,
    },
    /// List the keys of the account.
    List,
    /// End a key, within 5 seconds.
    Revoke {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
    },
    /// Give a key a new secret; the old one goes on for a while.
    Rotate {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
        /// How long the old secret goes on.
        #[arg(long, default_value = "1d", value_parser = overlap, value_name = "TIME")]
        overlap: u64,
    },
}

fn overlap(text: &str) -> Result<u64, String> {
    let time = units::parse_duration(text).ok_or("give a time such as 2h or 1d")?;
    Ok(time.as_secs())
}

/// Does it.
pub async fn run(settings: &Settings, args: KeyArgs) -> Result<()> {
    let client = connect(settings, &args.target)?;
    let json = args.target.json;
    match args.action {
        Action::Create {
            name,
            permissions,
            limit,
            expires_at,
            allowed_ips,
            allowed_instances,
        } => {
            let all = || PERMISSIONS.map(str::to_owned).to_vec();
            let body = json!({
                "name": name,
                "permissions": if permissions.is_empty() { all() } else { permissions },
                "rate_limit": limit,
                "expires_at": expires_at,
                "allowed_ips": (!allowed_ips.is_empty()).then_some(allowed_ips),
                "allowed_instances": (!allowed_instances.is_empty()).then_some(allowed_instances),
            });
            let answer = client
                .dashboard(Method::POST, "/api-keys", Some(body))
                .await?;
            show::record(&answer["data"], &SECRET, json)?;
        }
        Action::List => {
            let answer = client.dashboard(Method::GET, "/api-keys", None).await?;
            show::table(&answer["data"], &LINE, json)?;
        }
        Action::Revoke { id } => {
            let path = format!("/api-keys/{id}");
            client.dashboard(Method::DELETE, &path, None).await?;
            show::say(&format!("key {id} is revoked"));
        }
        Action::Rotate { id, overlap } => {
            let path = format!("/api-keys/{id}/rotate");
            let body = json!({ "overlap_s": overlap });
            let answer = client.dashboard(Method::POST, &path, Some(body)).await?;
            show::record(&answer["data"], &SECRET, json)?;
        }
    }
    Ok(())
}
