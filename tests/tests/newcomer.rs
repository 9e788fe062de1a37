//! The first minute: one command in an empty folder, no configuration, and the line that it told is
//! pasted into a shell.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use zajil_model::lifecycle::Status;
use zajil_tests::cluster::{Engine, Setup};
use zajil_tests::http::{Http, Sending};
use zajil_tests::wait::seconds;

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
    let text = engine.first_run().await;
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
    let text = engine.first_run().await;
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
