//! A campaign: its upload may be cut anywhere and taken up again, every good row is sent once and no
//! bad one, and pause and cancel are barriers.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use rand::Rng;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use zajil_model::message::Lane;
use zajil_tests::Scene;
use zajil_tests::campaign::File;
use zajil_tests::checker::{self, Evidence, Held};
use zajil_tests::clock::wall_micros;
use zajil_tests::form::{dice, short_or_long};
use zajil_tests::http::{Answer, Sending};
use zajil_tests::ledger::{Accepted, Book};
use zajil_tests::load::number;
use zajil_tests::scene::Plan;
use zajil_tests::wait::{millis, seconds};

const CSV: &str = "text/csv";

/// How long a million rows may take on their way in or out, on a debug build.
const LARGE_ANSWER: Duration = seconds(600);

async fn make(scene: &Scene, name: &str) -> Result<u64> {
    let instances: Vec<_> = scene.instances.iter().map(u64::to_string).collect();
    let body = json!({ "name": name, "instances": instances, "content": "Dear {{name}}" });
    let answer = scene
        .customer
        .post("/batches", &body)
        .await
        .expect_status(201);
    answer.data()["id"].as_u64().context("a batch has an id")
}

async fn upload(scene: &Scene, batch: u64, from_row: u64, text: &str) -> Answer {
    let path = format!("/batches/{batch}/recipients?from_row={from_row}");
    // An upload that was cut may hold the batch until the node sees that it was.
    zajil_tests::until("the batch takes an upload", LARGE_ANSWER, async || {
        let sending = Sending::bytes(CSV, text.to_owned()).patient(LARGE_ANSWER);
        let answer = scene
            .customer
            .ask(Method::POST, &path, sending)
            .await
            .ok()?;
        (answer.status != 409).then_some(answer)
    })
    .await
}

/// Begins an upload of a file from a row on, and cuts the connection after `sent` bytes.
async fn cut_upload(
    scene: &Scene,
    batch: u64,
    from_row: u64,
    text: &str,
    sent: usize,
) -> Result<()> {
    let address = scene.engine.at().api().context("the node runs")?;
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST /integration/v1/batches/{batch}/recipients?from_row={from_row} HTTP/1.1\r\nhost: {address}\r\n\
         x-api-key: {}\r\ncontent-type: {CSV}\r\ncontent-length: {}\r\n\r\n",
        scene.customer.key(),
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&text.as_bytes()[..sent]).await?;
    stream.flush().await?;
    // What was sent is on its way before the cut.
    tokio::time::sleep(millis(50)).await;
    Ok(())
}

async fn view(scene: &Scene, batch: u64) -> Value {
    scene
        .customer
        .get(&format!("/batches/{batch}"))
        .await
        .expect_status(200)
        .data()
}

async fn order(scene: &Scene, batch: u64, verb: &str) -> Value {
    let path = format!("/batches/{batch}/{verb}");
    scene
        .customer
        .post(&path, &json!({}))
        .await
        .expect_status(200)
        .data()
}

async fn await_state(scene: &Scene, batch: u64, wanted: &str, patience: Duration) {
    let state = async || view(scene, batch).await["state"].clone();
    zajil_tests::eventually(patience, json!(wanted), state).await;
}

/// The books of a campaign: each good row was promised, by its recipient.
async fn evidence(scene: &Scene, good: &BTreeSet<String>) -> Evidence {
    scene.customer.await_settled(seconds(60)).await;
    let mut finals = scene.customer.finals().await;
    for last in &mut finals {
        last.client_ref.clone_from(&last.recipient);
    }
    let accepted = good.iter().enumerate().map(|(n, recipient)| Accepted {
        id: finals
            .iter()
            .find(|last| last.recipient == *recipient)
            .map_or(0, |last| last.id),
        client_ref: recipient.clone(),
        recipient: recipient.clone(),
        instance: scene.instance(),
        lane: Lane::Bulk,
        request: (0, n),
        asked: (0, 0),
    });
    let book = Book {
        accepted: accepted.collect(),
        ..Book::default()
    };
    Evidence {
        book,
        frames: scene.whatsapp.frames(),
        finals,
    }
}

