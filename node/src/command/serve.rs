//! `zajil serve`: runs a node until a signal.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use zajil_model::time::Clock;

use super::workers;
use crate::cli::Settings;
use crate::clock::SystemClock;
use crate::config::{Config, Source};
use crate::node::{Node, Process};
use crate::signals::Signals;
use crate::{show, telemetry};

/// Run a node.
#[derive(Args, Debug, Default)]
pub struct ServeArgs {
    /// Where the APIs listen [default: 127.0.0.1:8080].
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Where health, metrics and operator commands listen [default: 127.0.0.1:8081].
    #[arg(long, value_name = "HOST:PORT")]
    pub operations_listen: Option<String>,
}

/// Runs a node until a signal; a second one ends it at once.
///
/// # Errors
/// The settings are wrong, or the node does not start or does not stop in good order.
pub fn run(settings: &Settings, args: &ServeArgs) -> Result<ExitCode> {
    run_in(settings, args, std::convert::identity)
}

/// [`run`], in a process that crash tests changed.
///
/// # Errors
/// See [`run`].
pub fn run_in(
    settings: &Settings,
    args: &ServeArgs,
    change: impl FnOnce(Process) -> Process,
) -> Result<ExitCode> {
    let mut layers = settings.layers(std::env::vars());
    let flags = [
        ("api.listen", "--listen", &args.listen),
        (
            "operations.listen",
            "--operations-listen",
            &args.operations_listen,
        ),
    ];
    for (key, flag, value) in flags {
        if let Some(value) = value {
            layers.set(key, value.clone(), Source::Flag(flag));
        }
    }
    let config = Config::from_layers(&mut layers)?;
    telemetry::start_log(&config.log);
    let metrics = telemetry::start_metrics(SystemClock::new().now())?;
    let process = change(Process::of_this_program(metrics));
    workers()?.block_on(serve(config, process))
}

async fn serve(config: Config, process: Process) -> Result<ExitCode> {
    let mut signals = Signals::take()?;
    let data_dir = config.data_dir.clone();
    let mut node = signals
        .unless_again(Node::start_in(config, process))
        .await?;
    if let Some(welcome) = node.take_welcome() {
        welcome.tell(&data_dir);
    }
    let (api, operations) = (node.api(), node.operations());
    show::say(&format!(
        "Zajil listens: API http://{api}, operations http://{operations}"
    ));
    tokio::select! {
        () = signals.next() => {}
        () = node.drain_asked() => {}
    }
    tracing::info!("asked to stop; another signal ends the process at once");
    signals.unless_again(node.stop()).await?;
    Ok(ExitCode::SUCCESS)
}
