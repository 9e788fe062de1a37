//! A campaign that is uploaded to one node, steered at others, and outlives the death of one: every good
//! row is sent once, and pause and cancel are barriers on all of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};
use zajil_model::message::Lane;
use zajil_tests::Nodes;
use zajil_tests::campaign::File;
use zajil_tests::checker::{self, Barrier, Evidence, Held};
use zajil_tests::clock::wall_micros;
use zajil_tests::form::short_or_long;
use zajil_tests::http::Sending;
use zajil_tests::ledger::{Accepted, Book};
use zajil_tests::load::number;
use zajil_tests::nodes::Plan;
use zajil_tests::wait::seconds;

/// Makes a campaign for all instances with these rows, all at one node; answers its id.
async fn upload(nodes: &Nodes, node: u8, name: &str, text: &str) -> Result<u64> {
    let customer = nodes.customer_at(node);
    let instances: Vec<_> = nodes.instances.iter().map(u64::to_string).collect();
    let body = json!({ "name": name, "instances": instances, "content": "Dear {{name}}" });
    let made = customer.post("/batches", &body).await.expect_status(201);
    let batch = made.data()["id"].as_u64().context("a batch has an id")?;
    let path = format!("/batches/{batch}/recipients?from_row=0");
    let sending = Sending::bytes("text/csv", text.to_owned()).patient(seconds(120));
    let taken = customer.ask(Method::POST, &path, sending).await?;
    taken.expect_status(200);
    Ok(batch)
}

async fn order(nodes: &Nodes, node: u8, batch: u64, verb: &str) {
    let path = format!("/batches/{batch}/{verb}");
    let ordered = nodes.customer_at(node).post(&path, &json!({})).await;
    ordered.expect_status(200);
}

async fn state(nodes: &Nodes, batch: u64) -> Value {
    let told = nodes.customer.get(&format!("/batches/{batch}")).await;
    told.expect_status(200).data()["state"].take()
}

/// Nothing is handed over from now on, until it is said.
fn hold_all(nodes: &mut Nodes) {
    let from = wall_micros();
    let held = |instance: &u64| Barrier {
        of: Held::Instance(*instance),
        from,
        until: None,
    };
    let barriers: Vec<_> = nodes.instances.iter().map(held).collect();
    nodes.rules.barriers.extend(barriers);
}

fn hold_no_more(nodes: &mut Nodes) {
    for barrier in &mut nodes.rules.barriers {
        barrier.until.get_or_insert_with(wall_micros);
    }
}

async fn await_frames(nodes: &Nodes, more: usize) {
    let goal = nodes.whatsapp.frames().len() + more;
    let reached = async || (nodes.whatsapp.frames().len() >= goal).then_some(());
    zajil_tests::until("the campaign is sent", seconds(60), reached).await;
}

/// The books of campaigns: each good row was promised, by its recipient.
async fn evidence(nodes: &Nodes, good: &BTreeSet<String>) -> Evidence {
    let mut evidence = nodes.evidence().await;
    for last in &mut evidence.finals {
        last.client_ref.clone_from(&last.recipient);
    }
    let accepted = good.iter().enumerate().map(|(n, recipient)| {
        let of = |last: &&zajil_tests::ledger::Final| last.recipient == *recipient;
        Accepted {
            id: evidence.finals.iter().find(of).map_or(0, |last| last.id),
            client_ref: recipient.clone(),
            recipient: recipient.clone(),
            instance: nodes.instances[0],
            lane: Lane::Bulk,
            request: (0, n),
            asked: (0, 0),
        }
    });
    evidence.book = Book {
        accepted: accepted.collect(),
        ..Book::default()
    };
    evidence
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_is_steered_at_any_node_and_outlives_one() -> Result<()> {
    let Some(mut nodes) = Plan::new().start("cluster campaign").await? else {
        return Ok(());
    };
    let file = File::of(short_or_long(5_000, 100_000), &[]);
    let batch = upload(&nodes, 1, "campaign", &file.text).await?;
    order(&nodes, 2, batch, "start").await;
    await_frames(&nodes, 300).await;

    order(&nodes, 3, batch, "pause").await;
    hold_all(&mut nodes);
    let owner = nodes.owner(nodes.instances[0]).await;
    nodes.kill(owner).await;
    nodes.await_owned(seconds(30)).await;
    assert_eq!(state(&nodes, batch).await, "paused");
    hold_no_more(&mut nodes);
    let other = nodes.running()[0];
    order(&nodes, other, batch, "resume").await;
    await_frames(&nodes, 300).await;
    nodes.start(owner).await?;
    order(&nodes, owner, batch, "seal").await;
    let finished = async || state(&nodes, batch).await;
    // 360 rows a second, and the time without an owner.
    let patience = seconds(short_or_long(180, 600));
    zajil_tests::eventually(patience, json!("finished"), finished).await;

    let (text, others) = rows(600);
    let cancelled = upload(&nodes, 2, "cancelled", &text).await?;
    order(&nodes, 3, cancelled, "start").await;
    await_frames(&nodes, 20).await;
    order(&nodes, 1, cancelled, "cancel").await;
    hold_all(&mut nodes);

    let all: BTreeSet<_> = file.good.union(&others).cloned().collect();
    let evidence = evidence(&nodes, &all).await;
    let report = checker::check(&evidence, &nodes.rules);
    println!("{report:?}");
    report.assert_clean();
    let got: BTreeSet<_> = evidence
        .frames
        .iter()
        .map(|frame| &frame.recipient)
        .collect();
    let missing = file
        .good
        .iter()
        .filter(|phone| !got.contains(phone))
        .count();
    assert_eq!(missing, 0, "rows of the campaign that nobody got");
    assert!(
        others.iter().any(|phone| !got.contains(phone)),
        "nothing was cancelled"
    );
    Ok(())
}

/// So many good rows for others than those of [`File`].
fn rows(count: u32) -> (String, BTreeSet<String>) {
    let phones: BTreeSet<_> = (0..count).map(|n| number(500_000 + n)).collect();
    let mut text = "phone;name\r\n".to_owned();
    for phone in &phones {
        write!(text, "{phone};Name\r\n").expect("a text takes all");
    }
    (text, phones)
}
