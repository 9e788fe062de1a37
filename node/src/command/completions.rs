//! `zajil completions`: what a shell needs to complete the command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;

/// Print the completions of a shell.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// Which shell.
    pub shell: Shell,
}

/// Prints them to standard output.
pub fn run(args: &CompletionsArgs) -> Result<ExitCode> {
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "zajil",
        &mut std::io::stdout(),
    );
    Ok(ExitCode::SUCCESS)
}
