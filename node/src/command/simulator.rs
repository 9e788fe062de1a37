//! `zajil simulator`: a made-up WhatsApp as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use tokio_util::sync::CancellationToken;
use zajil_transport::simulator::Script;
use zajil_transport::simulator::server::{Server, ServerConfig};

use super::workers;
use crate::cli::Settings;
use crate::clock::SystemClock;
use crate::signals::Signals;
use crate::{show, telemetry};

/// Run a made-up WhatsApp that instances of any node can be connected to
/// (`zajil instance create NAME --address HOST:PORT`).
#[derive(Args, Debug)]
pub struct SimulatorArgs {
    /// Where it listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9090", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// The ledger of every frame; appended to when it is there.
    #[arg(long, default_value = "ledger.ndjson", value_name = "FILE")]
    pub ledger: PathBuf,
    /// A file with the script that says how it behaves [default: everything arrives].
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// What its chances follow: the same seed, the same fate of each message.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Runs it until a signal.
pub fn run(settings: &Settings, args: SimulatorArgs) -> Result<ExitCode> {
    telemetry::start_log(&settings.read()?.log);
    let script = match &args.script {
        None => Script::default(),
        Some(file) => {
            let told = || format!("cannot read the script {}", file.display());
            let text = std::fs::read_to_string(file).with_context(told)?;
            Script::parse(&text)
                .with_context(|| format!("the script {} is not right", file.display()))?
        }
    };
    let SimulatorArgs {
        listen,
        ledger,
        seed,
        ..
    } = args;
    let config = ServerConfig {
        listen,
        ledger,
        script,
        seed,
    };
    workers()?.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: ServerConfig) -> Result<()> {
    let server = Server::bind(config, Arc::new(SystemClock::new())).await?;
    show::say(&format!("the simulator listens at {}", server.address()));
    let mut signals = Signals::take()?;
    let shutdown = CancellationToken::new();
    let serving = server.serve(shutdown.clone());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = signals.next() => shutdown.cancel(),
    }
    Ok(signals.unless_again(serving).await?)
}
