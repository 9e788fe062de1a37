//! The tools of the system that make networks and rules.

use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Runs `ip` to its end.
pub(super) async fn ip(arguments: &[&str]) -> Result<()> {
    let told = || format!("ip {}", arguments.join(" "));
    let ran = Command::new("ip").args(arguments).output().await;
    judge(&ran.with_context(told)?).with_context(told)
}

/// The same for a `drop`, which cannot wait otherwise.
pub(super) fn ip_now(arguments: &[&str]) -> Result<()> {
    let told = || format!("ip {}", arguments.join(" "));
    let ran = std::process::Command::new("ip").args(arguments).output();
    judge(&ran.with_context(told)?).with_context(told)
}

/// Asks `nft` for a table of a namespace.
pub(super) async fn nft_list(namespace: &str, family: &str, table: &str) -> Result<String> {
    let mut nft = Command::new("ip");
    nft.args([
        "netns", "exec", namespace, "nft", "list", "table", family, table,
    ]);
    let ran = nft.output().await.context("ip netns exec")?;
    judge(&ran).context("nft list table")?;
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

/// Has `nft` put rules in force in a namespace.
pub(super) async fn nft(namespace: &str, rules: &str) -> Result<()> {
    let mut nft = Command::new("ip")
        .args(["netns", "exec", namespace, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("ip netns exec")?;
    let mut input = nft.stdin.take().context("the input is a pipe")?;
    // Where there is no nft, nobody reads: that is told by how it ended.
    let written = input.write_all(rules.as_bytes()).await;
    drop(input);
    judge(&nft.wait_with_output().await?)
        .with_context(|| format!("nft in namespace {namespace}, with these rules:\n{rules}"))?;
    written.context("nft did not read its rules")
}

fn judge(ran: &Output) -> Result<()> {
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(
        ran.status.success(),
        "it ended with {}: {}",
        ran.status,
        said.trim()
    );
    Ok(())
}
