//! `zajil cluster drain`: a node gives its shards away and ends.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::super::connect;
use crate::cli::Settings;
use crate::client::{CallError, Client, Target};
use crate::show::{self, word};

/// How often it is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long it may take: the longest that `node.drain_timeout` can be, and a minute.
const PATIENCE: Duration = Duration::from_secs(660);

/// Asks for it, and waits until the node left.
pub(super) async fn run(settings: &Settings, target: Target) -> Result<()> {
    let client = connect(settings, &target)?;
    let before = client.ask("/cluster").await?;
    let name = word(here(&before), "/node");
    client.operations("/drain", json!({})).await?;
    match timeout(PATIENCE, follow(&client, &name)).await {
        Ok(Ok(())) => show::say(&format!("node {name} left")),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => bail!("node {name} still answers after {} s", PATIENCE.as_secs()),
    }
    Ok(())
}

/// Tells how far it is until nothing answers there any more, or its next life does.
async fn follow(client: &Client, name: &str) -> Result<(), CallError> {
    let mut told = String::new();
    loop {
        match client.ask("/cluster").await {
            Ok(answer) if word(here(&answer), "/state") != "draining" => return Ok(()),
            Ok(answer) => {
                let now = progress(&answer);
                if now != told {
                    show::say(&format!("node {name} drains: {now}"));
                }
                told = now;
            }
            Err(CallError::Unreachable { .. }) => return Ok(()),
            // The connection that it closed; the next one is refused.
            Err(CallError::Lost { .. }) => {}
            Err(error) => return Err(error),
        }
        sleep(LOOK_EVERY).await;
    }
}

fn progress(answer: &Value) -> String {
    let node = here(answer);
    let running = word(node, "/instances_running");
    match (
        answer["data"]["store"].as_str(),
        node["shards_owned"].as_u64(),
    ) {
        (Some("cql"), Some(shards)) if shards > 0 => format!("{shards} shards to give away"),
        _ => format!("finishing what is in flight, {running} instances run"),
    }
}

/// The node that was asked, among those that it tells of.
fn here(answer: &Value) -> &Value {
    let nodes = answer["data"]["nodes"].as_array();
    let mut nodes = nodes.into_iter().flatten();
    nodes
        .find(|node| node["here"] == true)
        .unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_of_the_node_that_was_asked() {
        let of = |store: &str, shards: u64| {
            let other = json!({ "node": 1, "here": false, "shards_owned": 900 });
            let asked = json!({
                "node": 2, "here": true, "shards_owned": shards, "instances_running": 4,
            });
            progress(&json!({ "data": { "store": store, "nodes": [other, asked] } }))
        };

        assert_eq!(of("cql", 124), "124 shards to give away");
        let last = "finishing what is in flight, 4 instances run";
        assert_eq!(
            (of("cql", 0).as_str(), of("embedded", 1_024).as_str()),
            (last, last)
        );
    }
}
