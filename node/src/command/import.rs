//! `zajil import`: an empty store, of any kind, from an export.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use zajil_actors::owners::free_shards;
use zajil_model::time::Clock;
use zajil_storage::cql::Contents;
use zajil_storage::embedded::EmbeddedConfig;
use zajil_storage::transfer::{self, Checked, Counts, Feeds, Import, ImportError};
use zajil_storage::{CqlStore, EmbeddedStore, RowWrite, StagedFolder, Store};

use super::export::{tell, told};
use super::workers;
use crate::cli::Settings;
use crate::clock::SystemClock;
use crate::config::{Config, SharedConfig};
use crate::progress::Progress;
use crate::{show, telemetry, wiring};

/// Fill an empty store from an export, under the same ids. Which store is what the settings say, as
/// for `zajil serve`: a data folder that is not there, or a keyspace without a cluster. Nodes that
/// start on it send nothing of what was waiting until `zajil restore release`: the store that it came
/// from may still be at work.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// The export.
    pub file: PathBuf,
}

/// Does it.
///
/// # Errors
/// The settings are wrong, the file is not a good export, or the store is not empty: nothing was
/// written then. Or the store fails.
pub fn run(settings: &Settings, args: &ImportArgs) -> Result<ExitCode> {
    let config = settings.read()?;
    telemetry::start_log(&config.log);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let checked = check(&args.file)?;
    let (counts, into) = match &config.shared {
        None => into_folder(&config, &clock, args, &checked)?,
        Some(shared) => into_database(&config, shared, &clock, args, &checked)?,
    };
    show::say(&format!(
        "imported {} into {into}\nA node that starts on it sends nothing until `zajil restore release`.",
        told(counts)
    ));
    Ok(ExitCode::SUCCESS)
}

fn check(file: &Path) -> Result<Checked> {
    let mut progress = Progress::new(None, "checked");
    let checked = transfer::check(file, &mut tell(&mut progress));
    progress.done();
    Ok(checked?)
}

/// Fills a folder beside the data folder, which gets its name when all of it is there.
fn into_folder(
    config: &Config,
    clock: &Arc<dyn Clock>,
    args: &ImportArgs,
    checked: &Checked,
) -> Result<(Counts, String)> {
    let name = config.data_dir.display().to_string();
    let folder = StagedFolder::begin(&config.data_dir, ".importing")?;
    let told = Arc::new(|reason: &str| tracing::error!(reason, "the store failed"));
    let store = EmbeddedStore::open(EmbeddedConfig {
        min_free: config.min_free,
        log_begins: checked.feed_end,
        ..EmbeddedConfig::new(folder.path(), Arc::clone(clock), told)
    });
    let store = Arc::new(store.context("cannot make the store")?);
    let to = (store, name.clone(), Feeds::One, Vec::new());
    let counts = write(args, checked, to, clock.as_ref())?;
    folder.name()?;
    Ok((counts, name))
}

fn into_database(
    config: &Config,
    shared: &SharedConfig,
    clock: &Arc<dyn Clock>,
    args: &ImportArgs,
    checked: &Checked,
) -> Result<(Counts, String)> {
    let name = format!("keyspace {}", shared.keyspace);
    let store = CqlStore::open(wiring::database(config, shared, clock));
    let store = Arc::new(store.context("cannot open the store")?);
    match workers()?.block_on(store.contents())? {
        Contents::Nothing => {}
        Contents::Unfinished => return Err(ImportError::Unfinished(name).into()),
        Contents::Something => return Err(ImportError::NotEmpty(name).into()),
    }
    let to = (store, name.clone(), Feeds::OfEachShard, free_shards());
    let counts = write(args, checked, to, clock.as_ref())?;
    Ok((counts, name))
}

/// Writes everything, and closes the store.
fn write<S: Store + 'static>(
    args: &ImportArgs,
    checked: &Checked,
    (store, name, feeds, rows): (Arc<S>, String, Feeds, Vec<RowWrite>),
    clock: &dyn Clock,
) -> Result<Counts> {
    let import = Import {
        file: &args.file,
        checked,
        store: store.clone(),
        name,
        feeds,
        rows,
        now: clock.now(),
    };
    let mut progress = Progress::new(None, "imported");
    let counts = workers()?.block_on(async {
        let counts = transfer::import(import, &mut tell(&mut progress)).await?;
        store.close().await.map_err(ImportError::Store)?;
        Ok::<_, ImportError>(counts)
    });
    progress.done();
    Ok(counts?)
}
