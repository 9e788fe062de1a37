//! Clients that were written for the integration guide run as they are: with another base URL and
//! key, and nothing else changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::Command;
use zajil_model::lifecycle::Status;
use zajil_tests::cluster::{Engine, Setup};
use zajil_tests::customer::Customer;
use zajil_tests::form::skipped;
use zajil_tests::wait::seconds;

/// A node as the first start leaves it: the guide's `my-instance` exists.
struct FirstNode {
    home: TempDir,
    engine: Engine,
    customer: Customer,
}

impl FirstNode {
    async fn start() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let data = home.path().join("zajil-data");
        let engine = Engine::start(&data, Setup::new()).await?;
        let text = engine.first_run();
        let key = text
            .split_whitespace()
            .find(|word| word.starts_with("sk_live_"));
        let customer = engine
            .operator()
            .customer(key.context("the first start told no key")?);
        Ok(Self {
            home,
            engine,
            customer,
        })
    }

    /// A sample of the guide, with base URL and key changed.
    fn sample(&self, name: &str) -> Result<PathBuf> {
        let text = fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("samples")
                .join(name),
        )?;
        let base = format!(
            "http://{}",
            self.engine.at().api().context("the node runs")?
        );
        let changed = text
            .replace("https://api.example.com", &base)
            .replace("sk_live_your_api_key_here", &self.customer.key());
        let file = self.home.path().join(name);
        fs::write(&file, changed)?;
        Ok(file)
    }

    /// The one message that a sample sent is read, and says what the sample said.
    async fn assert_sent(&self, ran: Output, said: &str) -> Result<()> {
        let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(
            ran.status.success(),
            "{printed}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        assert!(!printed.contains("Error"), "{printed}");
        let sent = self.customer.list().await;
        assert_eq!(sent.len(), 1, "{printed}");
        assert_eq!(sent[0]["content"], said);
        let id = sent[0]["id"].as_u64().context("a message has an id")?;
        assert!(
            printed.contains(&id.to_string()),
            "the client did not get {id}: {printed}"
        );
        self.customer
            .await_status(id, Status::Read, seconds(20))
            .await;
        Ok(())
    }
}

/// Whether a command ends well; `false` when there is no such command.
async fn works(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .await
        .is_ok_and(|ran| ran.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_sample_runs() -> Result<()> {
    let node = FirstNode::start().await?;
    let file = node.sample("send.sh")?;

    let ran = Command::new("sh").arg(file).output().await?;

    node.assert_sent(ran, "Hello from cURL!").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_sample_runs() -> Result<()> {
    if !works("python3", &["-c", "import requests"]).await {
        skipped(
            "the Python sample",
            "python3 with requests is not installed",
        );
        return Ok(());
    }
    let node = FirstNode::start().await?;
    let file = node.sample("send.py")?;

    let ran = Command::new("python3").arg(file).output().await?;

    node.assert_sent(ran, "Hello from Python!").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_axios_sample_runs() -> Result<()> {
    let Some(modules) = axios().await else {
        skipped(
            "the Node.js sample",
            "node with axios is not installed, and npm cannot get it",
        );
        return Ok(());
    };
    let node = FirstNode::start().await?;
    let file = node.sample("send.js")?;

    let ran = Command::new("node")
        .arg(file)
        .env("NODE_PATH", modules)
        .output()
        .await?;

    node.assert_sent(ran, "Hello from Node.js!").await
}

/// Where Debian keeps the modules of its packages.
const DEBIAN_MODULES: &str = "/usr/share/nodejs";

/// A folder with axios in it: that of the system, or one in the target folder, installed once.
async fn axios() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axios");
    let modules = folder.join("node_modules");
    if !works("node", &["--version"]).await {
        return None;
    }
    if Path::new(DEBIAN_MODULES)
        .join("axios/package.json")
        .exists()
    {
        return Some(DEBIAN_MODULES.into());
    }
    if !modules.join("axios/package.json").exists() {
        fs::create_dir_all(&folder).ok()?;
        let place = folder.to_str()?;
        let quiet = [
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--loglevel=error",
        ];
        let install = [&["install", "--prefix", place, "axios@1"], quiet.as_slice()].concat();
        works("npm", &install).await.then_some(())?;
    }
    Some(modules)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_php_sample_runs() -> Result<()> {
    let laravel = "require 'Illuminate/Http/autoload.php'; require 'GuzzleHttp/autoload.php';";
    if !works("php", &["-r", laravel]).await {
        skipped(
            "the PHP sample",
            "php with the Http facade of Laravel (php-illuminate-http, php-guzzlehttp-guzzle) is not installed",
        );
        return Ok(());
    }
    let node = FirstNode::start().await?;
    let file = node.sample("send.php")?;
    let application = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/laravel.php");

    let ran = Command::new("php")
        .arg(application)
        .arg(file)
        .output()
        .await?;

    node.assert_sent(ran, "Hello from PHP!").await
}
