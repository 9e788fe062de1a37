//! A node that ends, or whose disk fails once, at each named step of its store: nothing that was
//! accepted is lost, and nothing is said that is false.

use std::os::unix::process::ExitStatusExt;

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;
use zajil_node::node::EXIT_STORE_FAILED;
use zajil_storage::embedded::log::Failpoints;
use zajil_tests::cluster::Setup;
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::load::Load;
use zajil_tests::scene::{Plan, Scene};
use zajil_tests::stand_in::{self, Act, StandIn, Trap};
use zajil_tests::wait::seconds;

/// How the system tells that a process aborted.
const SIGABRT: i32 = 6;

/// Small segments, so that a few seconds of load fill some.
const SEGMENT_BYTES: u64 = 256 << 10;

/// How long a step may take to be reached: a segment lasts seconds.
const REACHED_WITHIN: std::time::Duration = seconds(90);

#[test]
#[ignore = "acts the node in the scenarios here, which start it in processes of its own"]
fn acts_the_node() -> Result<()> {
    stand_in::act()
}

fn node(direct: bool, trap: Option<Trap>) -> StandIn {
    StandIn {
        test: "acts_the_node".to_owned(),
        segment_bytes: SEGMENT_BYTES,
        direct,
        trap,
    }
}

/// A trap at a step, at a hit that a short load reaches.
fn trap(step: &str, act: Act, dice: &mut StdRng) -> Trap {
    let most = match step {
        // A start prepares two, and each that is filled one more.
        Failpoints::SEGMENT_ROLL | Failpoints::SEGMENT_PREPARED => 1,
        // One each second.
        Failpoints::FLUSH | Failpoints::FLUSHED => 3,
        _ => 80,
    };
    Trap {
        step: step.to_owned(),
        hit: dice.random_range(1..=most),
        act,
    }
}

async fn scene() -> Result<Scene> {
    let slow_acks = json!({ "latency": { "min_ms": 5, "max_ms": 60 } });
    Plan::new()
        .script(slow_acks)
        .paces(&[(150.0, 10), (90.0, 3)])
        .setup(Setup::new().acted_by(node(true, None)))
        .start()
        .await
}

/// Springs each trap in turn under load, starting the node again in between; answers how its
/// process ended each time.
async fn spring(
    scene: &mut Scene,
    traps: Vec<Trap>,
    dice: &mut StdRng,
) -> Result<Vec<std::process::ExitStatus>> {
    let load = Load::on(&scene.instances).start(&scene.customer, dice);
    let mut ends = Vec::new();
    for trap in traps {
        load.await_answers(dice.random_range(5..20), seconds(60))
            .await;
        println!("{} at hit {}", trap.step, trap.hit);
        // Past the page cache, writes sync by themselves and there is no step for it.
        let direct = trap.step != Failpoints::BEFORE_SYNC;
        scene.engine.act_by(node(direct, Some(trap)));
        // A trap may be sprung before the node is ready.
        if let Err(error) = scene.kill_and_start_again().await {
            println!("{}", error.to_string().lines().next().unwrap_or_default());
        }
        let (ended, at) = scene.engine.await_end(REACHED_WITHIN).await;
        scene.rules.kills.push(at);
        ends.push(ended);

        scene.engine.act_by(node(true, None));
        scene.engine.start_again().await?;
    }
    load.await_answers(20, seconds(60)).await;
    load.stop().await;
    Ok(ends)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_at_any_step_of_the_store_loses_nothing() -> Result<()> {
    let mut dice = dice("killed_at_failpoints");
    let mut scene = scene().await?;
    let mut steps = Failpoints::ALL.to_vec();
    for _ in steps.len()..short_or_long(steps.len(), 50) {
        steps.extend(Failpoints::ALL.choose(&mut dice));
    }
    let traps = steps
        .into_iter()
        .map(|step| trap(step, Act::Abort, &mut dice))
        .collect();

    let ends = spring(&mut scene, traps, &mut dice).await?;

    for ended in ends {
        assert_eq!(ended.signal(), Some(SIGABRT), "{ended}");
    }
    scene.verdict().await.assert_clean();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_store_that_fails_once_ends_the_node_and_loses_nothing() -> Result<()> {
    let mut dice = dice("killed_at_failpoints");
    let mut scene = scene().await?;
    let mut traps = Vec::new();
    for _ in 0..short_or_long(1, 8) {
        for step in Failpoints::ALL {
            traps.push(trap(step, Act::Fail, &mut dice));
        }
    }

    let ends = spring(&mut scene, traps, &mut dice).await?;

    for ended in ends {
        assert_eq!(ended.code(), Some(EXIT_STORE_FAILED), "{ended}");
    }
    scene.verdict().await.assert_clean();
    Ok(())
}
