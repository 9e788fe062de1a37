//! `kill -9` of owners under load, and a node that is frozen past its lease: others go on, nothing
//! is lost, nothing is shown twice, no pace is exceeded.

use anyhow::Result;
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::load::Load;
use zajil_tests::nodes::Plan;
use zajil_tests::wait::seconds;

#[tokio::test(flavor = "multi_thread")]
async fn owners_that_are_killed_under_load_lose_nothing_and_repeat_nothing() -> Result<()> {
    let mut dice = dice("cluster_kills");
    let Some(mut nodes) = Plan::new().start("cluster kills").await? else {
        return Ok(());
    };
    let load = Load::on(&nodes.instances).start(&nodes.customer, &mut dice);

    for round in 0..short_or_long(5, 20) {
        load.await_answers(30, seconds(60)).await;
        let instance = nodes.instances[round % nodes.instances.len()];
        let owner = nodes.owner(instance).await;
        let killed = nodes.kill(owner).await;
        let paused = nodes.await_sends(instance, killed, seconds(40)).await;
        println!("round {round}: instance {instance} of node {owner} paused {paused:?}");
        nodes.start(owner).await?;
    }
    load.await_answers(30, seconds(60)).await;
    load.stop().await;

    let report = nodes.verdict().await;
    println!("{report:?}");
    report.assert_clean();
    Ok(())
}
