//! One `Idempotency-Key`, one message: for twins at once, for repeats after a kill, and never for
//! another body.

use anyhow::Result;
use http::Method;
use rand::Rng;
use serde_json::json;
use tokio::task::JoinSet;
use zajil_tests::Scene;
use zajil_tests::customer::{Letter, ids};
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::http::{Answer, Failure, Sending};
use zajil_tests::load::number;
use zajil_tests::wait::millis;

const REPLAYED: &str = "idempotency-replayed";

/// Sends a letter once, under the key that is its name.
async fn once(scene: &Scene, letter: &Letter) -> Result<Answer, Failure> {
    let body = Sending::json(&letter.body(scene.instance()));
    let sending = body.with("idempotency-key", &letter.name);
    scene
        .customer
        .ask(Method::POST, "/messages/send", sending)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_at_once_make_one_message() -> Result<()> {
    let scene = Scene::usual().await?;
    let letter = Letter::to(&number(1), "twin");

    let mut twins = JoinSet::new();
    for _ in 0..20 {
        let (customer, letter, instance) =
            (scene.customer.clone(), letter.clone(), scene.instance());
        twins.spawn(async move { customer.send_surely(instance, &letter).await });
    }
    let answers = twins.join_all().await;

    let first: Vec<_> = answers
        .iter()
        .map(|answer| (answer.status, ids(answer)))
        .collect();
    assert!(first.iter().all(|one| *one == first[0]), "{first:?}");
    let fresh = answers
        .iter()
        .filter(|answer| answer.header(REPLAYED).is_none())
        .count();
    assert_eq!(fresh, 1, "all but one are replays");
    assert_eq!(scene.customer.list().await.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_after_a_kill_gets_the_first_answer() -> Result<()> {
    let mut scene = Scene::usual().await?;
    let letter = Letter::to(&number(1), "again");
    let first = once(&scene, &letter).await?.expect_status(201);

    scene.kill_and_start_again().await?;
    let again = once(&scene, &letter).await?.expect_status(201);

    assert_eq!(again.body, first.body);
    assert_eq!(again.header(REPLAYED), Some("true"));
    assert_eq!(scene.customer.list().await.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_kill_cut_is_done_once_when_it_is_repeated() -> Result<()> {
    let mut dice = dice("idempotency");
    let mut scene = Scene::usual().await?;
    let rounds: u32 = short_or_long(5, 40);

    for round in 0..rounds {
        let mut askers = JoinSet::new();
        for n in 0..8 {
            let letter = Letter::to(&number(n), format!("cut-{round}-{n}"));
            let (customer, instance) = (scene.customer.clone(), scene.instance());
            askers.spawn(async move { customer.send_surely(instance, &letter).await });
        }
        // So that the kill falls on any step of an accept.
        tokio::time::sleep(millis(dice.random_range(0..25))).await;
        scene.kill_and_start_again().await?;
        for answer in askers.join_all().await {
            answer.expect_status(201);
        }
    }

    let report = scene.verdict().await;
    report.assert_clean();
    assert_eq!(report.shown, rounds as usize * 8, "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_body_under_the_same_key_is_refused() -> Result<()> {
    let scene = Scene::usual().await?;
    once(&scene, &Letter::to(&number(1), "key"))
        .await?
        .expect_status(201);

    let other = once(&scene, &Letter::to(&number(2), "key"))
        .await?
        .expect_status(422);

    assert_eq!(other.error_code(), "idempotency_mismatch");
    assert_eq!(scene.customer.list().await.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_kept() -> Result<()> {
    let scene = Scene::usual().await?;
    let sending = Sending::json(&json!({ "instance": "nobody" })).with("idempotency-key", "key");
    let refused = scene
        .customer
        .ask(Method::POST, "/messages/send", sending)
        .await?;
    refused.expect_status(422);

    let good = once(&scene, &Letter::to(&number(1), "key"))
        .await?
        .expect_status(201);

    assert_eq!(good.header(REPLAYED), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_bulk_gets_the_same_ids_and_the_same_refusals() -> Result<()> {
    let mut scene = Scene::usual().await?;
    let body = json!({ "instance": scene.instance(), "messages": [
        { "recipient": number(1), "content": "good" },
        { "recipient": "nobody", "content": "bad" },
        { "recipient": number(2), "content": "good, too" },
    ] });
    let bulk = async |scene: &Scene| {
        let sending = Sending::json(&body).with("idempotency-key", "bulk");
        scene
            .customer
            .ask(Method::POST, "/messages/send-bulk", sending)
            .await
    };
    let first = bulk(&scene).await?.expect_status(200);

    scene.kill_and_start_again().await?;
    let again = bulk(&scene).await?.expect_status(200);

    assert_eq!(again.body, first.body);
    assert_eq!(
        (ids(&again).len(), again.data()["failure_count"].as_u64()),
        (2, Some(1))
    );
    assert_eq!(scene.customer.list().await.len(), 2);
    Ok(())
}