fn lines(answer: &Answer) -> usize {
    answer.text().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_and_killed_sends_every_good_row_once() -> Result<()> {
    let mut dice = dice("batch_upload");
    let mut scene = Plan::new()
        .paces(&[(400.0, 40), (300.0, 30)])
        .start()
        .await?;
    let optouts: Vec<_> = (0..3).map(number).collect();
    for phone in &optouts {
        let body = json!({ "phone_number": phone });
        scene
            .customer
            .post("/suppressions", &body)
            .await
            .expect_status(201);
    }
    let file = File::of(short_or_long(3_000, 50_000), &optouts);
    let batch = make(&scene, "campaign").await?;

    for _ in 0..3 {
        cut_upload(
            &scene,
            batch,
            0,
            &file.text,
            dice.random_range(1..file.text.len()),
        )
        .await?;
        scene.kill_and_start_again().await?;
    }
    cut_upload(&scene, batch, 0, &file.text, file.text.len() / 2).await?;
    order(&scene, batch, "start").await;
    let done = upload(&scene, batch, 0, &file.text)
        .await
        .expect_status(200)
        .data();

    let counted = [
        "rows_received",
        "taken",
        "duplicates",
        "refused",
        "suppressed",
    ]
    .map(|name| done[name].as_u64().unwrap_or(u64::MAX));
    let taken = file.good.len() as u64;
    assert_eq!(
        counted,
        [
            file.rows,
            taken,
            file.duplicates,
            file.refused,
            file.suppressed
        ]
    );

    order(&scene, batch, "pause").await;
    scene.hold(Held::Instance(scene.instances[0]));
    scene.hold(Held::Instance(scene.instances[1]));
    scene.kill_and_start_again().await?;
    assert_eq!(view(&scene, batch).await["state"], "paused");
    for barrier in &mut scene.rules.barriers {
        barrier.until = Some(wall_micros());
    }
    order(&scene, batch, "resume").await;
    order(&scene, batch, "seal").await;
    await_state(&scene, batch, "finished", seconds(120)).await;

    let evidence = evidence(&scene, &file.good).await;
    checker::check(&evidence, &scene.rules).assert_clean();
    let sent: BTreeSet<_> = evidence
        .frames
        .iter()
        .map(|frame| frame.recipient.clone())
        .collect();
    assert!(sent == file.good, "{} recipients got something", sent.len());
    let report = scene
        .customer
        .get(&format!("/batches/{batch}/report.csv"))
        .await;
    assert_eq!(lines(&report), file.good.len() + 1);
    let refused = scene
        .customer
        .get(&format!("/batches/{batch}/refused.csv"))
        .await;
    assert_eq!(
        lines(&refused) as u64,
        file.refused + 1,
        "{}",
        refused.text()
    );
    Ok(())
}

/// Rows that a batch received, once an upload that was cut is dealt with: it holds the batch until
/// then, also against an upload of no rows.
async fn received(scene: &Scene, batch: u64) -> u64 {
    let nothing = upload(scene, batch, 0, "phone;name\r\n").await;
    let answer = nothing.expect_status(200).data();
    answer["rows_received"].as_u64().expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_that_is_cut_ten_times_is_taken_up_where_it_ended() -> Result<()> {
    let mut dice = dice("batch_upload");
    let mut scene = Plan::new()
        .paces(&[(400.0, 40), (300.0, 30)])
        .start()
        .await?;
    let file = File::of(short_or_long(20_000, 1_000_000), &[]);
    let batch = make(&scene, "large").await?;

    for cuts_left in (1..=10).rev() {
        let from = received(&scene, batch).await;
        let rest = file.from_row(from);
        let sent = dice.random_range(1..rest.len() / cuts_left);
        cut_upload(&scene, batch, from, &rest, sent).await?;
        if cuts_left % 3 == 0 {
            scene.kill_and_start_again().await?;
        }
    }
    let from = received(&scene, batch).await;
    println!(
        "{from} of {} rows were received in ten cut uploads",
        file.rows
    );
    assert!(from > 0, "no upload got anywhere");
    let done = upload(&scene, batch, from, &file.from_row(from)).await;

    let done = done.expect_status(200).data();
    let counted = ["rows_received", "taken", "duplicates", "refused"]
        .map(|name| done[name].as_u64().unwrap_or(u64::MAX));
    let taken = file.good.len() as u64;
    assert_eq!(counted, [file.rows, taken, file.duplicates, file.refused]);
    let path = format!("/batches/{batch}/report.csv");
    let sending = Sending::nothing().patient(LARGE_ANSWER);
    let report = scene.customer.ask(Method::GET, &path, sending).await?;
    let report = report.expect_status(200).text();
    let named: BTreeSet<String> = report
        .lines()
        .skip(1)
        .filter_map(|line| line.split(',').find(|cell| cell.starts_with('+')))
        .map(str::to_owned)
        .collect();
    assert!(named == file.good, "{} recipients are taken", named.len());
    assert_eq!(report.lines().count(), file.good.len() + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_an_upload_is_refused_and_names_the_next_row() -> Result<()> {
    let scene = Scene::usual().await?;
    let batch = make(&scene, "gap").await?;
    let rows = "phone\n+966500000001\n+966500000002\n";
    upload(&scene, batch, 0, rows).await.expect_status(200);

    let path = format!("/batches/{batch}/recipients?from_row=5");
    let sending = Sending::bytes(CSV, rows);
    let gap = scene
        .customer
        .ask(Method::POST, &path, sending)
        .await?
        .expect_status(409);

    assert_eq!(
        (gap.error_code().as_str(), &gap.json()["expected_row"]),
        ("row_gap", &json!(2))
    );
    let more = upload(&scene, batch, 2, "phone\n+966500000003\n")
        .await
        .expect_status(200);
    assert_eq!(more.data()["rows_received"], 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_campaign_sends_nothing_more() -> Result<()> {
    let mut scene = Plan::new().paces(&[(100.0, 5)]).start().await?;
    let file = File::of(600, &[]);
    let batch = make(&scene, "cancelled").await?;
    upload(&scene, batch, 0, &file.text)
        .await
        .expect_status(200);
    order(&scene, batch, "start").await;
    let some = async || (scene.whatsapp.frames().len() > 20).then_some(());
    zajil_tests::until("it sends", seconds(30), some).await;

    order(&scene, batch, "cancel").await;
    scene.hold(Held::Instance(scene.instance()));

    let evidence = evidence(&scene, &file.good).await;
    checker::check(&evidence, &scene.rules).assert_clean();
    assert!(
        evidence.frames.len() < 300,
        "{} of 600 were sent",
        evidence.frames.len()
    );
    let counts = &view(&scene, batch).await["by_status"];
    let [cancelled, all] = [counts["cancelled"].as_u64(), Some(file.good.len() as u64)];
    assert_eq!(
        cancelled.zip(all).map(|(gone, all)| all - gone),
        Some(evidence.frames.len() as u64)
    );
    let path = format!("/batches/{batch}/start");
    let again = scene
        .customer
        .post(&path, &json!({}))
        .await
        .expect_status(409);
    assert_eq!(again.error_code(), "wrong_state");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn single_messages_overtake_a_campaign() -> Result<()> {
    let scene = Plan::new().paces(&[(50.0, 2)]).start().await?;
    let file = File::of(300, &[]);
    let batch = make(&scene, "large").await?;
    upload(&scene, batch, 0, &file.text)
        .await
        .expect_status(200);
    order(&scene, batch, "start").await;

    let letter = zajil_tests::customer::Letter::to(&number(1), "single").urgent();
    let answer = scene
        .customer
        .send(scene.instance(), &letter)
        .await?
        .expect_status(201);
    let id = zajil_tests::customer::ids(&answer)[0];

    let sent = async || scene.customer.status(id).await.is_settled().then_some(());
    zajil_tests::until("the single one is sent", seconds(3), sent).await;
    Ok(())
}
