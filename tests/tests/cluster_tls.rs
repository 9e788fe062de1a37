//! `zajil cluster init` makes what nodes trust each other by: with it they are one, and whoever has the
//! keys of another cluster is not heard.

use anyhow::Result;
use zajil_tests::form::{dice, folder};
use zajil_tests::load::Load;
use zajil_tests::nodes::Plan;
use zajil_tests::program;
use zajil_tests::wait::seconds;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_keys_of_their_own_are_one() -> Result<()> {
    let mut dice = dice("cluster_tls");
    let home = folder()?;
    let keys = program::make_keys(home.path()).await?;
    let Some(nodes) = Plan::new().keys(keys).start("cluster tls").await? else {
        return Ok(());
    };

    let load = Load::on(&nodes.instances).start(&nodes.customer, &mut dice);
    load.await_answers(80, seconds(60)).await;
    load.stop().await;

    let report = nodes.verdict().await;
    println!("{report:?}");
    report.assert_clean();
    assert_eq!(report.refused, 0, "requests were refused");
    Ok(())
}
