//! `zajil check`: what is in force, and where it comes from.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::EXIT_SETTINGS;
use crate::cli::Settings;
use crate::config::{Config, schema};
use crate::show;

/// Check the configuration.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Print the table of all settings that `docs/CONFIGURATION.md` holds, and check nothing.
    #[arg(long)]
    pub table: bool,
}

/// Prints the configuration in force, and every fault of it.
pub fn run(settings: &Settings, args: &CheckArgs) -> Result<ExitCode> {
    if args.table {
        show::print(&schema::table())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut layers = settings.layers(std::env::vars());
    let checked = Config::from_layers(&mut layers);
    show::print(&layers.show())?;
    match checked {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(faults) => {
            eprintln!("\nzajil: {faults}");
            Ok(ExitCode::from(EXIT_SETTINGS))
        }
    }
}
