//! `zajil message`: single messages and what became of them.

use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::{connect, id};
use crate::cli::Settings;
use crate::client::{Target, encoded};
use crate::show::{self, Column};

const SENT: [Column; 4] = [
    ("message", "/message_id"),
    ("status", "/status"),
    ("recipient", "/recipient"),
    ("instance", "/instance/name"),
];

const STATUS: [Column; 9] = [
    ("message", "/message_id"),
    ("status", "/status"),
    ("recipient", "/recipient"),
    ("sent", "/sent_at"),
    ("delivered", "/delivered_at"),
    ("read", "/read_at"),
    ("failed", "/failed_at"),
    ("error", "/error"),
    ("WhatsApp id", "/message_key/id"),
];

const LINE: [Column; 6] = [
    ("id", "/id"),
    ("recipient", "/recipient_number"),
    ("type", "/message_type"),
    ("status", "/status"),
    ("instance", "/instance/name"),
    ("created", "/created_at"),
];

/// Send messages and see what became of them.
#[derive(Args, Debug)]
pub struct MessageArgs {
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

/// What can be done with messages.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Send a text.
    Send {
        /// The instance that sends it, by id or name.
        #[arg(long)]
        instance: String,
        /// Who gets it, such as +966501234567.
        recipient: String,
        /// What they get.
        content: String,
        /// Overtake others of the instance.
        #[arg(long)]
        high: bool,
        /// Not before this time (RFC 3339).
        #[arg(long, value_name = "TIME")]
        send_at: Option<String>,
        /// Your own name for it.
        #[arg(long)]
        client_ref: Option<String>,
    },
    /// What became of a message.
    Status {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
    },
    /// List messages, newest first.
    List {
        /// Only of this instance, by id or name.
        #[arg(long)]
        instance: Option<String>,
        /// Only with this status.
        #[arg(long)]
        status: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Withdraw a message that is not being sent yet.
    Cancel {
        /// Its id.
        #[arg(value_parser = id)]
        id: u64,
    },
}

/// Does it.
pub async fn run(settings: &Settings, args: MessageArgs) -> Result<()> {
    let client = connect(settings, &args.target)?.with_key(args.key);
    let json = args.target.json;
    match args.action {
        Action::Send {
            instance,
            recipient,
            content,
            high,
            send_at,
            client_ref,
        } => {
            let body = json!({
                "instance": instance,
                "recipient": recipient,
                "content": content,
                "priority": if high { "high" } else { "normal" },
                "send_at": send_at,
                "client_ref": client_ref,
            });
            let answer = client
                .sending(Method::POST, "/messages/send", Some(body))
                .await?;
            show::record(&answer["data"], &SENT, json)?;
        }
        Action::Status { id } => {
            let path = format!("/messages/{id}/status");
            let answer = client.sending(Method::GET, &path, None).await?;
            show::record(&answer["data"], &STATUS, json)?;
        }
        Action::List {
            instance,
            status,
            limit,
        } => {
            let mut query = format!("per_page={limit}");
            for (name, value) in [("instance", instance), ("status", status)] {
                if let Some(value) = value {
                    query.push_str(&format!("&{name}={}", encoded(&value)));
                }
            }
            let answer = client
                .sending(Method::GET, &format!("/messages?{query}"), None)
                .await?;
            show::table(&answer["data"]["data"], &LINE, json)?;
        }
        Action::Cancel { id } => {
            let path = format!("/messages/{id}/cancel");
            let answer = client.sending(Method::POST, &path, None).await?;
            show::record(&answer["data"], &STATUS, json)?;
        }
    }
    Ok(())
}
