//! `zajil export`: everything that a stopped store holds, in one file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use zajil_actors::owners::StoreRows;
use zajil_cluster::Member;
use zajil_model::lease::NodeRow;
use zajil_model::time::Clock;
use zajil_storage::cql::Missing;
use zajil_storage::embedded::{self, EmbeddedConfig};
use zajil_storage::transfer::{self, Counts, Source};
use zajil_storage::{CqlConfig, CqlStore, EmbeddedStore};

use super::client;
use crate::cli::Settings;
use crate::clock::SystemClock;
use crate::config::{Config, SharedConfig};
use crate::progress::Progress;
use crate::{show, telemetry, wiring};

/// Progress is told after so many more things.
const TOLD_EVERY: u64 = 100_000;

/// Write everything that a store holds to a new file, under the same ids: `zajil import` fills an
/// empty store from it, of the same kind or of another. Which store is what the settings say, as for
/// `zajil serve`. Nodes that use it have to be stopped.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The file; it must not exist yet. It holds secrets, and is its owner's alone.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Does it.
///
/// # Errors
/// The settings are wrong, a node runs, or a store or the file fails. Then there is no file.
pub fn run(settings: &Settings, args: &ExportArgs) -> Result<ExitCode> {
    let config = settings.read()?;
    telemetry::start_log(&config.log);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let counts = match &config.shared {
        None => from_folder(&config, clock, args)?,
        Some(shared) => from_database(&config, shared, &clock, args)?,
    };
    show::say(&format!(
        "exported {} to {}",
        told(counts),
        args.out.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// What was carried, for people.
pub(super) fn told(counts: Counts) -> String {
    let Counts {
        rows,
        messages,
        changes,
        ..
    } = counts;
    format!("{messages} messages, {rows} rows and {changes} changes")
}

/// Tells of progress now and then.
pub(super) fn tell(progress: &mut Progress) -> impl FnMut(Counts) + Send {
    let mut next = TOLD_EVERY;
    move |counts| {
        let done = counts.rows + counts.messages + counts.changes;
        if done >= next {
            progress.at(done, "");
            next = done + TOLD_EVERY;
        }
    }
}

fn from_folder(config: &Config, clock: Arc<dyn Clock>, args: &ExportArgs) -> Result<Counts> {
    let folder = &config.data_dir;
    let shown = folder.display();
    ensure!(embedded::is_there(folder), "there is no store in {shown}");
    let now = clock.now();
    let told = Arc::new(|reason: &str| tracing::error!(reason, "the store failed"));
    let store = EmbeddedStore::open(EmbeddedConfig {
        min_free: config.min_free,
        ..EmbeddedConfig::new(folder, clock, told)
    });
    let store = store.context("cannot open the store; stop the node that uses it")?;
    write(&store.source()?, args, now)
}

fn from_database(
    config: &Config,
    shared: &SharedConfig,
    clock: &Arc<dyn Clock>,
    args: &ExportArgs,
) -> Result<Counts> {
    let database = CqlConfig {
        missing: Missing::Refused,
        ..wiring::database(config, shared, clock)
    };
    let store = Arc::new(CqlStore::open(database).context("cannot open the store")?);
    let rows = StoreRows::new(store.clone(), Arc::clone(clock));
    let leases = waiting(stopped(&rows))?;
    let source = waiting(async { Ok(store.source().await?) })?;
    let counts = write(&source, args, clock.now())?;
    let after = waiting(async { Ok(rows.leases().await?) })?;
    if after != leases {
        let file = args.out.display();
        bail!("a node started meanwhile, and {file} may lack something: do not use it");
    }
    Ok(counts)
}

fn waiting<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut done = None;
    client(async {
        done = Some(work.await?);
        Ok(())
    })?;
    done.context("the work was cut")
}

/// The leases of nodes that are gone; an error that names one which is not.
async fn stopped(rows: &StoreRows) -> Result<Vec<(Member, NodeRow)>> {
    let leases = rows.leases().await?;
    if let Some((member, _)) = leases.first() {
        let node = member.node.0;
        eprintln!("node {node} did not give its lease back: seeing whether it renews it (8 s)");
    }
    match rows.living(&leases).await? {
        Some(Member { node, link, .. }) => bail!(
            "node {} (link {link}) is alive: stop every node first, by zajil cluster drain",
            node.0
        ),
        None => Ok(leases),
    }
}

fn write(source: &Source, args: &ExportArgs, now: zajil_model::time::Timestamp) -> Result<Counts> {
    let mut progress = Progress::new(None, "exported");
    let counts = transfer::export(source, &args.out, now, &mut tell(&mut progress));
    progress.done();
    Ok(counts?)
}
