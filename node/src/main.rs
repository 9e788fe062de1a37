//! The binary `zajil`.

use std::process::ExitCode;

use clap::Parser;
use zajil_node::cli::Cli;

fn main() -> ExitCode {
    zajil_node::command::run(Cli::parse())
}
