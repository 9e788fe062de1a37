//! A user outgrows one machine: what the embedded store held is exported, imported into a database,
//! and goes on there under the same ids; and it can come back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use http::Method;
use serde_json::json;
use zajil_model::lifecycle::Status;
use zajil_tests::checker::{self, Evidence};
use zajil_tests::cluster::{Engine, Setup};
use zajil_tests::cql::Cql;
use zajil_tests::customer::{Customer, Letter, ids};
use zajil_tests::http::Sending;
use zajil_tests::load::number;
use zajil_tests::nodes::Place;
use zajil_tests::program;
use zajil_tests::scene::{Plan, Scene};
use zajil_tests::wait::seconds;

/// Shards of a cluster, fixed for ever.
const SHARDS: f64 = 1_024.0;

/// A node alone that was stopped, and what it leaves.
struct Outgrown {
    scene: Scene,
    read: Vec<u64>,
    waiting: Vec<u64>,
    /// What was sent with an `Idempotency-Key`.
    once: (Letter, Vec<u64>),
}

impl Outgrown {
    /// Messages of the first instance are read, those of the second wait, for it is paused.
    async fn new() -> Result<Self> {
        let mut scene = Plan::new().paces(&[(200.0, 20); 2]).start().await?;
        let [busy, paused] = [scene.instances[0], scene.instances[1]];
        let customer = scene.customer.clone();
        let letters = |about: &str, count: u32| -> Vec<Letter> {
            let letter = |n| Letter::to(&number(n), format!("{about} {n}"));
            (0..count).map(letter).collect()
        };
        let sent = customer.send_bulk(busy, &letters("early", 30)).await?;
        let mut read = ids(&sent.expect_status(200));
        let letter = Letter::to(&number(40), "once");
        let once = ids(&customer.send_surely(busy, &letter).await.expect_status(201));
        read.extend(&once);
        for id in &read {
            customer.await_status(*id, Status::Read, seconds(20)).await;
        }
        let pause = format!("/instances/{paused}/pause");
        customer.post(&pause, &json!({})).await.expect_status(200);
        // Three to each of some: they have an order to keep.
        let mut waiting = Vec::new();
        for turn in 0..3 {
            let letters = letters(&format!("waits {turn}"), 10);
            let sent = customer.send_bulk(paused, &letters).await?;
            waiting.extend(ids(&sent.expect_status(200)));
        }
        let ended = scene.engine.stop(seconds(30)).await?;
        assert!(ended.success(), "{}", scene.engine.log());
        let once = (letter, once);
        Ok(Self {
            scene,
            read,
            waiting,
            once,
        })
    }

    fn all(&self) -> BTreeSet<u64> {
        self.read.iter().chain(&self.waiting).copied().collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scene.folder.path().join(name)
    }

