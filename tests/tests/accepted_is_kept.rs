//! Accepted is kept: `kill -9` at any moment, again and again under load, loses no message that
//! was accepted, shows none twice, keeps every order and pace, and makes the API say nothing false.

use anyhow::Result;
use rand::Rng;
use serde_json::json;
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::load::Load;
use zajil_tests::scene::Plan;
use zajil_tests::wait::{millis, seconds};

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_loses_nothing_and_repeats_nothing() -> Result<()> {
    let mut dice = dice("accepted_is_kept");
    let kills = short_or_long(8, 50);
    let slow_acks = json!({ "latency": { "min_ms": 5, "max_ms": 60 } });
    let mut scene = Plan::new()
        .script(slow_acks)
        .paces(&[(150.0, 10), (90.0, 3)])
        .start()
        .await?;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);

    for _ in 0..kills {
        load.await_answers(dice.random_range(1..50), seconds(60))
            .await;
        // So that the kill falls anywhere between two answers.
        tokio::time::sleep(millis(dice.random_range(0..60))).await;
        scene.kill_and_start_again().await?;
    }
    load.await_answers(20, seconds(60)).await;
    load.stop().await;

    let report = scene.verdict().await;
    report.assert_clean();
    assert!(
        report.accepted > 10 * kills,
        "the load was too small to prove anything: {report}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_survives_a_kill_right_after_its_answer() -> Result<()> {
    let mut dice = dice("accepted_is_kept");
    let mut scene = Plan::new().start().await?;

    for round in 0..short_or_long(3, 30) {
        let letters: Vec<_> = (0..dice.random_range(2..=100))
            .map(|n| zajil_tests::customer::Letter::to("+966500000001", format!("{round}-{n}")))
            .collect();
        let answer = scene.customer.send_bulk(scene.instance(), &letters).await?;
        scene.kill_and_start_again().await?;

        answer.expect_status(200);
    }

    scene.verdict().await.assert_clean();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_nothing_of_many_numbers_either() -> Result<()> {
    let mut dice = dice("accepted_is_kept");
    let paces = vec![(10.0, 2); short_or_long(40, 400)];
    let mut scene = Plan::new().paces(&paces).start().await?;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);

    for _ in 0..short_or_long(3, 20) {
        load.await_answers(dice.random_range(20..60), seconds(60))
            .await;
        scene.kill_and_start_again().await?;
    }
    load.await_answers(20, seconds(60)).await;
    load.stop().await;

    scene.verdict().await.assert_clean();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_else_was_confirmed_survives_a_kill_too() -> Result<()> {
    let mut scene = Plan::new().start().await?;
    let made = [
        (
            "/contacts",
            json!({ "phone_number": "+966500000001", "name": "One", "group_id": 5 }),
        ),
        (
            "/templates",
            json!({ "name": "t", "message_type": "text", "content": "Hi {{name}}" }),
        ),
        (
            "/suppressions",
            json!({ "phone_number": "+966500000002", "reason": "asked" }),
        ),
        (
            "/batches",
            json!({ "name": "b", "instance": "number-0", "content": "Hello" }),
        ),
    ];
    for (path, document) in &made {
        scene.customer.post(path, document).await.expect_status(201);
        scene.kill_and_start_again().await?;
    }
    let key = scene.operator.make_key(scene.account.id, 1_000).await;
    scene.kill_and_start_again().await?;

    let customer = scene.operator.customer(&key);
    for (path, document) in made {
        let page = customer.get(path).await.expect_status(200).data();
        let [kept] = page["data"].as_array().map_or(&[][..], Vec::as_slice) else {
            panic!("{path}: {page}")
        };
        for field in ["phone_number", "name", "group_id", "content", "reason"] {
            let told = kept.get(field).filter(|_| document.get(field).is_some());
            assert!(
                told.is_none() || told == document.get(field),
                "{path}: {kept}"
            );
        }
    }
    Ok(())
}
