//! Order and pace: a recipient sees messages in the order in which they were accepted, an instance
//! never sends faster than it may and hardly slower, and who is held delays nobody else.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use zajil_model::lifecycle::Status;
use zajil_tests::customer::{Letter, ids};
use zajil_tests::form::{dice, is_long, short_or_long};
use zajil_tests::load::{Load, number};
use zajil_tests::operator::Pace;
use zajil_tests::scene::Plan;
use zajil_tests::wait::{millis, seconds};

/// The share of its rate that a busy instance must reach. The promise is 99 %; a short run on a
/// machine that does other things as well is measured less strictly.
fn least_share() -> f64 {
    if is_long() { 0.99 } else { 0.9 }
}

fn letters(count: u32, recipients: u32) -> Vec<Letter> {
    (0..count)
        .map(|n| Letter::to(&number(n % recipients), format!("letter {n}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_instance_keeps_its_pace_and_reaches_it() -> Result<()> {
    let rate = 50.0;
    let scene = Plan::new().paces(&[(rate, 5)]).start().await?;
    let count = short_or_long(200, 3_000);
    for some in letters(count, 60).chunks(100) {
        scene
            .customer
            .send_bulk(scene.instance(), some)
            .await?
            .expect_status(200);
    }

    scene.verdict().await.assert_clean();

    let frames = scene.whatsapp.frames();
    let took = frames[frames.len() - 1].handed_over_at - frames[0].handed_over_at;
    let reached = (frames.len() - 1) as f64 / (took as f64 / 1e6);
    println!("reached {reached:.2} of {rate} a second");
    assert!(
        reached >= least_share() * rate,
        "only {reached:.2} of {rate} a second"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pace_and_order_hold_across_kills() -> Result<()> {
    let mut scene = Plan::new()
        .script(json!({ "latency": { "min_ms": 10, "max_ms": 80 } }))
        .paces(&[(40.0, 4)])
        .start()
        .await?;
    for some in letters(200, 9).chunks(50) {
        scene
            .customer
            .send_bulk(scene.instance(), some)
            .await?
            .expect_status(200);
    }
    for _ in 0..short_or_long(3, 20) {
        let seen = scene.whatsapp.frames().len();
        let more = async || (scene.whatsapp.frames().len() > seen + 5).then_some(());
        zajil_tests::until("some frames more", seconds(30), more).await;
        scene.kill_and_start_again().await?;
    }

    scene.verdict().await.assert_clean();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_pace_is_in_force_at_once() -> Result<()> {
    let scene = Plan::new().paces(&[(5.0, 1)]).start().await?;
    let instance = scene.instance();
    let some = letters(100, 20);
    scene
        .customer
        .send_bulk(instance, &some)
        .await?
        .expect_status(200);

    scene
        .operator
        .set_pace(
            scene.account.id,
            instance,
            Pace {
                rate: 400.0,
                burst: 5,
            },
        )
        .await;

    // At five a second it would take twenty seconds.
    scene.customer.await_settled(seconds(5)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_held_delays_nobody_else_and_keeps_order() -> Result<()> {
    let mut dice = dice("order_and_pace");
    // Number 7 is refused for a while, one in ten of the others now and then.
    let held = number(7);
    let script = json!({ "refusals": [
        { "class": "temporary", "recipients": ["00000007"], "first_attempts": 2 },
        { "class": "temporary", "probability": 0.1, "first_attempts": 1 },
    ] });
    let mut scene = Plan::new()
        .script(script)
        .paces(&[(200.0, 20)])
        .start()
        .await?;
    scene.rules.troubled_channel = true;
    let first = scene
        .customer
        .send(scene.instance(), &Letter::to(&held, "held first"))
        .await?;
    let second = scene
        .customer
        .send(scene.instance(), &Letter::to(&held, "held second"))
        .await?;
    let (first, second) = (
        ids(&first.expect_status(201))[0],
        ids(&second.expect_status(201))[0],
    );

    let other = scene
        .customer
        .send(scene.instance(), &Letter::to(&number(8), "other"))
        .await?;
    let other = ids(&other.expect_status(201))[0];
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);
    load.await_answers(60, seconds(60)).await;
    load.stop().await;

    scene
        .customer
        .await_status(other, Status::Read, seconds(20))
        .await;
    scene.verdict().await.assert_clean();
    let shown_at = |id: u64| {
        let (customer, whatsapp) = (&scene.customer, &scene.whatsapp);
        async move {
            let told = customer.get(&format!("/messages/{id}/status")).await.data();
            let wa_id = told["message_key"]["id"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let frames = whatsapp.frames();
            let shown = frames.iter().find(|frame| frame.shown && frame.id == wa_id);
            shown.map(|frame| frame.received_at)
        }
    };
    let [first, second, other] = [
        shown_at(first).await,
        shown_at(second).await,
        shown_at(other).await,
    ];
    assert!(first.is_some() && first < second, "{first:?} {second:?}");
    assert!(other < first, "the other one waited for who was held");
    let apart = Duration::from_micros(first.unwrap_or(0).abs_diff(other.unwrap_or(0)));
    assert!(apart > millis(500), "nobody was held: {apart:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_message_overtakes_a_backlog() -> Result<()> {
    let scene = Plan::new().paces(&[(40.0, 1)]).start().await?;
    scene
        .customer
        .send_bulk(scene.instance(), &letters(100, 20))
        .await?
        .expect_status(200);

    let urgent = Letter::to(&number(99), "urgent").urgent();
    let id = ids(&scene
        .customer
        .send(scene.instance(), &urgent)
        .await?
        .expect_status(201))[0];

    let sent = async || scene.customer.status(id).await.is_settled().then_some(());
    zajil_tests::until("the urgent one is sent", seconds(10), sent).await;
    let waiting = scene.customer.count(Status::Pending).await;
    assert!(waiting > 20, "the backlog was gone before: {waiting}");
    scene.verdict().await.assert_clean();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_frozen_catches_up_no_more_than_its_burst() -> Result<()> {
    let scene = Plan::new().paces(&[(40.0, 6)]).start().await?;
    for some in letters(200, 30).chunks(100) {
        scene
            .customer
            .send_bulk(scene.instance(), some)
            .await?
            .expect_status(200);
    }

    for _ in 0..short_or_long(2, 10) {
        let process = scene.engine.process().expect("the node runs");
        process.freeze(millis(700)).await?;
        tokio::time::sleep(millis(300)).await;
    }

    scene.verdict().await.assert_clean();
    Ok(())
}
