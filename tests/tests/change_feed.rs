//! The change feed tells every change of status, in order per message, also across kills.

use std::collections::BTreeMap;

use anyhow::Result;
use rand::Rng;
use serde_json::json;
use zajil_model::lifecycle::Status;
use zajil_tests::Scene;
use zajil_tests::clock::Stopwatch;
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::load::Load;
use zajil_tests::scene::Plan;
use zajil_tests::wait::seconds;

/// How far a message has come; the feed goes back only from `processing` to `pending`, by a
/// refusal.
const fn stage(status: Status) -> u8 {
    match status {
        Status::Scheduled | Status::Pending | Status::Processing => 0,
        Status::Expired | Status::Cancelled | Status::Suppressed => 1,
        Status::Unknown => 2,
        Status::Sent => 3,
        Status::Failed => 4,
        Status::Delivered => 5,
        Status::Read => 6,
    }
}

/// Waits until nothing changes any more: receipts come for two seconds after a message is settled,
/// and those that were on their way at a kill never come.
async fn await_silence(scene: &Scene) {
    let mut last = (0, Stopwatch::start());
    let silence = async || {
        let told = scene.customer.changes().await.len();
        if told != last.0 {
            last = (told, Stopwatch::start());
        }
        (last.1.elapsed() > seconds(3)).then_some(())
    };
    zajil_tests::until("nothing changes any more", seconds(60), silence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_in_order_and_kills_hide_none() -> Result<()> {
    let mut dice = dice("change_feed");
    let script = json!({ "latency": { "min_ms": 5, "max_ms": 50 }, "refusals": [
        { "class": "temporary", "probability": 0.1, "first_attempts": 1 },
        { "class": "no_such_recipient", "recipients": ["00000003"] },
    ] });
    let mut scene = Plan::new()
        .script(script)
        .paces(&[(200.0, 20)])
        .start()
        .await?;
    scene.rules.troubled_channel = true;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);
    for _ in 0..short_or_long(2, 10) {
        load.await_answers(dice.random_range(20..60), seconds(60))
            .await;
        scene.kill_and_start_again().await?;
    }
    load.await_answers(20, seconds(60)).await;
    load.stop().await;
    scene.customer.await_settled(seconds(60)).await;
    await_silence(&scene).await;

    let changes = scene.customer.changes().await;
    let mut told: BTreeMap<u64, Vec<Status>> = BTreeMap::new();
    for (id, status) in changes {
        told.entry(id).or_default().push(status);
    }
    for last in scene.customer.finals().await {
        let told = told.remove(&last.id).unwrap_or_default();
        assert_eq!(
            told.last(),
            Some(&last.status),
            "message {}: {told:?}",
            last.id
        );
        assert!(
            told.contains(&Status::Processing),
            "message {}: {told:?}",
            last.id
        );
        let stages: Vec<_> = told.iter().map(|status| stage(*status)).collect();
        assert!(
            stages.is_sorted(),
            "message {} went back: {told:?}",
            last.id
        );
    }
    assert!(
        told.is_empty(),
        "the feed names messages that are not there: {told:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_on_from_a_cursor_misses_nothing() -> Result<()> {
    let mut dice = dice("change_feed");
    let mut scene = Plan::new().start().await?;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);
    let (mut seen, mut after) = (Vec::new(), String::new());
    let mut read_on = async |scene: &Scene| {
        let path = format!("/messages/changes?limit=7{after}");
        let page = scene.customer.get(&path).await.expect_status(200).data();
        let changes = page["changes"].as_array().cloned().unwrap_or_default();
        if let Some(next) = page["next_cursor"].as_str() {
            after = format!("&after={next}");
        }
        let count = changes.len();
        let read = changes
            .iter()
            .map(|one| (one["message_id"].clone(), one["status"].clone()));
        seen.extend(read);
        count
    };

    for round in 0..40 {
        read_on(&scene).await;
        if round == 20 {
            scene.kill_and_start_again().await?;
        }
    }
    load.await_answers(10, seconds(60)).await;
    load.stop().await;
    scene.customer.await_settled(seconds(60)).await;
    await_silence(&scene).await;
    while read_on(&scene).await > 0 {}

    let all = scene.customer.changes().await;
    let seen: std::collections::BTreeSet<_> = seen
        .iter()
        .map(|(id, status)| (id.as_u64(), status.as_str().map(str::to_owned)))
        .collect();
    for (id, status) in all {
        let change = (Some(id), Some(status.label().to_owned()));
        assert!(seen.contains(&change), "{change:?} was missed");
    }
    Ok(())
}
