//! `zajil instance`: the WhatsApp numbers that send.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::connect;
use crate::cli::Settings;
use crate::client::{Client, Target, encoded};
use crate::show::{self, Column};

const LINE: [Column; 5] = [
    ("id", "/id"),
    ("name", "/instance_name"),
    ("session", "/connection_status"),
    ("number", "/phone_number"),
    ("created", "/created_at"),
];

const RECORD: [Column; 13] = [
    ("id", "/id"),
    ("name", "/instance_name"),
    ("session", "/connection_status"),
    ("number", "/phone_number"),
    ("transport", "/transport"),
    ("pacing", "/pacing"),
    ("waiting", "/depth"),
    ("in flight", "/in_flight"),
    ("rate now", "/rate_now"),
    ("paused", "/paused"),
    ("held", "/held"),
    ("created", "/created_at"),
    ("not confirmed", "/missing"),
];

/// Make and steer instances.
#[derive(Args, Debug)]
pub struct InstanceArgs {
    /// Which node.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with instances.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make an instance.
    Create(Create),
    /// List the instances of the account.
    List,
    /// Show one: its session, pace, and what waits.
    Show {
        /// Its id or name.
        instance: String,
    },
    /// Change how fast one sends; in force within 100 ms.
    Pace {
        /// Its id or name.
        instance: String,
        /// Messages in a time, such as 10/s, 12/min or 500/h.
        #[arg(value_parser = rate)]
        rate: Rate,
    },
    /// Send nothing more until it is resumed.
    Pause {
        /// Its id or name.
        instance: String,
    },
    /// Send again after a pause.
    Resume {
        /// Its id or name.
        instance: String,
    },
    /// Open its session again: after a disconnect, or one that was quarantined.
    Connect {
        /// Its id or name.
        instance: String,
    },
    /// Close its session, and keep it closed until it is connected.
    Disconnect {
        /// Its id or name.
        instance: String,
    },
    /// Cancel everything that waits.
    Purge {
        /// Its id or name.
        instance: String,
    },
    /// Delete it; what waits is cancelled.
    Delete {
        /// Its id or name.
        instance: String,
    },
}

/// Make an instance.
#[derive(Args, Debug)]
pub struct Create {
    /// What it is called; at least one character is no digit.
    pub name: String,
    /// How it reaches WhatsApp.
    #[arg(long, default_value = "simulator", value_parser = ["simulator"])]
    pub transport: String,
    /// How fast it may send, such as 10/s, 12/min or 500/h [default: the transport's].
    #[arg(long, value_parser = rate)]
    pub rate: Option<Rate>,
    /// Where `zajil simulator` listens [default: a simulator inside the node].
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// A file with the script that the simulator inside the node follows.
    #[arg(long, value_name = "FILE", conflicts_with = "address")]
    pub script: Option<PathBuf>,
    /// Take messages while it is logged out or banned, too.
    #[arg(long)]
    pub queue_while_disconnected: bool,
}

/// Messages in a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    count: f64,
    per: &'static str,
}

impl Rate {
    fn to_json(self) -> Value {
        json!({ "count": self.count, "per": self.per })
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || "give it as 10/s, 12/min or 500/h".to_owned();
    let (count, per) = text.split_once('/').ok_or_else(wrong)?;
    let per = match per.trim() {
        "s" | "sec" | "second" => "second",
        "m" | "min" | "minute" => "minute",
        "h" | "hour" => "hour",
        _ => return Err(wrong()),
    };
    let count: f64 = count.trim().parse().map_err(|_| wrong())?;
    if count.is_finite() && count > 0.0 {
        Ok(Rate { count, per })
    } else {
        Err(wrong())
    }
}

/// Does it.
pub async fn run(settings: &Settings, args: InstanceArgs) -> Result<()> {
    let client = connect(settings, &args.target)?;
    let json = args.target.json;
    match args.action {
        Action::Create(create) => {
            let body = Some(creation(create)?);
            let answer = client.dashboard(Method::POST, "/instances", body).await?;
            show::record(&answer["data"], &RECORD, json)?;
        }
        Action::List => {
            let answer = client.dashboard(Method::GET, "/instances", None).await?;
            show::table(&answer["data"], &LINE, json)?;
        }
        Action::Show { instance } => {
            let answer = client
                .dashboard(Method::GET, &path_of(&instance), None)
                .await?;
            show::record(&answer["data"], &RECORD, json)?;
        }
        Action::Pace { instance, rate } => {
            let body = Some(json!({ "pacing": { "rate": rate.to_json() } }));
            let answer = client
                .dashboard(Method::PATCH, &path_of(&instance), body)
                .await?;
            show::record(&answer["data"], &RECORD, json)?;
        }
        Action::Pause { instance } => steer(&client, &instance, "pause", json).await?,
        Action::Resume { instance } => steer(&client, &instance, "resume", json).await?,
        Action::Connect { instance } => steer(&client, &instance, "connect", json).await?,
        Action::Disconnect { instance } => steer(&client, &instance, "disconnect", json).await?,
        Action::Purge { instance } => steer(&client, &instance, "purge", json).await?,
        Action::Delete { instance } => {
            client
                .dashboard(Method::DELETE, &path_of(&instance), None)
                .await?;
            show::say(&format!("instance {instance} is deleted"));
        }
    }
    Ok(())
}

fn creation(create: Create) -> Result<Value> {
    let script = create.script.map(|file| {
        let told = || format!("cannot read the script {}", file.display());
        std::fs::read_to_string(&file).with_context(told)
    });
    Ok(json!({
        "instance_name": create.name,
        "transport": create.transport,
        "transport_settings": { "address": create.address, "script": script.transpose()? },
        "pacing": create.rate.map(|rate| json!({ "rate": rate.to_json() })),
        "queue_while_disconnected": create.queue_while_disconnected,
    }))
}

async fn steer(client: &Client, instance: &str, verb: &str, json: bool) -> Result<()> {
    let path = format!("{}/{verb}", path_of(instance));
    let answer = client.dashboard(Method::POST, &path, None).await?;
    show::record(&answer["data"], &RECORD, json)?;
    Ok(())
}

/// Where an instance that is named by id or name is found.
fn path_of(instance: &str) -> String {
    format!("/instances/{}", encoded(instance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_in_a_time() {
        assert_eq!(
            rate("10/s"),
            Ok(Rate {
                count: 10.0,
                per: "second"
            })
        );
        assert_eq!(
            rate("0.5 / min"),
            Ok(Rate {
                count: 0.5,
                per: "minute"
            })
        );
        for wrong in ["10", "/s", "0/s", "-1/s", "ten/s", "10/fortnight", "inf/s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
