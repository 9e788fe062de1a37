//! `zajil batch send`: makes a campaign, uploads its rows, starts, seals and follows it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::follow;
use super::rows::{Block, Rows};
use crate::client::{CallError, Client};
use crate::config::units;
use crate::progress::Progress;
use crate::show;

/// A block is tried this often in a row: with the waits between, a node that restarts or is
/// overloaded has a good two minutes to come back.
const TRIES: u32 = 16;

/// The first wait between two tries; it doubles up to the longest one.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Refused rows that are told in full: enough to see what is wrong with a file.
const SHOWN_REFUSALS: usize = 5;

/// The longest wait between two tries that the node did not ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Send to everybody in a file and follow until the last message is settled.
///
/// CSV has a header row, UTF-8, with `,` or `;`: the column `recipient` or `phone` says who, the
/// others are variables of the text. `.ndjson` holds an object a line. A repeated or cut upload is
/// taken up where it ended.
#[derive(Args, Debug)]
pub struct SendArgs {
    /// The file: .csv, .ndjson or .jsonl.
    pub file: PathBuf,
    /// The instances that send, by id or name; each recipient always hears from the same one.
    #[arg(long, required_unless_present = "resume", num_args = 1.., value_name = "NAME")]
    pub instance: Vec<String>,
    /// What everybody gets, with {{column}} for what their row says.
    #[arg(long, conflicts_with = "template")]
    pub content: Option<String>,
    /// The id of a template in place of a content.
    #[arg(long, value_name = "ID")]
    pub template: Option<u64>,
    /// What the campaign is called [default: the name of the file].
    #[arg(long)]
    pub name: Option<String>,
    /// How long a row may wait from the start [default: 7d].
    #[arg(long, value_parser = seconds, value_name = "TIME")]
    pub ttl: Option<u64>,
    /// Send to a recipient as often as the file names them, not once.
    #[arg(long)]
    pub keep_duplicates: bool,
    /// Go on with this campaign, whose upload was cut.
    #[arg(long, value_name = "ID", conflicts_with_all = ["instance", "content", "template", "ttl"])]
    pub resume: Option<u64>,
    /// Return when all is uploaded and started; the campaign goes on by itself.
    #[arg(long)]
    pub no_follow: bool,
}

fn seconds(text: &str) -> Result<u64, String> {
    let time = units::parse_duration(text).ok_or("give a time such as 90m, 2h or 7d")?;
    Ok(time.as_secs())
}

/// Does all of it.
pub(super) async fn send(client: &Client, args: SendArgs, json: bool) -> Result<()> {
    let mut rows = Rows::open(&args.file)?;
    let (follow, resumed) = (!args.no_follow, args.resume);
    let id = match resumed {
        Some(id) => id,
        None => create(client, args).await?,
    };
    if resumed.is_none() {
        eprintln!("batch {id} is made; if this is cut: zajil batch send FILE --resume {id}");
    }
    let batch = batch(client, id).await?;
    rows.skip(batch["rows_received"].as_u64().unwrap_or(0))?;
    let refusals = upload(client, id, rows).await?;
    let uploaded = self::batch(client, id).await?;
    tell_refusals(id, &uploaded, &refusals);
    ensure!(
        uploaded["taken"].as_u64() != Some(0),
        "no row can be sent: batch {id} was not started"
    );
    if batch["state"] == "draft" {
        warn(&post(client, id, "start").await?);
    }
    if batch["sealed"] != true {
        post(client, id, "seal").await?;
    }
    if follow {
        follow::follow(client, id).await?;
    }
    show::record(&self::batch(client, id).await?, &super::RECORD, json)?;
    Ok(())
}

async fn create(client: &Client, args: SendArgs) -> Result<u64> {
    let file_name = || {
        args.file
            .file_stem()
            .map(|it| it.to_string_lossy().into_owned())
    };
    let body = json!({
        "name": args.name.clone().or_else(file_name),
        "instances": args.instance,
        "content": args.content,
        "template_id": args.template,
        "ttl": args.ttl,
        "duplicates": if args.keep_duplicates { "keep" } else { "skip" },
    });
    let answer = client.sending(Method::POST, "/batches", Some(body)).await?;
    answer["data"]["id"]
        .as_u64()
        .context("the node named no batch")
}

