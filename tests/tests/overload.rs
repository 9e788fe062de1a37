//! Refuse before harm: a flood is answered with 429 or 503 and `Retry-After`, what is accepted in
//! it is kept, and a backlog takes no memory.

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinSet;
use zajil_tests::Scene;
use zajil_tests::checker::Held;
use zajil_tests::cluster::Setup;
use zajil_tests::customer::Letter;
use zajil_tests::form::short_or_long;
use zajil_tests::http::Failure;
use zajil_tests::load::number;
use zajil_tests::scene::Plan;

/// What a node may take at all in this scenario, far above what it needs and far below what a
/// flood that is held in memory would take.
const MEMORY: u64 = 512 << 20;

/// What a backlog of tens of thousands may add.
const BACKLOG_MEMORY: u64 = 96 << 20;

fn memory(scene: &Scene) -> Result<u64> {
    scene
        .engine
        .process()
        .and_then(|process| process.memory())
        .context("the node runs")
}

/// `senders` at once, each with `rounds` bulks of 100; answers how many bulks were accepted and
/// refused.
async fn flood(scene: &Scene, name: &str, senders: u32, rounds: u32) -> Result<(u32, u32)> {
    let mut tasks = JoinSet::new();
    for sender in 0..senders {
        let (customer, instance, name) =
            (scene.customer.clone(), scene.instance(), name.to_owned());
        tasks.spawn(async move {
            let (mut accepted, mut refused) = (0, 0);
            for round in 0..rounds {
                let letters: Vec<_> = (0..100)
                    .map(|n| Letter::to(&number(n), format!("{name}-{sender}-{round}-{n}")))
                    .collect();
                match customer.send_bulk(instance, &letters).await {
                    Ok(answer) if answer.status == 200 => accepted += 1,
                    Ok(answer) => {
                        let told = (answer.status, answer.number("retry-after").is_some());
                        assert!(
                            matches!(told, (429 | 503, true)),
                            "{told:?} {}",
                            answer.text()
                        );
                        refused += 1;
                    }
                    Err(Failure::NeverLeft(_)) => refused += 1,
                    Err(Failure::Lost(why)) => panic!("a flood got no answer: {why}"),
                }
            }
            (accepted, refused)
        });
    }
    let answers = tasks.join_all().await;
    Ok(answers
        .into_iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_refused_and_what_it_got_through_is_kept() -> Result<()> {
    let setup = Setup::new().with("api.max_in_flight", "8");
    let mut scene = Plan::new()
        .setup(setup)
        .paces(&[(1_000.0, 50)])
        .start()
        .await?;
    let pause = format!("/instances/{}/pause", scene.instance());
    scene
        .customer
        .post(&pause, &json!({}))
        .await
        .expect_status(200);
    scene.hold(Held::Instance(scene.instance()));

    let (accepted, refused) = flood(&scene, "flood", 64, short_or_long(6, 60)).await?;

    println!("{accepted} bulks accepted, {refused} refused");
    assert!(
        accepted > 0 && refused > 0,
        "{accepted} accepted, {refused} refused"
    );
    assert!(memory(&scene)? < MEMORY, "{} bytes", memory(&scene)?);
    let page = scene
        .customer
        .get("/messages?per_page=1")
        .await
        .expect_status(200)
        .data();
    assert_eq!(
        page["total"],
        u64::from(accepted) * 100,
        "exactly what was accepted is there"
    );

    scene.kill_and_start_again().await?;
    let page = scene
        .customer
        .get("/messages?per_page=1")
        .await
        .expect_status(200)
        .data();
    assert_eq!(page["total"], u64::from(accepted) * 100);
    assert_eq!(scene.whatsapp.frames(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_takes_no_memory() -> Result<()> {
    let scene = Scene::usual().await?;
    let pause = format!("/instances/{}/pause", scene.instance());
    scene
        .customer
        .post(&pause, &json!({}))
        .await
        .expect_status(200);
    let rounds = short_or_long(25, 500);
    flood(&scene, "warm", 4, rounds / 5).await?;

    let before = memory(&scene)?;
    let (accepted, _) = flood(&scene, "backlog", 4, rounds).await?;
    let after = memory(&scene)?;

    let more = after.saturating_sub(before);
    println!(
        "{} messages more, {} KiB more",
        accepted * 100,
        more / 1_024
    );
    assert!(
        more < BACKLOG_MEMORY,
        "{} messages took {more} bytes",
        accepted * 100
    );
    Ok(())
}
