//! Every message settles once, however troubled the channel: refusals of every kind, lost, late,
//! repeated and unknown answers, connections that drop, sessions that are restricted.

use anyhow::Result;
use serde_json::json;
use zajil_model::lifecycle::Status;
use zajil_tests::customer::{Letter, ids};
use zajil_tests::form::{dice, is_long, short_or_long, skipped};
use zajil_tests::load::{Load, number};
use zajil_tests::scene::Plan;
use zajil_tests::wait::seconds;

#[tokio::test(flavor = "multi_thread")]
async fn a_troubled_channel_leaves_nothing_unsettled() -> Result<()> {
    let mut dice = dice("settles");
    // A refusal for the sake of the instance holds it for half a minute.
    let restrictions = if is_long() {
        json!([{ "after_frames": 100, "for_ms": 500 }])
    } else {
        json!([])
    };
    let script = json!({
        "latency": { "min_ms": 1, "max_ms": 80 },
        "receipts": {
            "received": { "probability": 0.9, "min_ms": 0, "max_ms": 200 },
            "read": { "probability": 0.5, "min_ms": 0, "max_ms": 200 },
            "order": "any", "repeated": 0.2,
        },
        "refusals": [
            { "class": "no_such_recipient", "code": 404, "recipients": ["00000001"] },
            { "class": "not_allowed", "code": 463, "recipients": ["00000002"] },
            { "class": "invalid_content", "code": 479, "probability": 0.02 },
            { "class": "temporary", "probability": 0.1, "first_attempts": 2 },
            { "class": "throttled", "wait_ms": 300, "code": 429, "every": 250 },
        ],
        "repeated_acks": { "probability": 0.1, "times": 2 },
        "unknown_acks": { "probability": 0.05 },
        "nacks_after_sent":
            { "probability": 0.02, "min_ms": 20, "max_ms": 200, "class": "not_allowed", "code": 131 },
        "disconnects": [{ "every_frames": 150, "for_ms": 300 }],
        "restrictions": restrictions,
    });
    let mut scene = Plan::new()
        .script(script)
        .paces(&[(200.0, 20)])
        .start()
        .await?;
    scene.rules.troubled_channel = true;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);
    load.await_answers(short_or_long(100, 600), seconds(600))
        .await;
    load.stop().await;

    scene.verdict().await.assert_clean();
    let finals = scene.customer.finals().await;
    for last in finals.iter().filter(|last| last.recipient == number(1)) {
        assert_eq!(last.status, Status::Failed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_in_time_expires() -> Result<()> {
    if !is_long() {
        skipped(
            "what_cannot_be_sent_in_time_expires",
            "the shortest time to live is a minute",
        );
        return Ok(());
    }
    // A new instance begins with an empty bucket: one message goes after 50 s, the next after 100 s.
    let scene = Plan::new().paces(&[(0.02, 1)]).start().await?;
    let send = async |name: &str| {
        let body = json!({
            "instance": scene.instance(), "recipient": number(1), "content": name, "ttl": 60,
        });
        ids(&scene
            .customer
            .post("/messages/send", &body)
            .await
            .expect_status(201))[0]
    };

    let first = send("first").await;
    let second = send("second").await;

    scene
        .customer
        .await_status(first, Status::Read, seconds(80))
        .await;
    scene
        .customer
        .await_status(second, Status::Expired, seconds(120))
        .await;
    assert_eq!(scene.whatsapp.frames().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_comes_does_not_hold_a_message_for_ever() -> Result<()> {
    if !is_long() {
        skipped(
            "an_answer_that_never_comes",
            "an answer is waited for longer than a minute",
        );
        return Ok(());
    }
    let script = json!({ "missing_acks": { "probability": 0.3, "lost": 0.5 }, "receipts": null });
    let mut scene = Plan::new().script(script).start().await?;
    scene.rules.troubled_channel = true;
    let letters: Vec<_> = (0..40)
        .map(|n| Letter::to(&number(n), format!("letter {n}")))
        .collect();
    scene
        .customer
        .send_bulk(scene.instance(), &letters)
        .await?
        .expect_status(200);

    scene.customer.await_settled(seconds(900)).await;

    scene.verdict().await.assert_clean();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_later_goes_then_and_not_before() -> Result<()> {
    let mut scene = Plan::new().start().await?;
    let due = zajil_tests::clock::wall_micros() + short_or_long(4_000_000, 35_000_000);
    let body = json!({
        "instance": scene.instance(), "recipient": number(1), "content": "later",
        "send_at": jiff::Timestamp::from_microsecond(due)?.to_string(),
    });
    let id = ids(&scene
        .customer
        .post("/messages/send", &body)
        .await
        .expect_status(201))[0];

    scene.kill_and_start_again().await?;
    scene
        .customer
        .await_status(id, Status::Read, seconds(60))
        .await;

    let at = scene.whatsapp.frames()[0].handed_over_at;
    assert!(at >= due, "{} ms too early", (due - at) / 1_000);
    assert!(at < due + 3_000_000, "{} ms late", (at - due) / 1_000);
    Ok(())
}