    /// Runs a command with the settings of a node.
    async fn run(&self, setup: &Setup, words: &[&str]) -> Result<String> {
        let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        for (key, value) in &setup.settings {
            arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        program::run(&arguments, self.scene.folder.path()).await
    }
}

fn text(path: &Path) -> &str {
    path.to_str()
        .expect("the path of a temporary folder is text")
}

async fn listed(customer: &Customer) -> BTreeSet<u64> {
    let all = customer.list().await;
    all.iter().filter_map(|one| one["id"].as_u64()).collect()
}

/// The first node on the imported keyspace, once it owns everything.
async fn first_node(outgrown: &Outgrown, setup: Setup) -> Result<Engine> {
    let engine = Engine::start(&outgrown.file("node-1"), setup).await?;
    zajil_tests::until("the node owns every shard", seconds(60), async || {
        let owned = engine.metric("zajil_shards_owned").await;
        owned.filter(|owned| *owned >= SHARDS)
    })
    .await;
    Ok(engine)
}

/// Everything is there under its id and nothing moves, though the paused instance was resumed.
async fn is_the_same_and_held(outgrown: &Outgrown, customer: &Customer) {
    assert_eq!(listed(customer).await, outgrown.all());
    assert_eq!(
        customer.count(Status::Read).await,
        outgrown.read.len() as u64
    );
    let frames = outgrown.scene.whatsapp.frames().len();
    let resume = format!("/instances/{}/resume", outgrown.scene.instances[1]);
    customer.post(&resume, &json!({})).await.expect_status(200);
    for id in &outgrown.waiting {
        assert!(!customer.status(*id).await.is_settled());
    }
    assert_eq!(outgrown.scene.whatsapp.frames().len(), frames);
}

/// A request that was answered there is answered again here.
async fn is_done_once(outgrown: &Outgrown, customer: &Customer) -> Result<()> {
    let (letter, known) = &outgrown.once;
    let body = letter.body(outgrown.scene.instances[0]);
    let sending = Sending::json(&body).with("idempotency-key", &letter.name);
    let again = customer
        .ask(Method::POST, "/messages/send", sending)
        .await?;
    assert_eq!(&ids(&again.expect_status(201)), known);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_machine_held_goes_on_in_a_database_under_the_same_ids() -> Result<()> {
    const TEST: &str = "what_one_machine_held_goes_on_in_a_database_under_the_same_ids";
    let Some(cql) = Cql::shared(TEST).await else {
        return Ok(());
    };
    let outgrown = Outgrown::new().await?;
    let place = Place::on(cql, "export import");
    let (alone, shared) = (Setup::new(), place.setup(1));
    let old = outgrown.scene.engine.folder().to_owned();
    let (there, back) = (outgrown.file("there"), outgrown.file("back"));

    let export = ["export", "--out", text(&there), "--data-dir", text(&old)];
    outgrown.run(&alone, &export).await?;
    let import = ["import", text(&there)];
    let told = outgrown.run(&shared, &import).await?;
    assert!(told.contains("zajil restore release"), "{told}");

    let mut engine = first_node(&outgrown, shared.clone()).await?;
    let customer = outgrown.scene.customer.only_at(engine.at());
    is_the_same_and_held(&outgrown, &customer).await;
    is_done_once(&outgrown, &customer).await?;
    let refused = outgrown
        .run(&shared, &import)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is not empty"), "{refused}");
    let export = ["export", "--out", text(&back)];
    let refused = outgrown
        .run(&shared, &export)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("node 1 (link "), "{refused}");

    let release = ["restore", "release", "--resend", "--data-dir"];
    let release = [&release[..], &[text(engine.folder())]].concat();
    program::run(&release, outgrown.scene.folder.path()).await?;
    let letter = Letter::to(&number(50), "new");
    customer
        .send_surely(outgrown.scene.instances[1], &letter)
        .await;
    customer.await_settled(seconds(60)).await;
    for id in &outgrown.waiting {
        customer.await_status(*id, Status::Read, seconds(20)).await;
    }
    let evidence = Evidence {
        book: customer.book(),
        frames: outgrown.scene.whatsapp.frames(),
        finals: customer.finals().await,
    };
    let report = checker::check(&evidence, &outgrown.scene.rules);
    println!("{report:?}");
    report.assert_clean();

    let all = listed(&customer).await;
    let told = customer.changes().await;
    engine.stop(seconds(30)).await?;
    outgrown.run(&shared, &export).await?;
    let home = outgrown.file("home");
    let import = ["import", text(&back), "--data-dir", text(&home)];
    outgrown.run(&alone, &import).await?;
    let setup = Setup::new().with("node.first_run", "never");
    let engine = Engine::start(&home, setup).await.context("at home")?;
    let customer = customer.only_at(engine.at());
    assert_eq!(listed(&customer).await, all);
    assert_eq!(customer.count(Status::Read).await, all.len() as u64);
    assert_eq!(customer.changes().await, told);
    Ok(())
}
