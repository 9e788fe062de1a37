//! A stop in good order: SIGTERM under load ends the node in time, with exit code 0, and loses
//! nothing.

use anyhow::Result;
use serde_json::json;
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::load::Load;
use zajil_tests::scene::Plan;
use zajil_tests::wait::seconds;

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_ends_in_time_and_loses_nothing() -> Result<()> {
    let mut dice = dice("shutdown");
    let slow_acks = json!({ "latency": { "min_ms": 50, "max_ms": 400 } });
    let mut scene = Plan::new()
        .script(slow_acks)
        .paces(&[(150.0, 10)])
        .start()
        .await?;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);

    for _ in 0..short_or_long(2, 10) {
        load.await_answers(40, seconds(60)).await;
        let ended = scene.engine.stop(seconds(20)).await?;
        assert_eq!(ended.code(), Some(0), "{}", scene.engine.log());
        scene.engine.start_again().await?;
    }
    load.await_answers(10, seconds(60)).await;
    load.stop().await;

    // No kill is written down: a stop in good order repeats no frame at all.
    scene.verdict().await.assert_clean();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_the_operator_asks_for_ends_the_node_in_good_order() -> Result<()> {
    let mut dice = dice("shutdown");
    let mut scene = Plan::new().start().await?;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);
    load.await_answers(20, seconds(60)).await;

    scene
        .operator
        .operations("/drain", json!({}))
        .await
        .expect_status(202);

    let (ended, _) = scene.engine.await_end(seconds(20)).await;
    assert_eq!(ended.code(), Some(0), "{}", scene.engine.log());
    scene.engine.start_again().await?;
    load.await_answers(10, seconds(60)).await;
    load.stop().await;
    scene.verdict().await.assert_clean();
    Ok(())
}
