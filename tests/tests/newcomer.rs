//! The first minute: one command in an empty folder, no configuration, and the line that it told is
//! pasted into a shell.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use zajil_model::lifecycle::Status;
use zajil_storage::embedded::log::Failpoints;
use zajil_tests::cluster::{Engine, Setup};
use zajil_tests::http::{Http, Sending};
use zajil_tests::stand_in::{self, Act, StandIn, Trap};
use zajil_tests::wait::seconds;

/// Groups that a first start writes to its log before it is ready: at least one for what it makes,
/// and far fewer than these.
const GROUPS_OF_A_START: std::ops::Range<u32> = 2..20;

#[test]
#[ignore = "acts the node in the scenarios here, which start it in processes of its own"]
fn acts_the_node() -> Result<()> {
    stand_in::act()
}

/// What stands before a value in what the first start tells.
fn told<'t>(text: &'t str, label: &str) -> &'t str {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(label));
    line.unwrap_or_else(|| panic!("no {label} in {text}"))
        .trim()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_tells_a_line_that_sends_a_message() -> Result<()> {
    let home = tempfile::tempdir()?;
    let data = home.path().join("zajil-data");

    let engine = Engine::start(&data, Setup::new()).await?;

    let file = data.join("first-run.txt");
    let text = engine.first_run();
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let key = told(&text, "API key");
    assert!(!engine.log().contains(key), "the secret is in the log");
    let said = async || engine.log().contains("first-run.txt").then_some(());
    zajil_tests::until("the log says where it is", seconds(10), said).await;

    let (_, curl) = text
        .split_once("Send a first message:\n\n")
        .context("no line to paste")?;
    let pasted = Command::new("sh")
        .args(["-c", curl])
        .current_dir(home.path())
        .output()
        .await?;
    let answer: Value = serde_json::from_slice(&pasted.stdout).context("curl got no JSON")?;
    assert_eq!(answer["success"], true, "{answer}");
    let id = answer["data"]["message_id"]
        .as_u64()
        .context("no message id")?;
    let customer = engine.operator().customer(key);
    customer.await_status(id, Status::Read, seconds(20)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_user_can_sign_in_and_the_second_start_tells_nothing() -> Result<()> {
    let home = tempfile::tempdir()?;
    let data = home.path().join("zajil-data");
    let mut engine = Engine::start(&data, Setup::new()).await?;
    let text = engine.first_run();
    let (email, password) = (told(&text, "login"), told(&text, "password"));

    let url = format!(
        "http://{}/api/v1/dashboard/auth/login",
        engine.at().api().context("the node runs")?
    );
    let body = Sending::json(&json!({ "email": email, "password": password }));
    let answer = Http::new()
        .call(Method::POST, &url, body)
        .await?
        .expect_status(200);
    assert!(answer.data()["token"].is_string(), "{}", answer.text());

    fs::remove_file(data.join("first-run.txt"))?;
    assert!(engine.stop(seconds(20)).await?.success());
    engine.start_again().await?;
    assert!(
        !data.join("first-run.txt").exists(),
        "a store that is not empty got a first start"
    );
    Ok(())
}

/// A node whose process ends as soon as so many groups are durable; or does not.
fn ends_after(groups: Option<u32>) -> Setup {
    Setup::new().acted_by(StandIn {
        test: "acts_the_node".to_owned(),
        // Small, so that the many starts here are quick.
        segment_bytes: 1 << 20,
        direct: true,
        trap: groups.map(|groups| Trap {
            step: Failpoints::AFTER_WRITE.to_owned(),
            hit: groups,
            act: Act::Abort,
        }),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_the_middle_of_the_first_start_costs_no_secret() -> Result<()> {
    let mut groups = 0;
    loop {
        groups += 1;
        let home = tempfile::tempdir()?;
        let data = home.path().join("zajil-data");
        if Engine::start(&data, ends_after(Some(groups))).await.is_ok() {
            break;
        }

        let engine = Engine::start(&data, ends_after(None)).await?;

        let text = fs::read_to_string(data.join("first-run.txt"));
        let text = text.with_context(|| format!("it ended after {groups} groups"))?;
        let customer = engine.operator().customer(told(&text, "API key"));
        customer.get("/ping").await.expect_status(200);
    }
    println!("a first start was ended {} times", groups - 1);
    assert!(GROUPS_OF_A_START.contains(&groups), "{groups}");
    Ok(())
}
