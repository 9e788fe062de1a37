//! A node that stands still past its lease, and then goes on: others have taken over, and nothing
//! that it still wanted to do counts.

use anyhow::Result;
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::load::Load;
use zajil_tests::nodes::Plan;
use zajil_tests::wait::seconds;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_frozen_past_its_lease_sends_nothing_more_and_joins_again() -> Result<()> {
    let mut dice = dice("cluster_freeze");
    let Some(mut nodes) = Plan::new().start("cluster freeze").await? else {
        return Ok(());
    };
    let load = Load::on(&nodes.instances).start(&nodes.customer, &mut dice);

    for round in 0..short_or_long(1, 10) {
        load.await_answers(30, seconds(60)).await;
        let instance = nodes.instances[round % nodes.instances.len()];
        let owner = nodes.owner(instance).await;
        let frozen = nodes.freeze(owner).await?;
        // Twice its lease.
        tokio::time::sleep(seconds(12)).await;
        let paused = nodes.await_sends(instance, frozen, seconds(20)).await;
        println!("node {owner}, frozen: instance {instance} paused {paused:?}");

        nodes.thaw(owner).await?;

        nodes.await_balanced(seconds(90)).await;
        let log = nodes.node(owner).log();
        assert!(nodes.node(owner).ask("/readyz").await.is_good(), "{log}");
    }
    load.await_answers(30, seconds(60)).await;
    load.stop().await;

    let report = nodes.verdict().await;
    println!("{report:?}");
    report.assert_clean();
    Ok(())
}
