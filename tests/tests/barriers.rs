//! Pause, cancel, purge and opt-out are barriers: once they answered, nothing of theirs is handed
//! to WhatsApp, however fast everything else goes on.

use anyhow::Result;
use http::Method;
use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::json;
use tokio::task::JoinSet;
use zajil_model::lifecycle::Status;
use zajil_tests::Scene;
use zajil_tests::checker::{Barrier, Held};
use zajil_tests::clock::wall_micros;
use zajil_tests::customer::{Letter, ids};
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::http::Sending;
use zajil_tests::load::{Load, number};
use zajil_tests::scene::Plan;
use zajil_tests::wait::{millis, seconds};

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_instance_hands_nothing_over() -> Result<()> {
    let mut dice = dice("barriers");
    let mut scene = Plan::new().paces(&[(300.0, 30)]).start().await?;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);
    let instance = scene.instance();
    let path = |verb: &str| format!("/instances/{instance}/{verb}");

    for _ in 0..short_or_long(5, 50) {
        load.await_answers(dice.random_range(1..20), seconds(60))
            .await;
        scene
            .customer
            .post(&path("pause"), &json!({}))
            .await
            .expect_status(200);
        scene.hold(Held::Instance(instance));
        load.await_answers(dice.random_range(1..20), seconds(60))
            .await;
        scene.rules.barriers.last_mut().expect("it was added").until = Some(wall_micros());
        scene
            .customer
            .post(&path("resume"), &json!({}))
            .await
            .expect_status(200);
    }
    load.stop().await;

    scene.verdict().await.assert_clean();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_a_kill() -> Result<()> {
    let mut scene = Scene::usual().await?;
    let pause = format!("/instances/{}/pause", scene.instance());
    scene
        .customer
        .post(&pause, &json!({}))
        .await
        .expect_status(200);
    scene.hold(Held::Instance(scene.instance()));

    scene.kill_and_start_again().await?;
    let letter = Letter::to(&number(1), "held");
    let id = ids(&scene
        .customer
        .send(scene.instance(), &letter)
        .await?
        .expect_status(201))[0];

    let record = scene
        .customer
        .get(&format!("/messages/{id}"))
        .await
        .expect_status(200)
        .data();
    assert_eq!(
        (&record["status"], &record["waiting_for"]),
        (&json!("pending"), &json!("paused"))
    );
    assert_eq!(scene.whatsapp.frames(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_message_is_never_sent() -> Result<()> {
    let mut dice = dice("barriers");
    // Slow enough that half of them still wait when their turn to be cancelled comes.
    let mut scene = Plan::new().paces(&[(60.0, 1)]).start().await?;
    let letters: Vec<_> = (0..90)
        .map(|n| Letter::to(&number(n % 30), format!("letter {n}")))
        .collect();
    let answer = scene.customer.send_bulk(scene.instance(), &letters).await?;
    let mut all = ids(&answer.expect_status(200));
    all.shuffle(&mut dice);

    let mut cancelled = 0;
    for some in all.chunks(6) {
        let mut askers = JoinSet::new();
        for id in some.iter().copied() {
            let customer = scene.customer.clone();
            askers.spawn(async move {
                let answer = customer
                    .post(&format!("/messages/{id}/cancel"), &json!({}))
                    .await;
                (id, answer.status, wall_micros())
            });
        }
        for (id, status, from) in askers.join_all().await {
            match status {
                200 => {
                    cancelled += 1;
                    scene.rules.barriers.push(Barrier {
                        of: Held::Message(id),
                        from,
                        until: None,
                    });
                }
                status => assert_eq!(status, 409),
            }
        }
    }

    scene.verdict().await.assert_clean();
    assert_eq!(scene.customer.count(Status::Cancelled).await, cancelled);
    assert!(
        (1..90).contains(&cancelled),
        "{cancelled} of 90 were cancelled: nothing raced"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_cancels_all_that_waits() -> Result<()> {
    let mut scene = Plan::new().paces(&[(50.0, 1)]).start().await?;
    let instance = scene.instance();
    for round in 0..4 {
        let letters: Vec<_> = (0..100)
            .map(|n| Letter::to(&number(n % 40), format!("{round}-{n}")))
            .collect();
        scene
            .customer
            .send_bulk(instance, &letters)
            .await?
            .expect_status(200);
    }
    let later = json!({
        "instance": instance, "recipient": number(1), "content": "later", "client_ref": "later",
        "send_at": in_an_hour(),
    });
    let scheduled = scene
        .customer
        .post("/messages/send", &later)
        .await
        .expect_status(201);
    assert_eq!(scheduled.data()["status"], "scheduled");

    let purge = format!("/instances/{instance}/purge");
    scene
        .customer
        .post(&purge, &json!({}))
        .await
        .expect_status(200);
    scene.hold(Held::Instance(instance));
    scene.customer.await_settled(seconds(20)).await;
    // Nothing waits any more: what comes now goes.
    scene.rules.barriers[0].until = Some(wall_micros());
    let after = scene
        .customer
        .send(instance, &Letter::to(&number(1), "after"))
        .await?;
    let after = ids(&after.expect_status(201))[0];
    scene
        .customer
        .await_status(after, Status::Read, seconds(20))
        .await;

    let mut evidence = scene.evidence().await;
    evidence.book.accepted.push(zajil_tests::ledger::Accepted {
        id: ids(&scheduled)[0],
        client_ref: "later".to_owned(),
        ..evidence.book.accepted[0].clone()
    });
    zajil_tests::checker::check(&evidence, &scene.rules).assert_clean();
    assert!(scene.customer.count(Status::Cancelled).await > 200);
    assert_eq!(
        scene.customer.status(ids(&scheduled)[0]).await,
        Status::Cancelled
    );
    Ok(())
}

fn in_an_hour() -> String {
    let micros = wall_micros() + 3_600_000_000;
    jiff::Timestamp::from_microsecond(micros)
        .expect("an hour from now is a time")
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_to_who_opted_out() -> Result<()> {
    let mut dice = dice("barriers");
    let mut scene = Plan::new().paces(&[(60.0, 1)]).start().await?;
    let instance = scene.instance();
    let letters: Vec<_> = (0..100)
        .map(|n| Letter::to(&number(n % 10), format!("letter {n}")))
        .collect();
    scene
        .customer
        .send_bulk(instance, &letters)
        .await?
        .expect_status(200);

    let gone: Vec<_> = (0..5).map(number).collect();
    for phone in &gone {
        tokio::time::sleep(millis(dice.random_range(0..80))).await;
        let body = json!({ "phone_number": phone, "reason": "asked to stop" });
        scene
            .customer
            .post("/suppressions", &body)
            .await
            .expect_status(201);
        scene.hold(Held::Recipient(phone.clone()));
    }
    let refused = scene
        .customer
        .send(instance, &Letter::to(&gone[0], "refused"))
        .await?;
    assert_eq!(
        refused.expect_status(403).error_code(),
        "recipient_suppressed"
    );

    scene.kill_and_start_again().await?;
    let again = scene
        .customer
        .send(instance, &Letter::to(&gone[1], "refused, too"))
        .await?;
    assert_eq!(
        again.expect_status(403).error_code(),
        "recipient_suppressed"
    );
    scene.verdict().await.assert_clean();
    assert!(
        scene.customer.count(Status::Suppressed).await > 0,
        "everything had left before"
    );

    let path = format!("/suppressions/{}", gone[2]);
    scene
        .customer
        .ask(Method::DELETE, &path, Sending::nothing())
        .await?
        .expect_status(200);
    let back = scene
        .customer
        .send(instance, &Letter::to(&gone[2], "back"))
        .await?;
    let id = ids(&back.expect_status(201))[0];
    scene
        .customer
        .await_status(id, Status::Read, seconds(20))
        .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_deleted_sends_nothing_more() -> Result<()> {
    let mut scene = Plan::new().paces(&[(40.0, 1)]).start().await?;
    let instance = scene.instance();
    let letters: Vec<_> = (0..100)
        .map(|n| Letter::to(&number(n % 20), format!("letter {n}")))
        .collect();
    let answer = scene
        .customer
        .send_bulk(instance, &letters)
        .await?
        .expect_status(200);
    let some = async || (scene.whatsapp.frames().len() > 5).then_some(());
    zajil_tests::until("it sends", seconds(20), some).await;

    let path = format!("/instances/{instance}");
    let deleted = scene
        .operator
        .dashboard(scene.account.id, Method::DELETE, &path, None)
        .await;
    assert!(deleted.is_good(), "{}", deleted.text());
    scene.hold(Held::Instance(instance));

    let refused = scene
        .customer
        .send(instance, &Letter::to(&number(1), "late"))
        .await?;
    refused.expect_status(422);
    scene.kill_and_start_again().await?;
    let settled = async || {
        let mut left = 0;
        for id in ids(&answer) {
            let status = scene.customer.get(&format!("/messages/{id}/status")).await;
            left += usize::from(
                ["pending", "processing"]
                    .contains(&status.data()["status"].as_str().unwrap_or_default()),
            );
        }
        left
    };
    zajil_tests::eventually(seconds(20), 0, settled).await;
    let from = scene.rules.barriers[0].from;
    let late = scene
        .whatsapp
        .frames()
        .iter()
        .filter(|frame| frame.handed_over_at > from)
        .count();
    assert_eq!(late, 0, "frames left after the instance was deleted");
    Ok(())
}
