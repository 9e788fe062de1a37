//! `zajil cluster status`: the nodes as one of them knows them.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use super::super::connect;
use crate::cli::Settings;
use crate::client::Target;
use crate::show::{self, Column, word};

const LINE: [Column; 6] = [
    ("node", "/node"),
    ("state", "/state"),
    ("shards", "/shards_owned"),
    ("lease age", "/lease"),
    ("link", "/link"),
    ("version", "/version"),
];

/// Shows it.
pub(super) async fn run(settings: &Settings, target: Target) -> Result<()> {
    let client = connect(settings, &target)?;
    let answer = client.ask("/cluster").await?;
    let cluster = &answer["data"];
    if target.json {
        show::print(&format!("{cluster:#}\n"))?;
        return Ok(());
    }
    let nodes = cluster["nodes"].as_array().cloned().unwrap_or_default();
    let rows: Vec<Value> = nodes.into_iter().map(row).collect();
    show::table(&Value::Array(rows), &LINE, false)?;
    show::print(&notes(cluster))?;
    Ok(())
}

/// A node with the age of its lease as people read it.
fn row(mut node: Value) -> Value {
    if let Some(age) = node["lease_age_ms"].as_u64() {
        node["lease"] = json!(format!("{}.{} s", age / 1_000, age % 1_000 / 100));
    }
    node
}

/// What is to be known beyond the table; nothing where all is well.
fn notes(cluster: &Value) -> String {
    let mut text = String::new();
    let mut line = |said: String| writeln!(text, "{said}").expect("a string takes everything");
    let count = |name: &str| cluster[name].as_u64().unwrap_or(0);
    if count("moving") > 0 {
        line(format!("{} shards are moving", count("moving")));
    }
    if count("nobody") > 0 {
        line(format!("{} shards have no owner", count("nobody")));
    }
    if count("held_back") > 0 {
        line(format!(
            "{} nodes look dead and are given one more lease, because most do",
            count("held_back")
        ));
    }
    let each = |name: &str| cluster[name].as_array().cloned().unwrap_or_default();
    for why in each("not_ready") {
        line(format!("not ready: {}", word(&why, "")));
    }
    for trouble in each("troubles") {
        line(format!(
            "trouble at {}: {}",
            word(&trouble, "/at"),
            word(&trouble, "/what")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_below_the_table_and_nothing_where_all_is_well() {
        let well = json!({ "moving": 0, "nobody": 0, "not_ready": [], "troubles": [] });
        let ill = json!({
            "moving": 12,
            "nobody": 3,
            "held_back": 1,
            "not_ready": ["the clock is off"],
            "troubles": [{ "at": "2027-01-15T08:00:00.000000Z", "what": "a take failed" }],
        });

        assert_eq!(notes(&well), "");
        assert_eq!(
            notes(&ill),
            "12 shards are moving\n3 shards have no owner\n\
             1 nodes look dead and are given one more lease, because most do\nnot ready: the clock is off\n\
             trouble at 2027-01-15T08:00:00.000000Z: a take failed\n"
        );
    }

    #[test]
    fn the_age_of_a_lease_is_told_in_seconds() {
        assert_eq!(row(json!({ "lease_age_ms": 1_260 }))["lease"], "1.2 s");
        assert_eq!(row(json!({ "lease_age_ms": null })).get("lease"), None);
    }
}
