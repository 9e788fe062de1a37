//! A channel that cannot tell a repetition: `kill -9` at any moment sends nothing a second time, loses
//! nothing, and leaves unknown no more than was claimed and had no outcome.

use std::collections::BTreeMap;

use anyhow::Result;
use rand::Rng;
use serde_json::{Value, json};
use zajil_model::lease::shard::MAX_CLAIMS;
use zajil_model::lifecycle::Status;
use zajil_tests::checker::{self, Evidence, Rules};
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::load::Load;
use zajil_tests::nodes;
use zajil_tests::scene;
use zajil_tests::wait::{millis, seconds};

/// A WhatsApp that shows a repeated id again.
fn forgetful() -> Value {
    json!({ "idempotent": false, "latency": { "min_ms": 5, "max_ms": 60 } })
}

/// Nothing is wrong in the books, each id left once, and at most so many messages are unknown.
fn each_left_once(evidence: &Evidence, rules: &Rules, most_unknown: usize) {
    let report = checker::check(evidence, rules);
    report.assert_clean();
    let mut frames: BTreeMap<&str, usize> = BTreeMap::new();
    for frame in &evidence.frames {
        *frames.entry(&frame.id).or_default() += 1;
    }
    let repeated: Vec<_> = frames.iter().filter(|(_, count)| **count > 1).collect();
    assert!(repeated.is_empty(), "left again: {repeated:?}");
    let is_unknown = |status| status == Status::Unknown;
    let finals = evidence.finals.iter();
    let unknown = finals.filter(|last| is_unknown(last.status)).count();
    println!("{unknown} of {} unknown: {report}", report.accepted);
    assert!(unknown <= most_unknown, "{unknown} are unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_repeats_nothing_that_was_claimed_and_loses_nothing() -> Result<()> {
    let mut dice = dice("claims");
    let kills = short_or_long(5, 40);
    let mut scene = scene::Plan::new()
        .script(forgetful())
        .paces(&[(150.0, 10), (90.0, 3)])
        .start()
        .await?;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);

    for _ in 0..kills {
        load.await_answers(dice.random_range(10..50), seconds(60))
            .await;
        tokio::time::sleep(millis(dice.random_range(0..200))).await;
        scene.kill_and_start_again().await?;
    }
    load.await_answers(20, seconds(60)).await;
    load.stop().await;

    let evidence = scene.evidence().await;
    let most_unknown = kills * scene.instances.len() * MAX_CLAIMS;
    each_left_once(&evidence, &scene.rules, most_unknown);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_owner_repeats_nothing_that_was_claimed_and_loses_nothing() -> Result<()> {
    let mut dice = dice("claims");
    let plan = nodes::Plan::new().script(forgetful());
    let Some(mut nodes) = plan.start("claims").await? else {
        return Ok(());
    };
    let load = Load::on(&nodes.instances).start(&nodes.customer, &mut dice);

    let kills = short_or_long(1, 10);
    for round in 0..kills {
        load.await_answers(30, seconds(60)).await;
        let instance = nodes.instances[round % nodes.instances.len()];
        let owner = nodes.owner(instance).await;
        let killed = nodes.kill(owner).await;
        nodes.await_sends(instance, killed, seconds(40)).await;
        nodes.start(owner).await?;
    }
    load.await_answers(30, seconds(60)).await;
    load.stop().await;

    let evidence = nodes.evidence().await;
    let most_unknown = kills * nodes.instances.len() * MAX_CLAIMS;
    each_left_once(&evidence, &nodes.rules, most_unknown);
    Ok(())
}
