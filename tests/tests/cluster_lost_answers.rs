//! A node whose conditional writes apply while their answers get lost, and some of whose requests
//! never arrive: it looks into each, and takes nothing for granted. No shard has two owners, and its
//! lease goes on.

use std::net::{SocketAddr, TcpListener};

use anyhow::Result;
use scylla_proxy::{
    Condition as When, Node, Proxy, Reaction as _, RequestOpcode, RequestReaction, RequestRule,
    ResponseOpcode, ResponseReaction, ResponseRule, RunningProxy, ShardAwareness,
};
use zajil_tests::clock::Stopwatch;
use zajil_tests::cql::Cql;
use zajil_tests::form::{dice, is_long, skipped};
use zajil_tests::load::Load;
use zajil_tests::nodes::Plan;
use zajil_tests::wait::seconds;

/// How many of the answers to conditional writes get lost. Each is waited for, some seconds.
const LOST: f64 = 0.1;

/// How often a node dies.
const ROUNDS: usize = 3;

/// How many of its requests never arrive.
const NEVER_ASKED: f64 = 0.005;

/// The node that does not get them.
const UNTOLD: u8 = 2;

/// The node that dies, so that others take its shards.
const KILLED: u8 = 3;

/// What the answer to a conditional write names, and no other does.
const APPLIED: &[u8] = b"[applied]";

/// Between a node and its database.
struct Between {
    proxy: RunningProxy,
    at: SocketAddr,
}

impl Between {
    async fn open(cql: &Cql) -> Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0")?;
        let at = free.local_addr()?;
        drop(free);
        let database = cql.contact_points()[0].parse()?;
        let node = Node::new(
            database,
            at,
            ShardAwareness::Unaware,
            Some(Vec::new()),
            Some(Vec::new()),
        );
        let proxy = Proxy::new([node]).run().await?;
        Ok(Self { proxy, at })
    }

    /// From now on some answers to conditional writes get lost, and some requests of any kind.
    fn lose(&mut self) {
        let asks = When::any([
            When::RequestOpcode(RequestOpcode::Execute),
            When::RequestOpcode(RequestOpcode::Batch),
        ]);
        let applied = When::all([
            When::ResponseOpcode(ResponseOpcode::Result),
            When::BodyContainsCaseSensitive(APPLIED.into()),
        ]);
        let some = When::RandomWithProbability;
        let node = &mut self.proxy.running_nodes[0];
        node.change_request_rules(Some(vec![RequestRule(
            When::all([asks, some(NEVER_ASKED)]),
            RequestReaction::drop_frame(),
        )]));
        node.change_response_rules(Some(vec![ResponseRule(
            When::all([applied, some(LOST)]),
            ResponseReaction::drop_frame(),
        )]));
    }

    fn lose_nothing(&mut self) {
        let node = &mut self.proxy.running_nodes[0];
        node.change_request_rules(None);
        node.change_response_rules(None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_applied_without_an_answer_make_no_second_owner() -> Result<()> {
    if !is_long() {
        skipped(
            "writes_that_applied_without_an_answer_make_no_second_owner",
            "it takes minutes: ./test long",
        );
        return Ok(());
    }
    let mut dice = dice("cluster_lost_answers");
    let Some(cql) = Cql::shared("cluster lost answers").await else {
        return Ok(());
    };
    let mut between = Between::open(&cql).await?;
    let plan = Plan::new().reaching(UNTOLD, between.at);
    let mut nodes = plan.start_on(cql, "cluster lost answers").await?;
    let load = Load::on(&nodes.instances).start(&nodes.customer, &mut dice);
    load.await_answers(30, seconds(60)).await;

    between.lose();
    for _ in 0..ROUNDS {
        let took = Stopwatch::start();
        nodes.kill(KILLED).await;
        nodes.await_owned(seconds(120)).await;
        println!("all shards have owners again after {:?}", took.elapsed());
        load.await_answers(30, seconds(60)).await;
        nodes.start(KILLED).await?;
        nodes.await_balanced(seconds(240)).await;
        load.await_answers(30, seconds(60)).await;
        println!("the node is back after {:?}", took.elapsed());
    }
    load.stop().await;
    between.lose_nothing();

    let untold = nodes.node(UNTOLD);
    let looked_into = untold.metric("zajil_cql_unknown_outcomes_total").await;
    let lives_lost = untold.metric("zajil_lease_lost_total").await;
    println!("{looked_into:?} writes were looked into, {lives_lost:?} lives were lost");
    assert!(
        looked_into > Some(10.0),
        "{looked_into:?} answers were lost"
    );
    assert_eq!(lives_lost, Some(0.0));
    let report = nodes.verdict().await;
    println!("{report:?}");
    report.assert_clean();
    Ok(())
}
