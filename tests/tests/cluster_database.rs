//! A database that stands still and dies under load: accepts are refused meanwhile, nothing that was
//! promised is lost, and work goes on by itself.

use std::time::Duration;

use anyhow::Result;
use zajil_tests::Nodes;
use zajil_tests::clock::{Stopwatch, wall_micros};
use zajil_tests::cql::{CqlServer, Plan as Servers};
use zajil_tests::customer::Letter;
use zajil_tests::form::{dice, is_long, skipped};
use zajil_tests::load::{Load, number};
use zajil_tests::nodes::Plan;
use zajil_tests::wait::{seconds, until};

/// What a stop takes at most, as its service manager counts.
const STOPS_WITHIN: Duration = seconds(20);

/// How often the database stands still and dies.
const ROUNDS: usize = 5;

/// Waits, and writes down that what was on its way at any time of it may go out again: nobody can
/// write down its outcome.
async fn in_the_dark(nodes: &mut Nodes, time: Duration) {
    for _ in 0..time.as_secs() {
        nodes.rules.kills.push(wall_micros());
        tokio::time::sleep(seconds(1)).await;
    }
    nodes.rules.kills.push(wall_micros());
}

async fn await_refusal(nodes: &Nodes) {
    let letter = Letter::to(&number(900), "refused while there is no database");
    until("an accept is refused", seconds(60), async || {
        let answer = nodes
            .customer
            .send(nodes.instances[0], &letter)
            .await
            .ok()?;
        (answer.status == 503).then_some(())
    })
    .await;
}

/// Waits until every node reads again: each looks for the database by itself, now and then.
async fn await_reads(nodes: &Nodes) {
    let took = Stopwatch::start();
    for number in nodes.running() {
        let customer = nodes.customer_at(number);
        until("a node reads again", seconds(60), async || {
            let read = customer.get("/stats").await;
            read.is_good().then_some(())
        })
        .await;
        println!("node {number} reads again within {:?}", took.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stands_still_or_dies_costs_time_alone() -> Result<()> {
    if !is_long() {
        skipped(
            "a_database_that_stands_still_or_dies_costs_time_alone",
            "it takes minutes: ./test long",
        );
        return Ok(());
    }
    let mut dice = dice("cluster_database");
    let Some(server) = CqlServer::start("cluster database", Servers::one_node()).await else {
        return Ok(());
    };
    let mut nodes = Plan::new()
        .start_on(server.cql().clone(), "cluster database")
        .await?;
    let load = Load::on(&nodes.instances).start(&nodes.customer, &mut dice);

    for _ in 0..ROUNDS {
        load.await_answers(30, seconds(60)).await;
        server.freeze(1).await?;
        in_the_dark(&mut nodes, seconds(5)).await;
        server.thaw(1).await?;
        load.await_answers(30, seconds(60)).await;

        server.kill(1).await?;
        in_the_dark(&mut nodes, seconds(3)).await;
        await_refusal(&nodes).await;
        server.start_again(1).await?;
        nodes.rules.kills.push(wall_micros());
        await_reads(&nodes).await;
        load.await_answers(30, seconds(120)).await;
        nodes.await_balanced(seconds(90)).await;
    }
    load.stop().await;

    let report = nodes.verdict().await;
    println!("{report:?}");
    report.assert_clean();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_there_is_no_database_ends_in_time_and_says_why() -> Result<()> {
    let mut dice = dice("cluster_database");
    let Some(server) = CqlServer::start("cluster stop", Servers::one_node()).await else {
        return Ok(());
    };
    let mut nodes = Plan::new()
        .nodes(1)
        .start_on(server.cql().clone(), "cluster stop")
        .await?;
    let load = Load::on(&nodes.instances).start(&nodes.customer, &mut dice);
    load.await_answers(30, seconds(60)).await;
    load.stop().await;

    server.kill(1).await?;
    let took = Stopwatch::start();
    let ended = nodes.stop(1).await?;
    let took = took.elapsed();

    println!("stopped within {took:?}");
    assert!(took < STOPS_WITHIN, "it took {took:?}");
    assert!(ended.code().is_some(), "nothing had to end it by force");
    let log = nodes.node(1).log();
    assert!(log.contains("not all shards were given away"), "{log}");
    Ok(())
}
