//! Follows a campaign, with a bar on a terminal and plain lines elsewhere.

use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde_json::Value;

use crate::client::{CallError, Client};
use crate::progress::Progress;
use crate::show;

/// How often the node is asked.
const POLL: Duration = Duration::from_secs(1);

/// How many times in a row the node may not answer before following ends: a restart takes less.
const PATIENCE: u32 = 60;

/// Statuses from which a message may still go anywhere.
const UNSETTLED: [&str; 3] = ["scheduled", "pending", "processing"];

/// Tells how far a campaign is until it is finished or cancelled.
pub(super) async fn follow(client: &Client, id: u64) -> Result<()> {
    let mut progress = Progress::new(Some(0), "messages settled");
    let mut silent = 0;
    loop {
        match client
            .sending(Method::GET, &format!("/batches/{id}"), None)
            .await
        {
            Ok(answer) => {
                silent = 0;
                let batch = &answer["data"];
                let (settled, total) = counts(&batch["by_status"]);
                progress.of(total);
                progress.at(settled, &note(batch));
                if ["finished", "cancelled"]
                    .iter()
                    .any(|end| batch["state"] == *end)
                {
                    break;
                }
            }
            Err(error) if passes(&error) && silent < PATIENCE => silent += 1,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(POLL).await;
    }
    progress.done();
    Ok(())
}

/// Whether it is over soon: a node starts again, a shard moves to another one, or too much is asked.
const fn passes(error: &CallError) -> bool {
    match error {
        CallError::Unreachable { .. } | CallError::Lost { .. } => true,
        CallError::Refused { retry_after, .. } => retry_after.is_some(),
        CallError::Foreign { .. } => false,
    }
}

/// How many messages are settled, and how many there are.
fn counts(by_status: &Value) -> (u64, u64) {
    let all = by_status.as_object().into_iter().flatten();
    let all = all.map(|(status, count)| (status.as_str(), count.as_u64().unwrap_or(0)));
    all.fold((0, 0), |(settled, total), (status, count)| {
        let is_settled = !UNSETTLED.contains(&status);
        (settled + if is_settled { count } else { 0 }, total + count)
    })
}

fn note(batch: &Value) -> String {
    let (state, rate) = (
        show::word(batch, "/state"),
        batch["rate_now"].as_f64().unwrap_or(0.0),
    );
    let eta = show::word(batch, "/eta");
    let until = if eta.is_empty() {
        String::new()
    } else {
        format!(", done by {eta}")
    };
    format!("{state}, {rate:.1}/s{until}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn following_outlasts_what_the_node_says_will_pass() {
        let refused = |retry_after| CallError::Refused {
            status: http::StatusCode::SERVICE_UNAVAILABLE,
            code: "unavailable".to_owned(),
            message: "the window of the key is overloaded".to_owned(),
            fields: String::new(),
            retry_after,
        };

        assert!(passes(&refused(Some(Duration::from_secs(1)))));
        assert!(!passes(&refused(None)));
    }

    #[test]
    fn what_may_still_go_anywhere_is_not_settled() {
        let by_status = json!({"pending": 2, "processing": 1, "sent": 3, "read": 4, "failed": 5});

        assert_eq!(counts(&by_status), (12, 15));
    }
}
