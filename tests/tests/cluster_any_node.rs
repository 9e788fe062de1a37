//! Any node takes it: sends, bulks, statuses, lists, the change feed, windows of keys and sessions are
//! the same at each of them; and a fourth node gets its share.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use http::Method;
use serde_json::json;
use zajil_model::lifecycle::Status;
use zajil_tests::Nodes;
use zajil_tests::customer::{Letter, ids};
use zajil_tests::form::dice;
use zajil_tests::http::{Answer, Http, Sending};
use zajil_tests::load::{Load, number};
use zajil_tests::nodes::Plan;
use zajil_tests::wait::seconds;

/// Messages to every instance through every node; answers their ids.
async fn send_everywhere(nodes: &Nodes) -> Result<BTreeSet<u64>> {
    let mut all = BTreeSet::new();
    for node in 1..=3 {
        let customer = nodes.customer_at(node);
        for (place, instance) in nodes.instances.iter().enumerate() {
            let name = |n: usize| format!("{node}-{place}-{n}");
            let single = Letter::to(&number(1), name(0));
            let sent = customer.send(*instance, &single).await?.expect_status(201);
            all.extend(ids(&sent));
            let bulk: Vec<_> = (1..6).map(|n| Letter::to(&number(2), name(n))).collect();
            let sent = customer.send_bulk(*instance, &bulk).await?;
            all.extend(ids(&sent.expect_status(200)));
        }
    }
    Ok(all)
}

/// What is told of the messages is the same at each node, and exact.
async fn same_everywhere(nodes: &Nodes, sent: &BTreeSet<u64>) {
    let mut feeds = Vec::new();
    for node in 1..=3 {
        let customer = nodes.customer_at(node);
        let page = customer
            .get("/messages?per_page=1")
            .await
            .expect_status(200);
        assert_eq!(page.data()["total"], json!(sent.len()), "at node {node}");
        assert_eq!(customer.count(Status::Read).await, sent.len() as u64);
        let listed = customer.list().await;
        let listed: BTreeSet<_> = listed.iter().filter_map(|one| one["id"].as_u64()).collect();
        assert!(listed == *sent, "node {node} lists {}", listed.len());
        for id in sent.iter().step_by(10) {
            assert_eq!(customer.status(*id).await, Status::Read);
        }
        feeds.push(customer.changes().await);
    }
    let told: BTreeSet<_> = feeds[0].iter().map(|(id, _)| *id).collect();
    assert!(told == *sent, "the feed tells of {}", told.len());
    assert_eq!(feeds[0], feeds[1]);
    assert_eq!(feeds[0], feeds[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_takes_it_and_a_fourth_one_gets_its_share() -> Result<()> {
    let mut dice = dice("cluster_any_node");
    let Some(mut nodes) = Plan::new().start("cluster any node").await? else {
        return Ok(());
    };

    let sent = send_everywhere(&nodes).await?;
    nodes.customer.await_settled(seconds(60)).await;
    let read = async || nodes.customer.count(Status::Read).await;
    zajil_tests::eventually(seconds(30), sent.len() as u64, read).await;
    same_everywhere(&nodes, &sent).await;
    windows_are_exact(&nodes).await;
    sessions_hold_everywhere(&nodes).await?;

    let load = Load::on(&nodes.instances).start(&nodes.customer, &mut dice);
    load.await_answers(20, seconds(60)).await;
    nodes.join().await?;
    nodes.await_balanced(seconds(60)).await;
    load.await_answers(20, seconds(60)).await;
    load.stop().await;

    let report = nodes.verdict().await;
    println!("{report:?}");
    report.assert_clean();
    Ok(())
}

/// The window of a key counts what comes in at any node, each request once.
async fn windows_are_exact(nodes: &Nodes) {
    let key = nodes
        .node(1)
        .operator()
        .make_key(nodes.account.id, 60)
        .await;
    let mut answers = Vec::new();
    for turn in 0..66_u8 {
        let at = nodes.node(turn % 3 + 1).operator().customer(&key);
        answers.push(at.get("/ping").await);
    }

    let (passed, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|one| one.status == 200);
    let left = |one: &&Answer| one.number("x-ratelimit-remaining");
    let told: Vec<_> = passed.iter().filter_map(left).collect();
    assert_eq!(told, (0..60).rev().collect::<Vec<_>>());
    assert_eq!(refused.len(), 6);
    assert!(refused.iter().all(|one| one.status == 429));
}

/// Who signed in at one node is known at the others.
async fn sessions_hold_everywhere(nodes: &Nodes) -> Result<()> {
    let (email, password) = ("person@example.com", "a long enough secret");
    let user = json!({
        "account_id": nodes.account.id.to_string(), "email": email, "password": password,
    });
    let made = nodes.node(1).operator().operations("/users", user).await;
    made.expect_status(201);
    let http = Http::new();
    let url = |node: u8, path: &str| -> Result<String> {
        let address = nodes.node(node).at().api().context("the node runs")?;
        Ok(format!("http://{address}/api/v1/dashboard{path}"))
    };
    let body = Sending::json(&json!({ "email": email, "password": password }));
    let signed_in = http
        .call(Method::POST, &url(2, "/auth/login")?, body)
        .await?;
    let data = signed_in.expect_status(200).data();
    let token = data["token"].as_str().context("a session has a token")?;
    let as_person = || Sending::nothing().with("authorization", format!("Bearer {token}"));

    for node in 1..=3 {
        let url = url(node, "/instances")?;
        let seen = http.call(Method::GET, &url, as_person()).await?;
        let listed = seen.expect_status(200).json();
        let text = listed.to_string();
        assert!(text.contains(&nodes.instances[0].to_string()), "{text}");
    }
    Ok(())
}
