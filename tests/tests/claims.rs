//! A channel that cannot tell a repetition: `kill -9` at any moment sends nothing a second time, loses
//! nothing, and leaves unknown no more than was claimed and had no outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use serde_json::{Value, json};
use zajil_model::lifecycle::Status;
use zajil_model::pace::ARM_AHEAD;
use zajil_tests::checker::{self, Evidence, Rules};
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::load::Load;
use zajil_tests::nodes;
use zajil_tests::operator::Pace;
use zajil_tests::scene;
use zajil_tests::wait::{millis, seconds};

/// What a claim takes longer than an append in a database, as its store says.
const CLAIM_LAG: Duration = Duration::from_millis(200);

/// A WhatsApp that shows a repeated id again.
fn forgetful() -> Value {
    json!({ "idempotent": false, "latency": { "min_ms": 5, "max_ms": 60 } })
}

/// Nothing is wrong in the books, each id left once, and what is unknown is what was on its way when
/// a node was killed: handed over just before, or `ahead` of its turn by the pace.
fn each_left_once(evidence: &Evidence, rules: &Rules, ahead: Duration) {
    let report = checker::check(evidence, rules);
    report.assert_clean();
    let mut frames: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for frame in &evidence.frames {
        let left = frames.entry(&frame.id).or_default();
        left.push(frame.handed_over_at);
    }
    let repeated: Vec<_> = frames.iter().filter(|(_, left)| left.len() > 1).collect();
    assert!(repeated.is_empty(), "left again: {repeated:?}");

    let finals = evidence.finals.iter();
    let unknown = finals.filter(|last| last.status == Status::Unknown);
    let wa_ids = unknown.map(|last| last.wa_id.as_deref());
    let left: Vec<_> = wa_ids.map(|id| frames.get(id?)?.first()).collect();
    let unseen = left.iter().filter(|left| left.is_none()).count();
    println!(
        "{} unknown, {unseen} of them never left: {report}",
        left.len()
    );
    let in_flight = rules.in_flight.as_micros() as i64;
    let is_near = |at: i64, kill: &i64| (kill - in_flight..=*kill).contains(&at);
    for at in left.into_iter().flatten() {
        let is_in_flight = rules.kills.iter().any(|kill| is_near(*at, kill));
        assert!(is_in_flight, "handed over at {at}, no kill near");
    }
    let armed = |pace: &Pace| pace.rate * ahead.as_secs_f64() + 2.0;
    let armed: f64 = rules.paces.values().map(armed).sum();
    let most = armed as usize * rules.kills.len();
    assert!(unseen <= most, "{unseen} never left, not {most}");
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
    each_left_once(&evidence, &scene.rules, ARM_AHEAD);
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
    each_left_once(&evidence, &nodes.rules, ARM_AHEAD + 2 * CLAIM_LAG);
    Ok(())
}
