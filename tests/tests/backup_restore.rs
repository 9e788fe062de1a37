//! A backup of a running node is consistent, and a node that is restored from it sends nothing that
//! may have been sent already until somebody decides what is to become of it.

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use zajil_model::lifecycle::Status;
use zajil_tests::Scene;
use zajil_tests::cluster::{Engine, Setup};
use zajil_tests::customer::{Letter, ids};
use zajil_tests::form::dice;
use zajil_tests::load::{Load, number};
use zajil_tests::program;
use zajil_tests::scene::Plan;
use zajil_tests::wait::seconds;

/// A scene whose node was backed up under load, with `waiting` messages that wait in it, and then
/// lost.
struct Lost {
    scene: Scene,
    waiting: Vec<u64>,
    read_before: Vec<u64>,
}

impl Lost {
    async fn new() -> Result<Self> {
        let mut dice = dice("backup_restore");
        // The second instance hardly sends: what it was given waits.
        let mut scene = Plan::new().paces(&[(200.0, 20), (0.1, 1)]).start().await?;
        let read_before = {
            let letters: Vec<_> = (0..30)
                .map(|n| Letter::to(&number(n), format!("early {n}")))
                .collect();
            let answer = scene
                .customer
                .send_bulk(scene.instances[0], &letters)
                .await?;
            let all = ids(&answer.expect_status(200));
            for id in &all {
                scene
                    .customer
                    .await_status(*id, Status::Read, seconds(20))
                    .await;
            }
            all
        };
        let pause = format!("/instances/{}/pause", scene.instances[1]);
        scene
            .customer
            .post(&pause, &json!({}))
            .await
            .expect_status(200);
        let letters: Vec<_> = (0..20)
            .map(|n| Letter::to(&number(n), format!("waits {n}")))
            .collect();
        let answer = scene
            .customer
            .send_bulk(scene.instances[1], &letters)
            .await?;
        let waiting = ids(&answer.expect_status(200));

        let load = Load::on(&scene.instances[..1]).start(&scene.customer, &mut dice);
        load.await_answers(20, seconds(60)).await;
        let file = scene.folder.path().join("backup");
        let answer = scene
            .operator
            .operations("/backup", json!({ "file": file }))
            .await;
        answer.expect_status(200);
        load.await_answers(20, seconds(60)).await;
        load.stop().await;
        scene.engine.kill().await;
        Ok(Self {
            scene,
            waiting,
            read_before,
        })
    }

    /// A node on what the backup holds.
    async fn restored(&self) -> Result<Engine> {
        let folder = self.scene.folder.path();
        let data = folder.join("restored");
        let backup = folder.join("backup");
        program::run(
            &["restore", text(&backup), "--data-dir", text(&data)],
            folder,
        )
        .await?;
        Engine::start(&data, Setup::new().with("node.first_run", "never")).await
    }
}

fn text(path: &Path) -> &str {
    path.to_str()
        .expect("the path of a temporary folder is text")
}

/// Resumes the instance that waited, so that only the hold keeps it back.
async fn resume(engine: &Engine, lost: &Lost) {
    let customer = engine.operator().customer(&lost.scene.customer.key());
    let resume = format!("/instances/{}/resume", lost.scene.instances[1]);
    customer.post(&resume, &json!({})).await.expect_status(200);
    let pace = zajil_tests::operator::Pace {
        rate: 200.0,
        burst: 20,
    };
    let account = lost.scene.account.id;
    engine
        .operator()
        .set_pace(account, lost.scene.instances[1], pace)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_holds_what_waited_and_settles_it_as_unknown() -> Result<()> {
    let lost = Lost::new().await?;
    let frames = lost.scene.whatsapp.frames().len();

    let engine = lost.restored().await?;
    let customer = engine.operator().customer(&lost.scene.customer.key());
    for id in &lost.read_before {
        assert_eq!(customer.status(*id).await, Status::Read);
    }
    resume(&engine, &lost).await;
    for id in &lost.waiting {
        assert!(!customer.status(*id).await.is_settled());
    }

    let released = engine
        .operator()
        .operations("/restore/release", json!({}))
        .await;
    let settled = released.expect_status(200).data()["settled"].as_u64();
    assert!(settled >= Some(lost.waiting.len() as u64), "{settled:?}");
    customer.await_settled(seconds(20)).await;
    for id in &lost.waiting {
        assert_eq!(customer.status(*id).await, Status::Unknown);
    }
    assert_eq!(
        lost.scene.whatsapp.frames().len(),
        frames,
        "a restored node sent something"
    );

    let letter = Letter::to(&number(1), "new");
    let new = customer
        .send(lost.scene.instances[1], &letter)
        .await?
        .expect_status(201);
    customer
        .await_status(ids(&new)[0], Status::Read, seconds(20))
        .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_is_sent_when_somebody_decides_so() -> Result<()> {
    let lost = Lost::new().await?;
    let mut engine = lost.restored().await?;
    let customer = engine.operator().customer(&lost.scene.customer.key());
    resume(&engine, &lost).await;

    // The hold outlives a kill.
    engine.kill().await;
    engine.start_again().await?;
    for id in &lost.waiting {
        assert!(!customer.status(*id).await.is_settled());
    }
    let data = text(engine.folder());
    program::run(
        &["restore", "release", "--resend", "--data-dir", data],
        engine.folder(),
    )
    .await?;

    for id in &lost.waiting {
        customer.await_status(*id, Status::Read, seconds(20)).await;
    }
    let frames = lost.scene.whatsapp.frames();
    let shown: std::collections::BTreeSet<_> = frames
        .iter()
        .filter(|frame| frame.shown)
        .map(|frame| &frame.id)
        .collect();
    assert_eq!(
        shown.len(),
        frames.iter().filter(|frame| frame.shown).count(),
        "shown twice"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_overwrites_nothing_and_a_restore_needs_an_empty_folder() -> Result<()> {
    let scene = Scene::usual().await?;
    let folder = scene.folder.path();
    let file = folder.join("backup");
    let again = async || {
        scene
            .operator
            .operations("/backup", json!({ "file": file }))
            .await
    };

    again().await.expect_status(200);
    again().await.expect_status(409);

    let full = text(scene.engine.folder());
    let refused = program::run(&["restore", text(&file), "--data-dir", full], folder).await;
    assert!(
        refused.is_err(),
        "a restore went over a folder that is in use"
    );
    Ok(())
}