async fn batch(client: &Client, id: u64) -> Result<Value, CallError> {
    let mut answer = client
        .sending(Method::GET, &format!("/batches/{id}"), None)
        .await?;
    Ok(answer["data"].take())
}

async fn post(client: &Client, id: u64, verb: &str) -> Result<Value, CallError> {
    client
        .sending(Method::POST, &format!("/batches/{id}/{verb}"), None)
        .await
}

fn warn(answer: &Value) {
    let warnings = answer["warnings"].as_array().into_iter().flatten();
    for warning in warnings.filter_map(Value::as_str) {
        eprintln!("warning: {warning}");
    }
}

/// Says which rows were refused, and why.
fn tell_refusals(id: u64, batch: &Value, first: &[Value]) {
    let [refused, rows] = ["refused", "rows_received"].map(|name| batch[name].as_u64());
    let (Some(refused @ 1..), Some(rows)) = (refused, rows) else {
        return;
    };
    eprintln!("warning: {refused} of {rows} rows are refused (rows are counted from 0):");
    for refusal in first {
        let faults = refusal["errors"].as_object().into_iter().flatten();
        for (_, faults) in faults {
            eprintln!("  row {}: {}", refusal["row"], show::word(faults, ""));
        }
    }
    eprintln!("All of them: zajil batch report {id} --refused");
}

/// Uploads what is left of a file; answers the first rows of it that were refused.
async fn upload(client: &Client, id: u64, mut rows: Rows) -> Result<Vec<Value>> {
    let kind = rows.content_type();
    let mut refusals = Vec::new();
    let mut progress = Progress::new(None, "rows uploaded");
    while let Some(block) = rows.block()? {
        let uploaded = upload_block(client, id, kind, &block).await;
        let mut uploaded =
            uploaded.with_context(|| format!("cannot upload rows {} and on", block.first))?;
        if let Value::Array(more) = uploaded["data"]["first_refusals"].take() {
            let room = SHOWN_REFUSALS.saturating_sub(refusals.len());
            refusals.extend(more.into_iter().take(room));
        }
        progress.at(block.first + block.rows, "");
    }
    progress.done();
    Ok(refusals)
}

/// Sends a block until the node has it; answers what became of it. Rows that it has already it passes over, so a repetition
/// doubles nothing.
async fn upload_block(
    client: &Client,
    id: u64,
    kind: &str,
    block: &Block,
) -> Result<Value, CallError> {
    let path = format!("/batches/{id}/recipients?from_row={}", block.first);
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match client.upload(&path, kind, block.body.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => tokio::time::sleep(pause_after(error, wait)?).await,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    client.upload(&path, kind, block.body.clone()).await
}

/// How long to wait before another try; the error itself where another try cannot help.
fn pause_after(error: CallError, wait: Duration) -> Result<Duration, CallError> {
    match error {
        CallError::Unreachable { .. } | CallError::Lost { .. } => Ok(wait),
        CallError::Refused {
            status,
            ref code,
            retry_after,
            ..
        } => {
            let later = [
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::TOO_MANY_REQUESTS,
            ];
            // The node may still be reading the upload whose connection broke.
            let still_reading = code == "row_gap";
            if later.contains(&status) || still_reading {
                Ok(retry_after.unwrap_or(wait))
            } else {
                Err(error)
            }
        }
        CallError::Foreign { .. } => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str, retry_after: Option<Duration>) -> CallError {
        CallError::Refused {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.to_owned(),
            message: String::new(),
            fields: String::new(),
            retry_after,
        }
    }

    #[test]
    fn an_upload_waits_as_long_as_the_node_asks() {
        let asked = Some(Duration::from_secs(3));

        let wait = pause_after(refused(503, "unavailable", asked), FIRST_WAIT).unwrap();

        assert_eq!(wait, Duration::from_secs(3));
    }

    #[test]
    fn an_upload_that_can_never_work_is_not_tried_again() {
        let error = refused(422, "validation", None);

        assert!(pause_after(error, FIRST_WAIT).is_err());
    }
}
