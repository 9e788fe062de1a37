//! The command line: what can be said to `zajil`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::command::{
    account, backup, batch, check, cluster, completions, export, import, instance, key, message,
    restore, serve, simulator, user,
};
use crate::config::{Config, DEFAULT_FILE, Faults, Layers, Source};

/// Delivers WhatsApp messages: keeps what it accepted, sends it at the pace that a number may
/// bear, and tells the truth about what became of it.
///
/// Without a command it runs a node (`zajil serve`) with everything in ./zajil-data.
#[derive(Debug, Parser)]
#[command(name = "zajil", version, max_term_width = 100)]
pub struct Cli {
    /// Where the settings come from.
    #[command(flatten)]
    pub settings: Settings,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `zajil` can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node (what happens without a command, too).
    Serve(serve::ServeArgs),
    /// Run a made-up WhatsApp as a process of its own, with a ledger of every frame.
    Simulator(simulator::SimulatorArgs),
    /// Make accounts: the customers that users, keys and instances belong to.
    Account(account::AccountArgs),
    /// Make users: people who sign in to the Dashboard API.
    User(user::UserArgs),
    /// Make, list, revoke and rotate API keys.
    Key(key::KeyArgs),
    /// Make and steer instances: the WhatsApp numbers that send.
    Instance(instance::InstanceArgs),
    /// Send messages one by one, and see what became of them.
    Message(message::MessageArgs),
    /// Send a message to everybody in a file, and steer such campaigns.
    Batch(batch::BatchArgs),
    /// Write a consistent copy of a running node's data to a new file.
    Backup(backup::BackupArgs),
    /// Fill an empty data folder from a backup, or release what a restore holds back.
    Restore(restore::RestoreArgs),
    /// Write everything that a stopped store holds to a file that any kind of store can take in.
    Export(export::ExportArgs),
    /// Fill an empty store, of any kind, from an export.
    Import(import::ImportArgs),
    /// Check the configuration and print what is in force, and where each value comes from.
    Check(check::CheckArgs),
    /// Make, see and steer the nodes that share one store.
    Cluster(cluster::ClusterArgs),
    /// Print the completions of a shell.
    Completions(completions::CompletionsArgs),
}

/// Where the settings come from.
#[derive(Args, Clone, Debug, Default)]
pub struct Settings {
    /// Configuration file [default: ./zajil.toml, if there is one].
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub config: Option<PathBuf>,
    /// Folder where everything is kept [default: ./zajil-data].
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Settings")]
    pub data_dir: Option<String>,
    /// What the log shows: error, warn, info, debug, trace, or a list of target=level.
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Settings")]
    pub log_level: Option<String>,
    /// Give any setting a value; may be repeated.
    #[arg(
        long,
        global = true,
        value_name = "KEY=VALUE",
        help_heading = "Settings"
    )]
    pub set: Vec<String>,
}

impl Settings {
    /// Every layer laid over the other: defaults, file, environment, flags.
    pub fn layers(&self, environment: impl IntoIterator<Item = (String, String)>) -> Layers {
        let mut layers = Layers::defaults();
        match &self.config {
            Some(file) => layers.file(file),
            None if PathBuf::from(DEFAULT_FILE).exists() => layers.file(DEFAULT_FILE.as_ref()),
            None => {}
        }
        layers.environment(environment);
        for pair in &self.set {
            layers.pair(pair, Source::Flag("--set"));
        }
        if let Some(folder) = &self.data_dir {
            layers.set("node.data_dir", folder.clone(), Source::Flag("--data-dir"));
        }
        if let Some(level) = &self.log_level {
            layers.set("log.level", level.clone(), Source::Flag("--log-level"));
        }
        layers
    }

    /// What is in force, read with the environment of this process.
    ///
    /// # Errors
    /// All that is wrong with the settings, at once.
    pub fn read(&self) -> Result<Config, Faults> {
        Config::from_layers(&mut self.layers(std::env::vars()))
    }
}
